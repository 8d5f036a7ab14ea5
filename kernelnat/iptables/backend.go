// Package iptables is a kernelnat.Backend over the iptables tools. It writes the
// rules that kube-proxy writes, chain for chain, so that what one has left the
// other takes over, and what is written about kube-proxy's rules holds for these.
//
// It serves all that is in a plan: ClusterIPs, external IPs, the addresses of load
// balancers with their source ranges, NodePorts, traffic policies and client
// affinity. It lets health checks in at their ports, and refuses what has no endpoint
// or is in a range of ClusterIPs and nobody's.
//
// It writes only chains whose names are its own and, at the head of the built-in
// chains, the jumps to them. To KUBE-FIREWALL, which the kubelet may have too, it adds
// one rule, and sets route_localnet, where NodePorts are at 127.0.0.1. Everything else
// in the tables stays. It uses the variant, nft or legacy, that the host uses, and
// removes what is its own in the other and kube-proxy's own tables of nf_tables.
//
// It needs CAP_NET_ADMIN, the tools iptables, iptables-save and iptables-restore, the
// same of ip6tables for IPv6, and /proc/sys/net writable for NodePorts at 127.0.0.1.
// Before version 1.6.2 the tools do not wait for the xtables lock and have no
// --random-fully. Where the kernel lacks a match that few Services need, such as recent
// for client affinity, only those go without their new rules.
//
// Start with render (a Service's rules), then sync and changeScripts (what is sent
// to iptables-restore, and in which order), and large for what is sent in parts.
package iptables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/conntrack"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// Backend implements kernelnat.Backend for one IP family.
type Backend struct {
	conntrack.Flows
	settings netfilter.Settings
	tools    *tools // nil before the first use
	alone    bool   // nothing else translates: not the other variant, nor kube-proxy's table

	arrangement *arrangement // as in the kernel, since the last Sync
	// What the kernel may hold of Services whose Work is not done, and the plans of
	// those that Sync has left for a Work.
	held map[cluster.ServiceName]*held
	left []plan.Service

	// For Untouched; nil where it is not known.
	ledger  *netfilter.Ledger
	foreign *uint32 // nft: the writes of others before the last Sync
	tables  []byte  // legacy: the tables after the last write, if nobody came before it
	// The addresses that NodePorts are at, which change with the node's.
	node      plan.Node
	nodePorts []netip.Addr
}

var _ kernelnat.Backend = (*Backend)(nil)

// New returns the Backends of the IP families. It runs nothing: that iptables is
// missing or may not be used is an error of the first Sync.
func New(settings netfilter.Settings) (map[cluster.Family]kernelnat.Backend, error) {
	if settings.MasqueradeBit > 31 {
		return nil, fmt.Errorf("masquerade bit %d is outside 0-31", settings.MasqueradeBit)
	}
	both, shared := make(map[cluster.Family]kernelnat.Backend), new(netfilter.Ledger)
	for _, family := range cluster.Families {
		both[family] = &Backend{Flows: conntrack.Flows{Family: family}, settings: settings, ledger: shared}
	}
	return both, nil
}

// Sync implements kernelnat.Backend. Chains that are right already are not
// written again. A host without IPv6 or ip6tables is an error only if there are
// plans for IPv6. The first Sync of a complete state also removes what is
// ours in the variant that the host does not use, where it could win.
func (b *Backend) Sync(ctx context.Context, state kernelnat.State) ([]string, error) {
	written, err := b.sync(ctx, state)
	if err != nil {
		return written, fmt.Errorf("write %s rules: %w", b.Family, err)
	}
	return written, nil
}

