package iptables

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// Lacks are the policies that no rules of iptables amount to. Its match cluster hashes the
// client's address, but has 32 slots at most, and of an IPv6 address the kernel looks at the
// first 32 bits alone. Schedulers are IPVS'.
var Lacks = append([]cluster.Policy{cluster.SourceHash}, cluster.Schedulers()...)

// turn is one rule of the chain that chooses: the connections that it sends to an endpoint.
type turn struct {
	to    netip.AddrPort
	match string // "" for all that the rules before have let pass
}

func (p *poolRendering) turns(local bool) []turn {
	endpoints, weights := p.For(local), p.WeightsFor(local)
	if p.Policy == cluster.RoundRobin {
		// A rule for each slot. More of them in one chain than endpoints may be take too long.
		if slots := plan.Slots(endpoints, weights, cluster.RoundRobin); len(slots) <= plan.DefaultBounds.Endpoints {
			return inTurn(endpoints, slots)
		}
	}
	return byChance(endpoints, weights)
}

// byChance has each endpoint take its share of those that pass the rules before.
func byChance(endpoints []netip.AddrPort, weights []cluster.Weight) []turn {
	weight := func(i int) int {
		if weights == nil {
			return 1
		}
		return int(weights[i])
	}
	left := 0
	for i := range endpoints {
		left += weight(i)
	}
	out := make([]turn, len(endpoints))
	for i, e := range endpoints {
		if out[i].to = e; i < len(endpoints)-1 {
			out[i].match = fmt.Sprintf(" -m statistic --mode random --probability %.10f", float64(weight(i))/float64(left))
		}
		left -= weight(i)
	}
	return out
}

// inTurn has each slot take the first of as many as there are slots left. The kernel counts
// for each rule, and a chain has the connections of one Service alone.
func inTurn(endpoints []netip.AddrPort, slots []uint16) []turn {
	out := make([]turn, len(slots))
	for i, s := range slots {
		if out[i].to = endpoints[s]; i < len(slots)-1 {
			out[i].match = fmt.Sprintf(" -m statistic --mode nth --every %d --packet 0", len(slots)-i)
		}
	}
	return out
}

// able returns the plans as a variant can have them. Any change of legacy tables replaces
// them whole, and all counters begin anew: where changes are as frequent as connections, the
// first endpoints would get them all. So there connections go by chance.
func (v variant) able(services []plan.Service) []plan.Service {
	if v == nft {
		return services
	}
	out := slices.Clone(services)
	for i := range out {
		out[i].Pools = slices.Clone(out[i].Pools)
		for j := range out[i].Pools {
			out[i].Pools[j].Policy = cluster.Random
		}
	}
	return out
}

func (v variant) ableChanges(changes []kernelnat.Change) []kernelnat.Change {
	if v == nft {
		return changes
	}
	out := make([]kernelnat.Change, len(changes))
	for i, c := range changes {
		both := v.able([]plan.Service{c.Old, c.New})
		out[i] = kernelnat.Change{Old: both[0], New: both[1]}
	}
	return out
}
