package nftables

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// work is a Service on its way, in transactions of bounded size.
type work struct {
	*Backend
	plan plan.Service
	over bool
}

// Large implements kernelnat.Backend. Sync leaves no Service.
func (b *Backend) Large(changes []kernelnat.Change) (rest []kernelnat.Change, works []kernelnat.Work) {
	if b.state == nil {
		return changes, nil
	}
	for _, c := range changes {
		if size(&c.Old)+size(&c.New) < maxCommit && b.size(c.New.Name) < maxCommit {
			rest = append(rest, c)
			continue
		}
		works = append(works, &work{Backend: b, plan: c.New})
	}
	return rest, works
}

// size is how many elements a plan has, about.
func size(p *plan.Service) int {
	n := 3 * len(p.Frontends)
	for i := range p.Pools {
		endpoints := len(p.Pools[i].Endpoints) + len(p.Pools[i].Local)
		if n += 3 * endpoints; policyOf(&p.Pools[i]) == cluster.SourceHash && endpoints > 1 {
			n += maxCommit // a table of thousands of slots
		}
	}
	return n
}

// size is how many elements the kernel holds for a Service, about.
func (b *Backend) size(name cluster.ServiceName) int {
	s := b.state.services[name]
	if s == nil {
		return 0
	}
	n := 3 * len(s.frontends)
	for _, p := range s.pools {
		n += 3 * (len(p.cluster) + len(p.local))
	}
	return n
}

func (w *work) Service() cluster.ServiceName { return w.plan.Name }

// Step implements kernelnat.Work.
func (w *work) Step(ctx context.Context) (done bool, err error) {
	if w.state == nil {
		return false, fmt.Errorf("change nftables for %s: what the kernel holds is not known", w.family)
	}
	held := w.state.services[w.plan.Name]
	if held == nil {
		held = new(service)
	}
	next, done := w.state.target(held, &w.plan).within(held, maxCommit/2)
	batch := newBatch(w.family)
	if done && len(w.plan.Frontends) == 0 {
		next = nil
	}
	w.changeTo(batch, w.plan.Name, next)
	if err := w.commitClasses(ctx, batch); err != nil {
		w.state = nil
		return false, fmt.Errorf("change nftables for %s: %w", w.family, err)
	}
	return done, nil
}

// within returns the service on its way from what is held, with so many elements changed at
// most, about: first endpoints that come, then what leads to them, then endpoints that go.
// It reports whether that is all.
func (s *service) within(held *service, budget int) (next *service, done bool) {
	next = &service{frontends: held.frontends}
	before := make(map[uint32]*pool, len(held.pools))
	for _, h := range held.pools {
		before[h.id] = h
	}
	grown := true
	for _, p := range s.pools {
		h := before[p.id]
		delete(before, p.id)
		m := *p
		if h != nil {
			m.sources, m.sticky, m.members = h.sources, m.sticky || h.sticky, union(h.members, p.members)
		}
		lists := h.lists()
		m.cluster, budget = grow(lists[0].slots, p.cluster, budget)
		m.local, budget = grow(lists[1].slots, p.local, budget)
		next.pools = append(next.pools, &m)
		grown = grown && budget > 0
	}
	for _, h := range held.pools {
		if before[h.id] != nil {
			next.pools = append(next.pools, h)
		}
	}
	if !grown {
		return next, false
	}
	if next.frontends, budget = s.lead(held.frontends, budget); budget <= 0 {
		return next, false
	}
	return s.shrink(next, budget)
}

// shrink takes out what the service does not have.
func (s *service) shrink(next *service, budget int) (*service, bool) {
	cut := func(slots []netip.AddrPort, to int) []netip.AddrPort {
		n := min(max(0, len(slots)-to), max(0, budget))
		budget -= n
		return slots[:len(slots)-n]
	}
	for i, p := range next.pools {
		if i >= len(s.pools) { // it goes
			m := *p
			m.cluster, m.local = cut(p.cluster, 0), cut(p.local, 0)
			next.pools[i] = &m
			continue
		}
		p.cluster, p.local = cut(p.cluster, len(s.pools[i].cluster)), cut(p.local, len(s.pools[i].local))
	}
	if budget <= 0 {
		return next, false
	}
	return s, true
}

// grow returns slots with as many as there are to be or more, of which so many change.
func grow(slots, to []netip.AddrPort, budget int) ([]netip.AddrPort, int) {
	out := slices.Clone(slots)
	for i, e := range to {
		switch {
		case budget <= 0:
			return out, budget
		case i >= len(out):
			out = append(out, e)
		case out[i] != e:
			out[i] = e
		default:
			continue
		}
		budget--
	}
	return out, budget
}

// lead returns the frontends with so many changed.
func (s *service) lead(held []frontend, budget int) (out []frontend, left int) {
	before := make(map[plan.Key]frontend, len(held))
	for _, f := range held {
		before[f.Key] = f
	}
	for _, f := range s.frontends {
		h, had := before[f.Key]
		delete(before, f.Key)
		switch {
		case had && h == f:
		case budget > 0:
			budget--
		case had:
			f = h
		default:
			continue
		}
		out = append(out, f)
	}
	for _, f := range held {
		if _, goes := before[f.Key]; !goes {
			continue
		}
		if budget > 0 {
			budget--
			continue
		}
		out = append(out, f)
	}
	return out, budget
}

func union(a, b map[netip.AddrPort]uint32) map[netip.AddrPort]uint32 {
	out := maps.Clone(a)
	if out == nil {
		return b
	}
	maps.Copy(out, b)
	return out
}
