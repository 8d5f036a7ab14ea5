package nftables

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/kernelnat/plan"
)

// passage takes a Service from what the kernel holds for it to a plan, in steps: endpoints
// that come, then what leads to them, then endpoints that go. Each pool is planned once, and
// after that a step goes on where the last one has ended, so that it costs what it writes.
//
// It notes what the kernel holds as it goes. It may end after any step, and another passage
// goes on from there.
type passage struct {
	*state
	plan *plan.Service
	held *service // in the state; written to by the passage alone
	next *service // to take its place in the end

	places map[plan.Key]int // of frontends in held
	going  []int            // the places of those that the plan does not have, in order
	taken  map[*pool]bool   // pools in held that are the plan's
	pools  []pooled         // in the order of the plan

	// Where it stands: the stage, the frontend or pool there, and of that frontend what it is
	// to have (nil: it has not begun), the slots that come next and whether there is a copy
	// of them.
	stage, at int
	to        *frontend
	slot      [len(sides)]int
	copied    [len(sides)]bool
}

// pooled is a pool on its way: both members that come and members that go are in between.
type pooled struct {
	place       int // in held
	between, to *pool
}

// begin plans the way to a plan.
func (s *state) begin(to *plan.Service) *passage {
	p := &passage{state: s, plan: to, held: new(service), next: new(service), places: make(map[plan.Key]int), taken: make(map[*pool]bool)}
	if len(to.Frontends) == 0 {
		p.plan = &plan.Service{Name: to.Name}
	}
	if held := s.services[to.Name]; held != nil {
		p.held.frontends, p.held.pools = slices.Clone(held.frontends), slices.Clone(held.pools)
	}
	s.services[to.Name] = p.held
	stays := make(map[plan.Key]bool, len(p.plan.Frontends))
	for i := range p.plan.Frontends {
		stays[p.plan.Frontends[i].Key] = true
	}
	for i := range p.held.frontends {
		if key := p.held.frontends[i].Key; stays[key] {
			p.places[key] = i
		} else {
			p.going = append(p.going, i)
		}
	}
	return p
}

// limited is a writer that counts what may still be written and looked at in a step.
type limited struct {
	writer
	elements, looks int
}

func (l *limited) put(s *set, key, data []byte, comment string) {
	l.elements--
	l.writer.put(s, key, data, comment)
}

func (l *limited) remove(s *set, key []byte) {
	l.elements--
	l.writer.remove(s, key)
}

func (l *limited) spent() bool { return l.elements <= 0 || l.looks <= 0 }

// step writes the next elements, and reports whether they are the last ones. It goes beyond the
// limits by what one frontend has besides its slots and, with client affinity, by the members of
// one pool, which plan bounds. A pool is planned in one step.
func (p *passage) step(w *limited) (done bool) {
	stages := []func(*limited) (over bool){p.planPools, p.guard, p.come, p.lead, p.leave, p.remove, p.forget}
	const leaving = 4
	for p.stage < len(stages) {
		if w.spent() {
			return false
		}
		if w.looks--; !stages[p.stage](w) {
			continue
		}
		p.stage, p.at = p.stage+1, 0
		if p.stage == leaving {
			return false // packets may be on their way to endpoints that they are led to no more
		}
	}
	if p.services[p.plan.Name] = p.next; len(p.next.frontends) == 0 {
		delete(p.services, p.plan.Name)
	}
	return true
}

// planPools plans the next pool, and writes its new members.
func (p *passage) planPools(w *limited) (over bool) {
	if p.at == len(p.plan.Pools) {
		return true
	}
	old := p.held.poolOf(p.plan, p.at, p.taken)
	on := pooled{place: p.at, to: p.pool(p.plan.Name, old, &p.plan.Pools[p.at])}
	between := *on.to
	if old.virtual != nil || on.to.virtual != nil {
		between.virtual = &virtual{behind: slices.Clone(old.behind())}
	}
	if old.members != nil {
		between.members = maps.Clone(old.members)
		maps.Copy(between.members, on.to.members)
	}
	on.between = &between
	p.writeMembers(w, &service{pools: []*pool{old}}, &service{pools: []*pool{on.between}})
	if on.place >= len(p.held.pools) || p.held.pools[on.place] != old {
		on.place = slices.Index(p.held.pools, old)
	}
	if on.place < 0 {
		on.place = len(p.held.pools)
		p.held.pools = append(p.held.pools, nil)
	}
	p.held.pools[on.place], p.taken[on.between] = on.between, true
	p.next.pools, p.pools = append(p.next.pools, on.to), append(p.pools, on)
	w.looks -= len(on.to.cluster) + len(on.to.local)
	p.at++
	return false
}

