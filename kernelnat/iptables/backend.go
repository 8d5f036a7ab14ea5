// Package iptables is a kernelnat.Backend over the iptables tools. It writes the
// rules that kube-proxy writes, chain for chain, so that what one has left the
// other takes over, and what is written about kube-proxy's rules holds for these.
//
// It writes only chains whose names are its own and, at the head of the built-in
// chains, the jumps to them; everything else in the tables stays. It uses the
// variant, nft or legacy, that the host uses. It serves ClusterIPs only.
//
// It needs CAP_NET_ADMIN and the tools iptables, iptables-save and
// iptables-restore, and the same for ip6tables if there are IPv6 Services. Before
// version 1.6.2 they do not wait for the xtables lock and have no --random-fully.
//
// Start with render (a Service's rules), then sync and changeScript (what is sent
// to iptables-restore, and in which order).
package iptables

import (
	"context"
	"errors"
	"fmt"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// DefaultMasqueradeBit is kube-proxy's default.
const DefaultMasqueradeBit = 14

// Options are the settings of a Backend.
type Options struct {
	// MasqueradeBit is the bit, 0 to 31, of the mark of packets that are to be
	// masqueraded.
	MasqueradeBit uint8
}

// Backend implements kernelnat.Backend.
type Backend struct {
	options Options
	variant variant // "" before the first use
	tools   map[cluster.Family]*tools
}

var _ kernelnat.Backend = (*Backend)(nil)

// New returns a Backend. It runs nothing: that iptables is missing or may not be
// used is an error of the first Sync.
func New(options Options) (*Backend, error) {
	if options.MasqueradeBit > 31 {
		return nil, fmt.Errorf("masquerade bit %d is outside 0-31", options.MasqueradeBit)
	}
	return &Backend{options: options, tools: make(map[cluster.Family]*tools)}, nil
}

// Sync implements kernelnat.Backend. Chains that are right already are not
// written again. A host without a working ip6tables is an error only if there
// are plans for IPv6.
func (b *Backend) Sync(ctx context.Context, services []plan.Service) error {
	var errs []error
	for _, f := range families {
		if err := b.sync(ctx, f, services); err != nil {
			errs = append(errs, fmt.Errorf("write %s rules: %w", f, err))
		}
	}
	return errors.Join(errs...)
}

func (b *Backend) sync(ctx context.Context, f cluster.Family, services []plan.Service) error {
	t, have, err := b.read(ctx, f)
	if err != nil {
		if f == cluster.IPv6 && !needed(f, services) {
			return nil
		}
		return err
	}
	s := session{have: have, chains: t.variant.chains(), send: func(input []byte) error { return t.write(ctx, input) }}
	return s.sync(services, dialect{family: f, bit: b.options.MasqueradeBit, randomFully: t.version.hasRandomFully()})
}

func (b *Backend) read(ctx context.Context, f cluster.Family) (*tools, state, error) {
	if f == cluster.IPv6 && !hasIPv6() {
		return nil, nil, errors.New("the kernel has no IPv6: enable it, or use IPv4 only")
	}
	t, err := b.toolsFor(ctx, f)
	if err != nil {
		return nil, nil, err
	}
	p, err := t.read(ctx)
	if err != nil {
		return nil, nil, err
	}
	return t, p.state, p.err
}

func needed(f cluster.Family, services []plan.Service) bool {
	for _, s := range services {
		for i := range s.Ports {
			if s.Ports[i].Family() == f {
				return true
			}
		}
	}
	return false
}

// Apply implements kernelnat.Backend. It runs iptables-restore once for each
// family that changes.
func (b *Backend) Apply(ctx context.Context, changes []kernelnat.Change) error {
	var errs []error
	for _, f := range families {
		if err := b.apply(ctx, f, changes); err != nil {
			errs = append(errs, fmt.Errorf("change %s rules: %w", f, err))
		}
	}
	return errors.Join(errs...)
}

func (b *Backend) apply(ctx context.Context, f cluster.Family, changes []kernelnat.Change) error {
	input := changeScript(changes, f, b.variant.chains())
	if len(input) == 0 {
		return nil
	}
	t, err := b.toolsFor(ctx, f)
	if err != nil {
		return err
	}
	return t.write(ctx, input)
}

// toolsFor returns the tools for a family. The variant is decided once: to change
// over later would leave rules behind in the other.
func (b *Backend) toolsFor(ctx context.Context, f cluster.Family) (*tools, error) {
	if t := b.tools[f]; t != nil {
		return t, nil
	}
	if b.variant == "" {
		v, err := detect(ctx)
		if err != nil {
			return nil, err
		}
		b.variant = v
	}
	t, err := findTools(ctx, b.variant, f)
	if err != nil {
		return nil, err
	}
	b.tools[f] = t
	return t, nil
}
