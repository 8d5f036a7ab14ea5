// Package nftables is a kernelnat.Backend over nf_tables itself, by netlink. It writes one
// table of its own for each IP family, and nothing else.
//
// The chains and rules do not depend on the number of Services. Frontends and endpoints are
// elements of maps, and a packet to a Service goes by them:
//
//	frontends: address, protocol, port → class            how it is treated, and how many slots there are
//	classes:   class → chain                              there is a chain for each class
//	endpoints: address, protocol, port, slot → endpoint   the chain has chosen the slot
//
// Between two lookups the class or the slot is the packet's priority (skb->priority), which
// nothing reads before the packet leaves the machine, and which is taken off again. nft has no
// other place for it, and all that is written can be read, and written, by nft.
//
// An endpoint that comes or goes is one or two elements for each frontend, and one more since
// there is another number of slots. No verdict is in a map with an element for each frontend:
// whenever one comes to a table, the kernel looks at all elements of all such maps
// (nft_table_validate).
//
// A packet's lookups may see a commit in between. A class that is no longer right leads to a
// slot that is gone, for which the first slot is taken. What nobody translates, though it is
// to a frontend, is refused after NAT. So a change of a Service is right at every moment.
//
// Start with class.go and chains.go (what packets go through), service.go and change.go (the
// elements of a Service), then sync.go.
//
// It needs CAP_NET_ADMIN, and a kernel of 5.10 or later.
package nftables

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/conntrack"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// Bounds are what one Service may ask for. Endpoints are elements, which cost nobody else's
// change anything; those of a port with client affinity have numbers, ofOnePool at most, which
// is to suffice while all of them are replaced. A million slots are some 130 MB of the kernel's
// memory. Ranges of clients come in one transaction, and the kernel's time grows with their
// square: 4,000 take 0.4 seconds, and 32,000 take 20.
var Bounds = plan.Bounds{Endpoints: 20_000, Targets: 400_000, Sticky: 2000, Slots: 1 << 20, Sources: 4000}

// Backend implements kernelnat.Backend for one IP family.
type Backend struct {
	conntrack.Flows
	language
	settings netfilter.Settings
	schema   *schema
	chooser  Chooser // nil: there is none

	socket *socket // nil before the first use
	owned  bool    // nobody else can write to the table
	// What the kernel holds, and for what; nil if that is not known.
	state   *state
	dialect dialect

	ledger  *netfilter.Ledger
	foreign *uint32 // the writes of others before the last Sync; nil: not known, or not needed
	node    plan.Node
	counted atomic.Int64 // how many counters there were when somebody last asked
}

var _ kernelnat.Backend = (*Backend)(nil)

// New returns the Backends of the IP families. It opens nothing: that nf_tables is missing
// or may not be used is an error of the first Sync.
func New(settings netfilter.Settings) (map[cluster.Family]kernelnat.Backend, error) {
	both, err := newBackends(settings)
	if err != nil {
		return nil, err
	}
	out := make(map[cluster.Family]kernelnat.Backend)
	for family, b := range both {
		out[family] = b
	}
	return out, nil
}

func newBackends(settings netfilter.Settings) (map[cluster.Family]*Backend, error) {
	if settings.MasqueradeBit > 31 {
		return nil, fmt.Errorf("masquerade bit %d is outside 0-31", settings.MasqueradeBit)
	}
	both, shared := make(map[cluster.Family]*Backend), new(netfilter.Ledger)
	for _, family := range cluster.Families {
		both[family] = &Backend{Flows: conntrack.Flows{Family: family}, language: language{family}, settings: settings, schema: newSchema(family, settings.CountEndpoints), ledger: shared}
	}
	return both, nil
}

// open opens the socket.
func (b *Backend) open() (err error) {
	if b.socket == nil {
		b.socket, err = dial()
	}
	return err
}

// Close implements kernelnat.Backend.
func (b *Backend) Close() error {
	b.Flows.Close()
	if b.socket == nil {
		return nil
	}
	err := b.socket.Close()
	b.socket, b.state, b.owned = nil, nil, false
	return err
}

// commit makes a transaction, to virtual servers that are there. One to an owned table counts too, since the other family's may not
// be owned.
func (b *Backend) commit(ctx context.Context, batch *batch) error {
	if batch.empty() {
		return nil
	}
	if b.chooser != nil {
		if err := b.chooser.Ready(ctx); err != nil {
			return err
		}
	}
	transaction := batch.transaction()
	return b.ledger.During(func() error { return b.socket.commit(ctx, transaction) }, 1)
}

// countForeign notes the writes of others by now, unless the table is ours alone.
func (b *Backend) countForeign() {
	b.foreign = nil
	if b.owned {
		return
	}
	if n, err := b.ledger.Foreign(); err == nil {
		b.foreign = &n
	}
}

// Untouched implements kernelnat.Backend. Nobody else can write to a table that is owned;
// otherwise the kernel counts writes. New addresses of the node count as touched if NodePorts
// are to be at them.
func (b *Backend) Untouched() bool {
	now, err := b.settings.NodePorts.Addresses(b.family, b.node)
	if err != nil || b.state == nil || !slices.Equal(now, b.dialect.nodePorts) {
		return false
	}
	if b.owned {
		return true
	}
	foreign, err := b.ledger.Foreign()
	return err == nil && b.foreign != nil && *b.foreign == foreign
}

// Tables implements kernelnat.Backend.
func (b *Backend) Tables() []string {
	if b.owned {
		return nil
	}
	return []string{tableName}
}

// newDialect finds out what the rules depend on besides the plans, and has the kernel take
// packets from 127.0.0.1 that leave loopback, where NodePorts are there. Where it cannot be
// had, such NodePorts are refused.
func (b *Backend) newDialect(state kernelnat.State) (dialect, error) {
	b.node = state.Node
	d, err := dialectOf(b.language, b.settings, state)
	d.localhost = d.localhost && err == nil && netfilter.SetRouteLocalnet(true) == nil
	d.virtual = rangeOf(b.chooser)
	return d, err
}

func dialectOf(l language, settings netfilter.Settings, state kernelnat.State) (dialect, error) {
	d := dialect{language: l, bit: settings.MasqueradeBit, dropInvalid: !netfilter.ConntrackLiberal(), ranges: state.Ranges}
	var err error
	d.nodePorts, err = settings.NodePorts.Addresses(l.family, state.Node)
	d.localhost = l.family == cluster.IPv4 && slices.ContainsFunc(d.nodePorts, func(a netip.Addr) bool { return a.IsUnspecified() || a.IsLoopback() })
	return d, err
}