func (b *Backend) sync(ctx context.Context, state kernelnat.State) ([]string, error) {
	b.foreign, b.tables, b.nodePorts = nil, nil, nil
	foreign, errForeign := b.ledger.Foreign()
	have, err := b.read(ctx)
	if err != nil {
		b.tools = nil
		needed := slices.ContainsFunc(state.Services, func(s plan.Service) bool { return len(s.Frontends) > 0 })
		if b.Family == cluster.IPv6 && !needed && Absent(err) {
			return nil, nil
		}
		return nil, err
	}
	d, err := b.dialect(state)
	if err != nil {
		return nil, err
	}
	state.Services = b.tools.variant.able(state.Services)
	s := b.session(ctx, have)
	b.arrangement, b.held, b.left = nil, nil, nil
	a, err := s.sync(ctx, state, d, unknown(state))
	var rejected error
	if err != nil {
		if s, a, rejected = b.quarantine(ctx, state, d, err); !errors.Is(rejected, kernelnat.ErrPartial) {
			return s.written, rejected
		}
	}
	if b.arrangement, b.held = a, s.left; len(s.left) > 0 {
		b.left = slices.DeleteFunc(slices.Clone(state.Services), func(p plan.Service) bool { return s.left[p.Name] == nil })
	}
	removed, err := b.leaveOther(ctx, state)
	if s.written = append(s.written, removed...); err != nil {
		return s.written, err
	}
	if errForeign == nil {
		b.foreign = &foreign
	}
	if b.tools.variant == legacy {
		b.tables, _ = legacyTables(b.Family)
	}
	b.nodePorts = d.nodePorts
	return s.written, rejected
}

// unknown returns a function that says which Services keep what the kernel holds for
// them, since nothing is known of them. It is nil if there are none.
func unknown(state kernelnat.State) func(service string) bool {
	if !state.Incomplete {
		return nil
	}
	known := make(map[string]bool, len(state.Known))
	for name, is := range state.Known {
		known[name.String()] = is
	}
	return func(service string) bool { return !known[service] }
}

// dialect finds out what the rules depend on besides the plans, and has the kernel take packets
// from 127.0.0.1 that leave loopback, where NodePorts are there. Where that cannot be had, such
// NodePorts are refused.
func (b *Backend) dialect(state kernelnat.State) (dialect, error) {
	b.node = state.Node
	d, err := dialectOf(b.Family, b.settings, state)
	d.randomFully = b.tools.version.hasRandomFully()
	// Without it the kernel takes those packets for martians.
	d.localhost = d.localhost && err == nil && netfilter.SetRouteLocalnet(true) == nil
	return d, err
}

// dialectOf is that for tools of iptables 1.6.2 or newer, if NodePorts may be at 127.0.0.1.
func dialectOf(family cluster.Family, settings netfilter.Settings, state kernelnat.State) (dialect, error) {
	d := dialect{family: family, bit: settings.MasqueradeBit, randomFully: true, dropInvalid: !netfilter.ConntrackLiberal(), ranges: state.Ranges}
	var err error
	d.nodePorts, err = settings.NodePorts.Addresses(family, state.Node)
	d.localhost = family == cluster.IPv4 && d.atLoopback()
	return d, err
}

// session returns a session that writes to the kernel, which holds what is given.
func (b *Backend) session(ctx context.Context, have state) session {
	return session{have: have, chains: b.tools.variant.chains(), send: func(input []byte) error { return b.write(ctx, b.tools, input) }}
}

// write runs iptables-restore.
func (b *Backend) write(ctx context.Context, t *tools, input []byte) error {
	return b.ledger.During(func() error { return t.write(ctx, input) }, bytes.Count(input, []byte("\nCOMMIT\n")))
}

// leaveOther removes what translates the same packets elsewhere, once: what is ours
// in the variant that the host does not use, and the table of kube-proxy's other
// mode.
func (b *Backend) leaveOther(ctx context.Context, state kernelnat.State) (removed []string, err error) {
	if b.alone || state.Incomplete {
		return nil, nil
	}
	other := b.tools.variant.other()
	if _, err := b.cleanup(ctx, other); err != nil && !Absent(err) {
		return nil, fmt.Errorf("remove what is left in iptables-%s, which this host does not use: %w", other, err)
	}
	found, err := netfilter.RemoveProxyTable(b.Family, b.ledger)
	if err != nil {
		return nil, err
	}
	if found {
		removed = append(removed, "no nf_tables table "+netfilter.ProxyTable)
	}
	b.alone = true
	return removed, nil
}

