// Package iptables is a kernelnat.Backend over the iptables tools. It writes the
// rules that kube-proxy writes, chain for chain, so that what one has left the
// other takes over, and what is written about kube-proxy's rules holds for these.
//
// It writes only chains whose names are its own and, at the head of the built-in
// chains, the jumps to them; everything else in the tables stays. It uses the
// variant, nft or legacy, that the host uses. It serves ClusterIPs only.
//
// It needs CAP_NET_ADMIN and the tools iptables, iptables-save and
// iptables-restore, and the same of ip6tables for IPv6. Before
// version 1.6.2 they do not wait for the xtables lock and have no --random-fully.
//
// Start with render (a Service's rules), then sync and changeScript (what is sent
// to iptables-restore, and in which order).
package iptables

import (
	"context"
	"errors"
	"fmt"
	"slices"

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

// Backend implements kernelnat.Backend for one IP family.
type Backend struct {
	family  cluster.Family
	options Options
	tools   *tools // nil before the first use
	alone   bool   // nothing of ours is in the other variant
}

var _ kernelnat.Backend = (*Backend)(nil)

// New returns a Backend. It runs nothing: that iptables is missing or may not be
// used is an error of the first Sync.
func New(family cluster.Family, options Options) (*Backend, error) {
	if options.MasqueradeBit > 31 {
		return nil, fmt.Errorf("masquerade bit %d is outside 0-31", options.MasqueradeBit)
	}
	return &Backend{family: family, options: options}, nil
}

// Sync implements kernelnat.Backend. Chains that are right already are not
// written again. A host without a working ip6tables is an error only if there
// are plans for IPv6. The first Sync of a complete state also removes what is
// ours in the variant that the host does not use, where it could win.
func (b *Backend) Sync(ctx context.Context, state kernelnat.State) error {
	err := b.sync(ctx, state)
	if err != nil {
		return fmt.Errorf("write %s rules: %w", b.family, err)
	}
	return nil
}

func (b *Backend) sync(ctx context.Context, state kernelnat.State) error {
	have, err := b.read(ctx)
	if err != nil {
		b.tools = nil
		needed := slices.ContainsFunc(state.Services, func(s plan.Service) bool { return len(s.Ports) > 0 })
		if b.family == cluster.IPv6 && !needed {
			return nil
		}
		return err
	}
	s := b.tools.session(ctx, have)
	if err := s.sync(state, dialect{family: b.family, bit: b.options.MasqueradeBit, randomFully: b.tools.version.hasRandomFully()}); err != nil {
		return err
	}
	if b.alone || state.Incomplete {
		return nil
	}
	if err := cleanup(ctx, b.tools.variant.other(), b.family); err != nil && !absent(err) {
		return fmt.Errorf("remove what is left in iptables-%s, which this host does not use: %w", b.tools.variant.other(), err)
	}
	b.alone = true
	return nil
}

// Apply implements kernelnat.Backend. It runs iptables-restore once.
func (b *Backend) Apply(ctx context.Context, changes []kernelnat.Change) error {
	if b.tools == nil {
		return fmt.Errorf("change %s rules: nothing could be written at the start", b.family)
	}
	input := changeScript(changes, b.tools.variant.chains())
	if len(input) == 0 {
		return nil
	}
	if err := b.tools.write(ctx, input); err != nil {
		return fmt.Errorf("change %s rules: %w", b.family, err)
	}
	return nil
}

// read returns what the kernel holds. It decides on the tools once: to change
// over to the other variant later would leave rules behind in the first.
func (b *Backend) read(ctx context.Context) (state, error) {
	if b.family == cluster.IPv6 && !hasIPv6() {
		return nil, errors.New("the kernel has no IPv6: enable it, or use IPv4 only")
	}
	if b.tools == nil {
		v, err := detect(ctx)
		if err != nil {
			return nil, err
		}
		if b.tools, err = findTools(ctx, v, b.family); err != nil {
			return nil, err
		}
	}
	p, err := b.tools.read(ctx)
	if err != nil {
		return nil, err
	}
	return p.state, p.err
}
