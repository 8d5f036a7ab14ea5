package plan

import (
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
)

// Pool is where connections to one port of a Service go, whatever frontend they come
// to. Its lists are sorted.
type Pool struct {
	Port            string // the port's name, "" if it has none
	Protocol        cluster.Protocol
	AffinitySeconds uint32 // how long a client that connects again gets the same endpoint; 0: it does not
	// Endpoints get new connections under the policy Cluster, and Local, which are on
	// this node, under the policy Local. Empty where no frontend asks for them.
	Endpoints, Local []netip.AddrPort
	// Policy is how they take turns, where a client does not keep its endpoint.
	Policy cluster.Policy
	// Weights and LocalWeights are theirs, in the same order and 1 at least; nil if all
	// weigh the same.
	Weights, LocalWeights []cluster.Weight
	// Draining endpoints are all others that serve. They get no new connections and no
	// rules, and keep the flows they have. Terminating are those of them that are
	// about to go; package conntrack ends their idle flows.
	Draining, Terminating []netip.AddrPort
}

// For returns the endpoints under a policy.
func (p *Pool) For(local bool) []netip.AddrPort {
	if local {
		return p.Local
	}
	return p.Endpoints
}

// WeightsFor returns the weights of the endpoints under a policy.
func (p *Pool) WeightsFor(local bool) []cluster.Weight {
	if local {
		return p.LocalWeights
	}
	return p.Weights
}

// Serving returns all endpoints that may go on serving connections that they have,
// sorted; some may be in it twice.
func (p *Pool) Serving() []netip.AddrPort {
	all := slices.Concat(p.Endpoints, p.Local, p.Draining)
	slices.SortFunc(all, netip.AddrPort.Compare)
	return all
}

func (p Pool) equal(o Pool) bool {
	return p.Port == o.Port && p.Protocol == o.Protocol && p.AffinitySeconds == o.AffinitySeconds && p.Policy == o.Policy &&
		slices.Equal(p.Weights, o.Weights) && slices.Equal(p.LocalWeights, o.LocalWeights) &&
		slices.Equal(p.Endpoints, o.Endpoints) && slices.Equal(p.Local, o.Local) &&
		slices.Equal(p.Draining, o.Draining) && slices.Equal(p.Terminating, o.Terminating)
}

// uses says which of a pool's lists its frontends ask for.
type uses struct{ everywhere, local bool }

// verdicts are those on new connections under each policy.
type verdicts struct{ everywhere, local Verdict }

func (v verdicts) of(local bool) Verdict {
	if local {
		return v.local
	}
	return v.everywhere
}

// fill chooses among the endpoints that have the port: by hints and policy, by condition, by
// weight, and then as many as there may be. The fallback to terminating endpoints
// is taken in the cluster and on the node independently (KEP-1669). It returns the
// verdicts and, for the bounds, how many endpoints there are to choose from.
func (p *Pool) fill(port cluster.Port, among []cluster.Endpoint, c *choice, uses uses, most int) (v verdicts, found int) {
	all := c.withPort(among, port)
	if len(cluster.Usable(all)) == 0 {
		c.usable(all) // for the reasons
		return verdicts{Reject, Reject}, 0
	}
	v = verdicts{Forward, Drop}
	if c.local = uses.local; c.local {
		among := c.weighty(c.usable(c.here(all)))
		p.Local, found = c.bounded(among, port, most)
		p.LocalWeights = c.weights(p.Local, among, port)
		if found > 0 {
			v.local = Forward
		}
	}
	if c.local = false; uses.everywhere {
		var everywhere int
		among := c.weighty(c.usable(c.near(all)))
		p.Endpoints, everywhere = c.bounded(among, port, most)
		p.Weights = c.weights(p.Endpoints, among, port)
		found = max(found, everywhere)
	}
	p.drain(all, port, c)
	return v, found
}

// drain notes the endpoints that serve and get no new connections. A pod in the host's
// network may have the address and port of the one before it, which terminates.
func (p *Pool) drain(all []cluster.Endpoint, port cluster.Port, c *choice) {
	everywhere, local := walk{sorted: p.Endpoints}, walk{sorted: p.Local}
	var staying, leaving []netip.AddrPort
	for i := range all {
		if e := &all[i]; e.Serving {
			switch t := c.target(e, port); {
			case everywhere.has(t), local.has(t):
			case e.Terminating:
				leaving = append(leaving, t)
			default:
				staying = append(staying, t)
			}
		}
	}
	staying, leaving = sorted(staying), sorted(leaving)
	p.Terminating = slices.DeleteFunc(leaving, func(t netip.AddrPort) bool { return Contains(staying, t) })
	p.Draining = slices.Concat(staying, p.Terminating)
	slices.SortFunc(p.Draining, netip.AddrPort.Compare)
}

// walk looks for endpoints among sorted ones. Those that come in order cost nearly nothing.
type walk struct {
	sorted []netip.AddrPort
	next   int
}

func (w *walk) has(e netip.AddrPort) bool {
	if w.next == len(w.sorted) || w.sorted[w.next] != e {
		at, found := slices.BinarySearchFunc(w.sorted, e, netip.AddrPort.Compare)
		if !found {
			return false
		}
		w.next = at
	}
	w.next++
	return true
}

// Contains reports whether sorted endpoints have one.
func Contains(sorted []netip.AddrPort, e netip.AddrPort) bool {
	_, found := slices.BinarySearchFunc(sorted, e, netip.AddrPort.Compare)
	return found
}