// Close implements kernelnat.Backend. Nothing is open between calls.
func (b *Backend) Close() error {
	b.Flows.Close()
	return nil
}

// Untouched implements kernelnat.Backend. Over nf_tables the kernel counts writes;
// legacy tables are looked at for their size. New addresses of the node count as
// touched if NodePorts are to be at them.
func (b *Backend) Untouched() bool {
	now, err := b.settings.NodePorts.Addresses(b.Family, b.node)
	if err != nil || !slices.Equal(now, b.nodePorts) {
		return false
	}
	switch {
	case b.tools == nil:
		return false
	case b.tools.variant == nft:
		foreign, err := b.ledger.Foreign()
		return err == nil && b.foreign != nil && *b.foreign == foreign
	}
	tables, err := legacyTables(b.Family)
	return err == nil && b.tables != nil && bytes.Equal(tables, b.tables)
}

// Tables implements kernelnat.Backend.
func (b *Backend) Tables() []string {
	if b.tools == nil || b.tools.variant != nft {
		return nil
	}
	return []string{tableNAT, tableFilter, tableMangle}
}

// Connections implements kernelnat.Backend. The counts of rules go with the rules, which are
// written anew with most changes.
func (b *Backend) Connections() ([]kernelnat.Connections, error) { return nil, nil }

// Apply implements kernelnat.Backend. It runs iptables-restore once, or several times
// where there are many changes.
//
// Over nf_tables it takes mostly the time that the kernel charges for one rule. When a
// rule with a target comes to a table, the kernel walks through all that the table's
// built-in chains lead to, once for each of them (nft_table_validate): about 36 ms at
// 1,000 Services of 10 endpoints, and 190 ms at 5,000. "iptables -A" pays the same. No
// layout of rules avoids it, since choosing an endpoint needs a jump. Writing over netlink
// would save the 5 ms that iptables-restore takes to start. "make bench-nat" measures
// one such rule beside the change of an endpoint.
func (b *Backend) Apply(ctx context.Context, changes []kernelnat.Change) error {
	if b.arrangement == nil {
		return fmt.Errorf("change %s rules: nothing could be written at the start", b.Family)
	}
	for input := range changeScripts(b.tools.variant.ableChanges(changes), b.arrangement, b.tools.variant.chains()) {
		if err := b.send(ctx, input); err != nil {
			return fmt.Errorf("change %s rules: %w", b.Family, err)
		}
	}
	return nil
}

// send writes to tables of which it is known what they hold.
func (b *Backend) send(ctx context.Context, input []byte) error {
	untouched := b.tools.variant == nft || b.Untouched()
	if err := b.write(ctx, b.tools, input); err != nil {
		return err
	}
	if b.tables = nil; untouched && b.tools.variant == legacy {
		b.tables, _ = legacyTables(b.Family)
	}
	return nil
}

// read returns what the kernel holds. It decides on the tools once: to change
// over to the other variant later would leave rules behind in the first.
func (b *Backend) read(ctx context.Context) (state, error) {
	if b.Family == cluster.IPv6 && !hasIPv6() {
		return nil, fmt.Errorf("IPv6: %w: enable it, or use IPv4 only", errUnsupported)
	}
	if b.tools == nil {
		v, err := detect(ctx)
		if err != nil {
			return nil, err
		}
		if b.tools, err = findTools(ctx, v, b.Family); err != nil {
			return nil, err
		}
	}
	p, err := b.tools.read(ctx)
	if err != nil {
		return nil, err
	}
	return p.state, p.err
}
