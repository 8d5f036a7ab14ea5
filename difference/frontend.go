package difference

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// Frontend is an address and port of a Service that is different.
type Frontend struct {
	plan.Key
	Kind          plan.Kind
	Mark          Mark
	Before, After *Target // nil where the Service does not have it
	// From and To are the Services that have it before and after, if that is another one.
	From, To cluster.ServiceName
	// Stops says that new connections arrive before and not after, whichever Service has it:
	// its verdict is Forward and then another one, or Drop, since all endpoints are on other
	// nodes, and then none has any.
	Stops bool
}

// Target is where connections to a frontend go.
type Target struct {
	Verdict   plan.Verdict
	Endpoints []netip.AddrPort // sorted; none but with Forward
	Weights   []cluster.Weight // in the same order; nil if all weigh the same
	Sources   []netip.Prefix   // the only clients; none: everybody is
	// Terms are, in words, what else holds for connections: "externalTrafficPolicy Local".
	Terms []string
}

func (t *Target) equal(o *Target) bool {
	return t.Verdict == o.Verdict && slices.Equal(t.Endpoints, o.Endpoints) && slices.Equal(t.Weights, o.Weights) &&
		slices.Equal(t.Sources, o.Sources) && slices.Equal(t.Terms, o.Terms)
}

// side is the frontends of one state.
type side struct {
	plans  [][]plan.Service
	owners map[plan.Key]owner
}

type owner struct {
	service cluster.ServiceName
	verdict plan.Verdict
}

func newSide(plans [][]plan.Service) side {
	s := side{plans: plans, owners: make(map[plan.Key]owner)}
	for _, family := range plans {
		for i := range family {
			for _, f := range family[i].Frontends {
				s.owners[f.Key] = owner{family[i].Name, f.Verdict}
			}
		}
	}
	return s
}

// place is a frontend with the plan that it is in.
type place struct {
	plan.Frontend
	of *plan.Service
}

// frontends returns those of a Service, sorted by Key.
func (s *side) frontends(name cluster.ServiceName) []place {
	var out []place
	for _, family := range s.plans {
		at, found := slices.BinarySearchFunc(family, name, func(p plan.Service, name cluster.ServiceName) int { return p.Name.Compare(name) })
		if !found {
			continue
		}
		for _, f := range family[at].Frontends {
			out = append(out, place{f, &family[at]})
		}
	}
	slices.SortFunc(out, place.compare)
	return out
}

// compare puts addresses in front of NodePorts.
func (p place) compare(o place) int {
	return cmp.Or(cluster.CompareBool(p.Kind == plan.NodePort, o.Kind == plan.NodePort), p.At.Compare(o.At), cmp.Compare(p.Protocol, o.Protocol))
}

// frontendsOf compares the frontends of a Service.
func (d *differ) frontendsOf(name cluster.ServiceName) []Frontend {
	var out []Frontend
	for old, now := range pairs(d.before.frontends(name), d.after.frontends(name), place.compare) {
		f := Frontend{Mark: markOf(old != nil, now != nil), Before: old.target(), After: now.target()}
		if f.Mark == Changed && f.Before.equal(f.After) {
			continue
		}
		if now == nil {
			f.Key, f.Kind = old.Key, old.Kind
			f.To = d.after.owners[f.Key].service
		} else {
			f.Key, f.Kind = now.Key, now.Kind
			if old == nil {
				f.From = d.before.owners[f.Key].service
			}
		}
		f.Stops = old != nil && reach(d.after.owners[f.Key].verdict) < reach(old.Verdict)
		out = append(out, f)
	}
	return out
}

// reach is how far a verdict lets new connections get; that of no frontend is 0.
func reach(v plan.Verdict) int {
	switch v {
	case plan.Forward:
		return 2
	case plan.Drop: // they arrive where they come in on another node
		return 1
	}
	return 0
}

// target returns where a frontend leads; nil for nil.
func (p *place) target() *Target {
	if p == nil {
		return nil
	}
	t := &Target{Verdict: p.Verdict, Sources: p.Sources, Terms: p.terms()}
	if pool := &p.of.Pools[p.Pool]; p.Verdict == plan.Forward {
		t.Endpoints, t.Weights = pool.For(p.Local), pool.WeightsFor(p.Local)
	}
	return t
}

// terms says what holds for connections besides where they go.
func (p *place) terms() []string {
	var out []string
	pool := &p.of.Pools[p.Pool]
	switch {
	case p.Local && p.Kind == plan.ClusterIP:
		out = append(out, "internalTrafficPolicy Local")
	case p.Local:
		out = append(out, "externalTrafficPolicy Local")
	}
	if pool.AffinitySeconds > 0 {
		out = append(out, fmt.Sprintf("sessionAffinity ClientIP for %d s", pool.AffinitySeconds))
	}
	if pool.Policy != cluster.Random {
		out = append(out, fmt.Sprintf("load balancing %s", pool.Policy))
	}
	return out
}
