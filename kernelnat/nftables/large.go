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
	n := 0
	for i := range p.Pools {
		frontends, endpoints := len(p.Of(i)), len(p.Pools[i].Endpoints)+len(p.Pools[i].Local)
		if n += frontends * (4 + endpoints); policyOf(&p.Pools[i]) == cluster.SourceHash && endpoints > 1 {
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
	n := 0
	for _, f := range s.frontends {
		n += 4 + len(f.near) + len(f.far)
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

// within returns the service on its way from what is held, with about so many elements changed
// at most: first endpoints that come, then what leads to them, then endpoints that go. It
// reports whether that is all.
func (s *service) within(held *service, budget int) (next *service, done bool) {
	pools, byPort := merged(held.pools, s.pools)
	p := &passage{left: budget, next: &service{frontends: slices.Clone(held.frontends), pools: pools}}
	before := make(map[plan.Key]int, len(held.frontends))
	for i, f := range held.frontends {
		before[f.Key] = i
	}
	going := maps.Clone(before)
	for i := range s.frontends {
		to := &s.frontends[i]
		at, had := before[to.Key]
		if delete(going, to.Key); !had {
			if at = len(p.next.frontends); p.left <= 0 {
				return p.next, false
			}
			before[to.Key] = at
			p.next.frontends = append(p.next.frontends, frontend{Key: to.Key, service: to.service, drops: to.drops, sources: to.sources})
			p.left -= 2
		}
		f := &p.next.frontends[at]
		f.pool = byPort[portKey{to.pool.port, to.pool.protocol}]
		f.near, f.far = p.grow(f.near, to.near), p.grow(f.far, to.far)
	}
	if p.left <= 0 {
		return p.next, false
	}
	// Packets may be on their way to endpoints that they are led to no more.
	if grown := p.left; p.lead(s, before, going) < grown {
		return p.next, false
	}
	p.shrink(s, before, going)
	if p.left <= 0 {
		return p.next, false
	}
	return s, true
}

// passage is a service on its way, and how many elements may still change.
type passage struct {
	next *service
	left int
}

// portKey tells the ports of a Service apart.
type portKey struct {
	name     string
	protocol cluster.Protocol
}

// merged are the pools on the way: members of both are there. byPort are those on the way to
// others.
func merged(held, to []*pool) (all []*pool, byPort map[portKey]*pool) {
	before := make(map[portKey]int, len(held))
	for i, h := range held {
		before[portKey{h.port, h.protocol}] = i
	}
	all, byPort = slices.Clone(held), make(map[portKey]*pool, len(to))
	for _, t := range to {
		m, key := *t, portKey{t.port, t.protocol}
		if i, had := before[key]; had && all[i] != nil {
			if m.members = maps.Clone(all[i].members); m.members == nil {
				m.members = t.members
			}
			maps.Copy(m.members, t.members)
			all[i] = nil
		}
		byPort[key] = &m
		all = append(all, &m)
	}
	return slices.DeleteFunc(all, func(p *pool) bool { return p == nil }), byPort
}

// grow returns slots with as many as there are to be or more.
func (p *passage) grow(slots, to []netip.AddrPort) []netip.AddrPort {
	out := slices.Clone(slots)
	for i, e := range to {
		switch {
		case p.left <= 0:
			return out
		case i >= len(out):
			out = append(out, e)
		case out[i] != e:
			out[i] = e
		default:
			continue
		}
		p.left--
	}
	return out
}

// lead has packets go to the frontends as they are to, and no more to those that go. It
// returns how many elements may change after that.
func (p *passage) lead(s *service, before, going map[plan.Key]int) (left int) {
	for i := range s.frontends {
		to := &s.frontends[i]
		f := &p.next.frontends[before[to.Key]]
		if p.left > 0 && (f.class != to.class || f.inside != to.inside || f.drops != to.drops || !slices.Equal(f.sources, to.sources)) {
			f.class, f.inside, f.drops, f.sources = to.class, to.inside, to.drops, to.sources
			p.left -= 2 + len(to.sources)
		}
	}
	for _, at := range going {
		if f := &p.next.frontends[at]; p.left > 0 && (f.class != 0 || f.inside != 0) {
			f.class, f.inside = 0, 0
			p.left -= 2
		}
	}
	return p.left
}

// shrink takes out the slots that are not needed.
func (p *passage) shrink(s *service, before, going map[plan.Key]int) {
	for i := range s.frontends {
		to := &s.frontends[i]
		f := &p.next.frontends[before[to.Key]]
		f.near, f.far = p.cut(f.near, len(to.near)), p.cut(f.far, len(to.far))
	}
	for _, at := range going {
		f := &p.next.frontends[at]
		f.near, f.far = p.cut(f.near, 0), p.cut(f.far, 0)
	}
}

func (p *passage) cut(slots []netip.AddrPort, to int) []netip.AddrPort {
	n := min(max(0, len(slots)-to), max(0, p.left))
	p.left -= n
	return slots[:len(slots)-n]
}