// guard has the next pool's endpoints be in hairpin that are behind virtual servers.
func (p *passage) guard(w *limited) (over bool) {
	for ; p.at < len(p.pools); p.at++ {
		on := p.pools[p.at]
		for i := &p.slot[0]; *i < len(on.to.behind()); *i++ {
			if w.spent() {
				return false
			}
			w.looks--
			e := on.to.behind()[*i]
			p.refer(w, e.Addr(), 1)
			on.between.virtual.behind = append(on.between.virtual.behind, e)
		}
		p.slot[0] = 0
	}
	return true
}

// unguard is the reverse, of those that are no more behind them.
func (p *passage) unguard(w *limited, of *pool, stay int) (over bool) {
	for len(of.behind()) > stay {
		if w.spent() {
			return false
		}
		w.looks--
		p.refer(w, of.virtual.behind[0].Addr(), -1)
		of.virtual.behind = of.virtual.behind[1:]
	}
	return true
}

// come writes the endpoints that the next frontend comes to have.
func (p *passage) come(w *limited) (over bool) {
	if p.at == len(p.plan.Frontends) {
		return true
	}
	f := &p.plan.Frontends[p.at]
	if p.to == nil {
		p.enter(w, f)
	}
	if held := &p.held.frontends[p.places[f.Key]]; p.growAll(w, held) {
		p.to = nil
		p.at++
	}
	return false
}

// enter begins with a frontend.
func (p *passage) enter(w *limited, f *plan.Frontend) {
	to := slotted(p.plan.Name, f, p.pools[f.Pool].to)
	p.to, p.slot, p.copied = &to, [len(sides)]int{}, [len(sides)]bool{}
	at, had := p.places[f.Key]
	if !had {
		fresh := frontend{Key: f.Key, service: to.service, pool: p.pools[f.Pool].between, sources: to.sources}
		before := p.takeFrom(&fresh)
		p.writeTargets(w, before, &fresh)
		p.writeClasses(w, before, &fresh)
		p.writeDrops(w, before, &fresh)
		p.holders[f.Key], p.places[f.Key] = to.service, len(p.held.frontends)
		p.held.frontends = append(p.held.frontends, fresh)
		return
	}
	held := &p.held.frontends[at]
	before := *held
	held.pool = p.pools[f.Pool].between
	p.renumber(w, &before, held)
	p.writeMarks(w, &before, held)
}

// renumber writes which members are in the slots of a frontend that has another pool. Then the
// step is over, since what is written in a transaction cannot be replaced there.
func (p *passage) renumber(w *limited, before, now *frontend) {
	if len(before.pool.members)+len(now.pool.members) == 0 {
		return
	}
	left := w.elements
	for _, side := range sides {
		p.writeSlots(w, before, now, side)
		w.looks -= len(now.slots(side))
	}
	if w.elements != left {
		w.looks = 0
	}
}

// growAll fills the slots that a frontend is to have.
func (p *passage) growAll(w *limited, held *frontend) (over bool) {
	for _, side := range sides {
		if !p.grow(w, held, side) {
			return false
		}
	}
	return true
}

func (p *passage) grow(w *limited, held *frontend, side side) (over bool) {
	slots, to, i := held.slots(side), p.to.slots(side), p.slot[side]
	for ; i < len(to) && !w.spent(); i++ {
		w.looks--
		var had netip.AddrPort
		if i < len(slots) {
			had = slots[i]
		}
		if had == to[i] {
			continue
		}
		if !p.copied[side] { // the list is the pool's, or an earlier passage's
			slots = append(make([]netip.AddrPort, 0, max(len(slots), len(to))), slots...)
			p.copied[side] = true
		}
		if i < len(slots) {
			slots[i] = to[i]
		} else {
			slots = append(slots, to[i])
		}
		p.writeSlot(w, slot{held.Key, side, i}, inSlot{had, held.member(had)}, inSlot{to[i], held.member(to[i])})
	}
	*held.slotsOf(side) = slots
	p.slot[side] = i
	return i == len(to)
}

