package plan

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
)

// What one Service may ask of a node, in one IP family. Whoever may create a
// Service may ask for more than a kernel holds: 4,000 external addresses and 250
// ports, in an object of 71 kB, are a million frontends. What is beyond the bounds is
// left out and told, and the rest is served.
const (
	// MaxFrontends bounds the addresses and ports that packets of one Service are
	// sent to, each counted with the source ranges that are looked at for it.
	MaxFrontends = 32_768
	// maxPairs bounds how many ports of how many endpoints are looked at.
	maxPairs = 4_000_000
)

// Bounds are what one Service may ask of a backend, besides that. The zero value is
// DefaultBounds.
type Bounds struct {
	// Endpoints bounds those of one port.
	Endpoints int
	// Targets bounds the endpoints of all ports, each counted for every frontend that leads
	// to it.
	Targets int
	// Sticky bounds the endpoints of all ports where clients are to keep theirs.
	Sticky int
	// Slots bounds the slots (see Slots) of all ports under SourceHash or with weights, each
	// counted for every frontend that leads to it; 0: there is no bound.
	Slots int
	// Sources bounds the ranges of clients that load balancer addresses are for, each counted
	// for every frontend that is for it; 0: there is no bound but MaxFrontends.
	Sources int
}

// DefaultBounds are those of iptables. The kernel walks through all rules, three for each
// target, whenever anybody's rule changes: 200,000 take about a sixth of a second. The
// endpoints of a port are rules of one chain that is written whole: iptables-nft-restore
// takes half a second for 5,000 and more than two for 10,000. With client affinity each has a
// list of clients, and legacy iptables looks through all lists for each of its rules whenever
// anybody's change: 12,000 take 8 seconds.
var DefaultBounds = Bounds{Endpoints: 5000, Targets: 200_000 / 3, Sticky: 2000}

// excess gathers, in words, what a Service asks for beyond the bounds.
type excess []string

func (e *excess) add(format string, args ...any) { *e = append(*e, fmt.Sprintf(format, args...)) }

func (e excess) String() string { return strings.Join(e, "; ") }

// frontends is how many a port has besides its ClusterIP and NodePort, and what looking
// at source ranges adds.
func (o *outside) frontends() int { return len(o.ips) + len(o.loadBalancers)*(1+len(o.sources)) }

func hasNodePort(ports []cluster.Port) bool {
	return slices.ContainsFunc(ports, func(p cluster.Port) bool { return p.NodePort != 0 })
}

// boundPorts leaves the addresses outside the cluster out where they and the ports
// are too many together, and then the last ports.
func (b Bounds) boundPorts(ports []cluster.Port, out *outside, over *excess) []cluster.Port {
	if n := len(ports) * len(out.loadBalancers) * len(out.sources); b.Sources > 0 && n > b.Sources {
		over.add("%d ports at %d load balancer addresses with %d source ranges are %d ranges, and a Service may have %d: none of these addresses is served; "+
			"join ranges, or spread the ports over several Services", len(ports), len(out.loadBalancers), len(out.sources), n, b.Sources)
		out.loadBalancers, out.sources = nil, nil
	}
	each := 1
	if hasNodePort(ports) {
		each++
	}
	if all := len(ports) * (each + out.frontends()); all > MaxFrontends && out.frontends() > 0 {
		over.add("%d ports at %d external and load balancer addresses with %d source ranges are %d frontends, and a Service may have %d: none of these addresses is served; "+
			"spread the ports or the addresses over several Services", len(ports), len(out.ips)+len(out.loadBalancers), len(out.sources), all, MaxFrontends)
		*out = outside{}
	}
	if most := MaxFrontends / each; len(ports) > most {
		over.add("%d ports, of which the first %d are served: spread them over several Services", len(ports), most)
		ports = ports[:most]
	}
	return ports
}

// boundPairs leaves endpoints out that would be looked at for too many ports, those
// of other nodes first.
func boundPairs(endpoints []cluster.Endpoint, ports int, c *choice, over *excess) []cluster.Endpoint {
	most := maxPairs / max(ports, 1)
	if len(endpoints) <= most {
		return endpoints
	}
	over.add("%d ports of %d endpoints, of which this node looks at %d: spread the ports over several Services", ports, len(endpoints), most)
	order := func(e cluster.Endpoint) (int, uint64) {
		elsewhere := 1
		if c.node.isOf(&e) {
			elsewhere = 0
		}
		return elsewhere, rank(c.node, netip.AddrPortFrom(e.Addr, 0))
	}
	endpoints = slices.SortedStableFunc(slices.Values(endpoints), func(a, b cluster.Endpoint) int {
		x, i := order(a)
		y, j := order(b)
		return cmp.Or(cmp.Compare(x, y), cmp.Compare(i, j))
	})
	c.keep(endpoints[most:], func(*cluster.Endpoint) Reason { return BeyondBounds })
	return endpoints[:most:most]
}

// boundSlots has connections go to random endpoints, all alike, where their tables would be
// too large.
func (b Bounds) boundSlots(s *Service, over *excess) {
	n := 0
	for i := range s.Pools {
		n += len(s.Of(i)) * (s.Pools[i].slots(false) + s.Pools[i].slots(true))
	}
	if b.Slots == 0 || n <= b.Slots {
		return
	}
	over.add("the policy source_hash, or weights, would take %d slots at so many ports and addresses, and a Service may have %d: connections go to random endpoints; "+
		"spread the ports or the addresses over several Services", n, b.Slots)
	for i := range s.Pools {
		p := &s.Pools[i]
		p.Policy, p.Weights, p.LocalWeights = cluster.Random, nil, nil
	}
}

// slots is how many a table has at most that is not only of the endpoints, each once.
func (p *Pool) slots(local bool) int {
	switch endpoints := len(p.For(local)); {
	case endpoints == 0:
	case p.Policy == cluster.SourceHash && p.AffinitySeconds == 0:
		return tableSize(endpoints)
	case p.WeightsFor(local) != nil:
		return MaxSlots(endpoints)
	}
	return 0
}

// endpointsFor is how many endpoints each of the ports may have where so many frontends
// lead to them.
func (b Bounds) endpointsFor(frontends, ports int, sticky bool) int {
	most := min(b.Endpoints, b.Targets/max(frontends, 1))
	if sticky {
		most = min(most, b.Sticky/max(ports, 1))
	}
	return max(1, most)
}

// choose returns at most so many endpoints, sorted. Nodes choose different ones, so
// that together they use all; one that comes or goes changes one of the choice.
func choose(endpoints []netip.AddrPort, most int, node Node) []netip.AddrPort {
	if len(endpoints) <= most {
		return endpoints
	}
	type ranked struct {
		at   netip.AddrPort
		rank uint64
	}
	all := make([]ranked, len(endpoints))
	for i, e := range endpoints {
		all[i] = ranked{e, rank(node, e)}
	}
	slices.SortFunc(all, func(a, b ranked) int { return cmp.Or(cmp.Compare(a.rank, b.rank), a.at.Compare(b.at)) })
	out := make([]netip.AddrPort, most)
	for i := range out {
		out[i] = all[i].at
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return out
}

// rank is an endpoint's place in the order in which a node chooses.
func rank(node Node, e netip.AddrPort) uint64 {
	h := fnv.New64a()
	h.Write([]byte(node.Name))
	addr := e.Addr().As16()
	h.Write(addr[:])
	h.Write(binary.BigEndian.AppendUint16(nil, e.Port()))
	return h.Sum64()
}
