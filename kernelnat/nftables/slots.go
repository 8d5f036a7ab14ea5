package nftables

import (
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// Lacks are the policies that no rules of nf_tables amount to: they count connections.
var Lacks = cluster.Schedulers()

// slotsOf returns the slots of a pool, which have endpoints in proportion to their weights.
// Where it matters which slot has which endpoint, that is as package plan says.
func slotsOf(old []netip.AddrPort, p *plan.Pool, local bool) []netip.AddrPort {
	endpoints, weights, policy := p.For(local), p.WeightsFor(local), policyOf(p)
	if policy != cluster.SourceHash && weights == nil {
		return keep(old, endpoints)
	}
	var all []netip.AddrPort
	for _, i := range plan.Slots(endpoints, weights, policy) {
		all = append(all, endpoints[i])
	}
	if policy == cluster.Random {
		return keep(old, all)
	}
	return all
}

// policyOf is how a connection chooses among the slots of a pool. Who has not been to any
// endpoint of a pool with client affinity gets any, and so does who asks past a virtual server.
func policyOf(p *plan.Pool) cluster.Policy {
	if p.AffinitySeconds > 0 || p.Policy.OfIPVS() {
		return cluster.Random
	}
	return p.Policy
}

// keep returns the slots of a pool whose endpoints are others than before. Endpoints that
// stay keep their slots, new ones take those of endpoints that are gone, and of slots that
// are empty then the last ones move there: an endpoint that comes or goes changes at most
// two slots, however many there are. It returns slots and endpoints themselves where they
// will do.
func keep(slots, endpoints []netip.AddrPort) []netip.AddrPort {
	if len(slots) == 0 {
		return endpoints
	}
	wanted := make(map[netip.AddrPort]int, len(endpoints))
	for _, e := range endpoints {
		wanted[e]++
	}
	var free []int
	for i, e := range slots {
		if wanted[e] == 0 {
			free = append(free, i)
			continue
		}
		wanted[e]--
	}
	if len(free) == 0 && len(slots) == len(endpoints) {
		return slots
	}
	next := slices.Clone(slots)
	for _, e := range endpoints {
		switch {
		case wanted[e] == 0:
			continue
		case len(free) > 0:
			next[free[0]], free = e, free[1:]
		default:
			next = append(next, e)
		}
		wanted[e]--
	}
	for len(free) > 0 {
		last := len(next) - 1
		if end := len(free) - 1; free[end] == last {
			free = free[:end]
		} else {
			next[free[0]], free = next[last], free[1:]
		}
		next = next[:last]
	}
	return next
}
