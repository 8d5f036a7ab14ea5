package nftables

import (
	"context"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/google/nftables"
)

// Chooser balances connections to pools by itself, at virtual servers. Each pool of its has one
// slot, which is where its virtual server is: packets are translated to that, and what is there
// translates them to an endpoint. All its methods are called in those of a Backend.
type Chooser interface {
	// Range is where virtual servers are. Nobody else is at an address in it, and what is to it
	// and not translated is refused.
	Range() netip.Prefix
	// Server returns where the virtual server is for a pool's endpoints, all or those on this
	// node, and false if they need none. Before is what the kernel leads packets of the pool to,
	// another virtual server, an endpoint or nothing. It writes nothing.
	Server(service cluster.ServiceName, p *plan.Pool, local bool, before netip.AddrPort) (at netip.AddrPort, chosen bool)
	// Ready is called before each write. It has all virtual servers be there that Server has
	// returned, with their endpoints.
	Ready(ctx context.Context) error
	// Keep says, during Sync, that packets of a Service that is not known are led to a virtual
	// server, and returns its endpoints.
	Keep(at netip.AddrPort, protocol cluster.Protocol) []netip.AddrPort
}

// NewFor is New with a Chooser for each IP family.
func NewFor(settings netfilter.Settings, choosers map[cluster.Family]Chooser) (map[cluster.Family]*Backend, error) {
	both, err := newBackends(settings)
	for family, c := range choosers {
		if err == nil {
			both[family].chooser = c
		}
	}
	return both, err
}

func rangeOf(c Chooser) netip.Prefix {
	if c == nil {
		return netip.Prefix{}
	}
	return c.Range()
}

// chosenBy has a state lead packets to virtual servers.
func (s *state) chosenBy(c Chooser) *state {
	s.chooser, s.virtual = c, rangeOf(c)
	return s
}

// hookVirtual comes after IPVS (98 and 99), and sees what IPVS has not taken.
var hookVirtual = hook{"filter", *nftables.ChainHookInput, 101}

// choose fills a pool with virtual servers, and reports false if it is not to have any.
func (s *state) choose(name cluster.ServiceName, next, old *pool, p *plan.Pool) (chosen bool) {
	for _, local := range []bool{false, true} {
		slots, before := next.slotsFor(local), netip.AddrPort{}
		if held := *old.slotsFor(local); len(held) > 0 {
			before = held[0]
		}
		at, is := s.chooser.Server(name, p, local, before)
		if !is {
			continue
		}
		chosen, *slots = true, []netip.AddrPort{at}
		if next.virtual == nil {
			next.virtual = new(virtual)
		}
		v := next.virtual
		if endpoints := p.For(local); v.behind == nil {
			v.behind = slices.Clip(endpoints)
		} else {
			v.behind = append(v.behind, endpoints...)
		}
		if s.virtual.Addr().Is4() {
			*v.direct(local) = slotsOf(old.direct(local), p, local)
		}
	}
	return chosen
}

// slotsFor are those of all endpoints, or of those on this node.
func (p *pool) slotsFor(local bool) *[]netip.AddrPort {
	if local {
		return &p.local
	}
	return &p.cluster
}

func (v *virtual) direct(local bool) *[]netip.AddrPort {
	if local {
		return &v.local
	}
	return &v.cluster
}

// direct are the slots of endpoints, of a pool with virtual servers.
func (p *pool) direct(local bool) []netip.AddrPort {
	if p.virtual == nil {
		return nil
	}
	return *p.virtual.direct(local)
}

// behind are the endpoints behind virtual servers.
func (p *pool) behind() []netip.AddrPort {
	if p.virtual == nil {
		return nil
	}
	return p.virtual.behind
}

// ofLoopback reports whether the node itself, which alone asks at 127.0.0.0/8, gets endpoints on
// this node only.
func ofLoopback(f *plan.Frontend) (local bool) { return f.Local && !hasShortcut(f) }

// hasLoopback reports whether a frontend may have slots at 127.0.0.0/8.
func (s *session) hasLoopback(f *plan.Frontend) bool {
	return s.chooser != nil && f.Kind == plan.NodePort && s.family == cluster.IPv4
}

// writeBehind keeps the endpoints in hairpin that are behind virtual servers: first those that
// come, so that nothing is written for those that stay.
func (s *state) writeBehind(w writer, old, next *service) {
	for _, p := range next.allPools() {
		for _, e := range p.behind() {
			s.refer(w, e.Addr(), 1)
		}
	}
	for _, p := range old.allPools() {
		for _, e := range p.behind() {
			s.refer(w, e.Addr(), -1)
		}
	}
}