// lead has packets go to the next frontend as they are to, or no more if it goes. Its class is
// only found now: one that no frontend has may be removed between two steps.
func (p *passage) lead(w *limited) (over bool) {
	at := p.at
	if p.at++; at >= len(p.plan.Frontends) {
		if at -= len(p.plan.Frontends); at == len(p.going) {
			return true
		}
		held := &p.held.frontends[p.going[at]]
		before := *held
		held.class, held.inside = 0, 0
		p.writeClasses(w, &before, held)
		return false
	}
	f := &p.plan.Frontends[at]
	held, to := &p.held.frontends[p.places[f.Key]], p.frontend(p.plan.Name, f, p.pools[f.Pool].to, &p.plan.Pools[f.Pool])
	before := *held
	held.class, held.inside, held.drops, held.sources = to.class, to.inside, to.drops, to.sources
	p.writeMarks(w, &before, held)
	p.writeClasses(w, &before, held)
	p.writeDrops(w, &before, held)
	return false
}

// leave takes out the slots that the next frontend does not need.
func (p *passage) leave(w *limited) (over bool) {
	if p.at == len(p.plan.Frontends) {
		return true
	}
	f := &p.plan.Frontends[p.at]
	held, to := &p.held.frontends[p.places[f.Key]], slotted(p.plan.Name, f, p.pools[f.Pool].to)
	if !p.cut(w, held, &to) {
		return false
	}
	before := *held
	held.pool, held.near, held.far, held.loopback = to.pool, to.near, to.far, to.loopback
	p.renumber(w, &before, held)
	p.next.frontends = append(p.next.frontends, *held)
	p.at++
	return false
}

// cut takes out the last slots of a frontend until there are as many as it is to have.
func (p *passage) cut(w *limited, held, to *frontend) (over bool) {
	for _, side := range sides {
		if !p.cutTo(w, held, side, len(to.slots(side))) {
			return false
		}
	}
	return true
}

func (p *passage) cutTo(w *limited, held *frontend, side side, to int) (over bool) {
	slots := held.slots(side)
	for len(slots) > to && !w.spent() {
		w.looks--
		last := len(slots) - 1
		p.writeSlot(w, slot{held.Key, side, last}, inSlot{slots[last], held.member(slots[last])}, inSlot{})
		slots = slots[:last]
	}
	*held.slotsOf(side) = slots
	return len(slots) <= to
}

// remove removes the last of the frontends that go.
func (p *passage) remove(w *limited) (over bool) {
	if len(p.going) == 0 {
		return true
	}
	at, last := p.going[len(p.going)-1], len(p.held.frontends)-1
	held := &p.held.frontends[at]
	if !p.cut(w, held, &nothing) {
		return false
	}
	p.writeMarks(w, held, &frontend{Key: held.Key})
	p.writeDrops(w, held, &frontend{Key: held.Key})
	delete(p.holders, held.Key)
	// The place is the last one's now, which stays.
	p.held.frontends[at], p.held.frontends[last] = p.held.frontends[last], frontend{}
	p.held.frontends = p.held.frontends[:last]
	p.going = p.going[:len(p.going)-1]
	return false
}

// forget removes the members that the next pool does not have any more.
func (p *passage) forget(w *limited) (over bool) {
	if p.at < len(p.pools) {
		on := p.pools[p.at]
		if !p.unguard(w, on.between, len(on.to.behind())) {
			return false
		}
		p.writeMembers(w, &service{pools: []*pool{on.between}}, &service{pools: []*pool{on.to}})
		p.held.pools[on.place] = on.to
		p.taken[on.to] = true
		p.at++
		return false
	}
	i := p.at - len(p.pools)
	switch all := p.held.pools; {
	case i == len(all):
		return true
	case p.taken[all[i]]:
		p.at++
	case len(all[i].behind()) > 0:
		rest := *all[i] // it is never written to
		rest.virtual = &virtual{behind: rest.virtual.behind}
		all[i] = &rest
		p.unguard(w, all[i], 0)
	default:
		p.writeMembers(w, &service{pools: all[i : i+1]}, nil)
		all[i] = all[len(all)-1]
		p.held.pools = all[:len(all)-1]
	}
	return false
}
