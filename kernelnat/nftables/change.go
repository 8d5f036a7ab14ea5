package nftables

import (
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/kernelnat/plan"
)

// change writes what differs between what the kernel holds for a Service and what it is to
// hold; nil is nothing. In one transaction the order does not matter. In several, endpoints
// that come are written before what leads to them, and those that go after it; see large.
func (s *state) change(w writer, old, next *service) {
	s.writePools(w, old, next)
	s.writeFrontends(w, old, next)
}

// writePools writes the endpoints of pools, and their clients.
func (s *state) writePools(w writer, old, next *service) {
	var before, after []*pool
	if old != nil {
		before = slices.Clone(old.pools)
	}
	if next != nil {
		after = next.pools
	}
	for _, n := range after {
		var o *pool
		if i := slices.IndexFunc(before, func(p *pool) bool { return p != nil && p.id == n.id }); i >= 0 {
			o, before[i] = before[i], nil
		}
		s.writePool(w, o, n)
	}
	for _, o := range before {
		if o != nil {
			s.writePool(w, o, nil)
			s.poolIDs.release(o.id)
		}
	}
}

func (s *state) writePool(w writer, old, next *pool) {
	if old == next {
		return
	}
	before, after := old.lists(), next.lists()
	for i := range before {
		s.writeList(w, old, next, before[i], after[i])
	}
	s.writeMembers(w, old, next)
	s.writeSources(w, old, next)
}

func (s *state) writeList(w writer, old, next *pool, before, after list) {
	var key, data [32]byte
	for i := range max(len(before.slots), len(after.slots)) {
		had, has := i < len(before.slots), i < len(after.slots)
		if had && has && before.slots[i] == after.slots[i] {
			continue
		}
		switch {
		case !has:
			w.remove(s.schema.endpoints, appendSlot(key[:0], before.id, old.protocol, i))
		case !had:
			w.put(s.schema.endpoints, appendSlot(key[:0], after.id, next.protocol, i), appendAddrPort(data[:0], after.slots[i]), "")
		default:
			replace(w, s.schema.endpoints, appendSlot(key[:0], after.id, next.protocol, i), appendAddrPort(data[:0], after.slots[i]), "")
		}
		if had {
			s.refer(w, before.slots[i].Addr(), -1)
		}
		if has {
			s.refer(w, after.slots[i].Addr(), 1)
		}
	}
	s.writeSlots(w, old, next, before, after)
}

// refer counts the slots that an address is in, and keeps it in hairpin while there are any.
func (s *state) refer(w writer, a netip.Addr, by int) {
	var key [32]byte
	now := s.hairpin[a] + by
	switch pair := appendAddr(appendAddr(key[:0], a), a); {
	case now == 0:
		delete(s.hairpin, a)
		w.remove(s.schema.hairpin, pair)
		return
	case now == 1 && by > 0:
		w.put(s.schema.hairpin, pair, nil, "")
	}
	s.hairpin[a] = now
}

// writeSlots writes which member is in which slot.
func (s *state) writeSlots(w writer, old, next *pool, before, after list) {
	var key, data [32]byte
	member := func(p *pool, l list, i int) uint32 {
		if p == nil || !p.sticky || i >= len(l.slots) {
			return 0
		}
		return p.members[l.slots[i]]
	}
	for i := range max(len(before.slots), len(after.slots)) {
		had, has := member(old, before, i), member(next, after, i)
		number := func(l list) []byte { return appendNumber(appendNumber(key[:0], l.id), uint32(i)) }
		write(w, s.schema.slots, had, has, func(l bool) []byte {
			if l {
				return number(after)
			}
			return number(before)
		}, appendNumber(data[:0], has), "")
	}
}

// write writes an element whose data is a number; 0 is none.
func write(w writer, set *set, had, has uint32, key func(now bool) []byte, data []byte, comment string) {
	switch {
	case had == has:
	case has == 0:
		w.remove(set, key(false))
	case had == 0:
		w.put(set, key(true), data, comment)
	default:
		replace(w, set, key(true), data, comment)
	}
}

// writeMembers writes where members are. Their clients expire by themselves.
func (s *state) writeMembers(w writer, old, next *pool) {
	var key, data [32]byte
	before, after := old.memberList(), next.memberList()
	for _, m := range before {
		if next == nil || next.members[m.at] != m.number {
			w.remove(s.schema.members, appendProtocol(appendNumber(key[:0], m.number), old.protocol))
			s.memberIDs.release(m.number)
		}
	}
	for _, m := range after {
		if old == nil || old.members[m.at] != m.number {
			w.put(s.schema.members, appendProtocol(appendNumber(key[:0], m.number), next.protocol), appendAddrPort(data[:0], m.at), "")
		}
	}
}

func (s *state) writeSources(w writer, old, next *pool) {
	var key [64]byte
	var before, after []netip.Prefix
	if old != nil {
		before = old.sources
	}
	if next != nil {
		after = next.sources
	}
	for _, r := range before {
		if !slices.Contains(after, r) {
			w.remove(s.schema.sources, appendSource(key[:0], old.id, r))
		}
	}
	for _, r := range after {
		if !slices.Contains(before, r) {
			w.put(s.schema.sources, appendSource(key[:0], next.id, r), nil, "")
		}
	}
}

// writeFrontends writes which class frontends have, and which pool they lead to.
func (s *state) writeFrontends(w writer, old, next *service) {
	var before, after []frontend
	if old != nil {
		before = old.frontends
	}
	if next != nil {
		after = next.frontends
	}
	had := make(map[plan.Key]*frontend, len(before))
	for i := range before {
		had[before[i].Key] = &before[i]
	}
	for i := range after {
		f := &after[i]
		o := had[f.Key]
		delete(had, f.Key)
		if o == nil {
			o = s.takeFrom(f)
		}
		s.writeFrontend(w, o, f)
		s.holders[f.Key] = f.service
	}
	for i := range before {
		if o := &before[i]; had[o.Key] != nil {
			s.writeFrontend(w, o, &frontend{Key: o.Key})
			delete(s.holders, o.Key)
		}
	}
}

// takeFrom returns what the kernel holds for a frontend that a Service comes to have: that of
// another Service, whose own change is still to come, or nothing.
func (s *state) takeFrom(f *frontend) *frontend {
	other, held := s.services[s.holders[f.Key]]
	if !held {
		return new(frontend)
	}
	i := slices.IndexFunc(other.frontends, func(o frontend) bool { return o.Key == f.Key })
	if i < 0 {
		return new(frontend)
	}
	taken := other.frontends[i]
	s.services[taken.service] = &service{pools: other.pools, frontends: slices.Delete(slices.Clone(other.frontends), i, i+1)}
	return &taken
}

func (s *state) writeFrontend(w writer, old, next *frontend) {
	var key, data [32]byte
	of := func(bool) []byte { return appendKey(key[:0], next.Key) }
	place := s.schema.placeOf(next.At.Addr().IsUnspecified())
	write(w, place.pool, old.pool, next.pool, of, appendNumber(data[:0], next.pool), next.comment())
	for _, c := range []struct {
		set      *set
		had, has uint32
	}{{place.inside, old.inside, next.inside}, {place.class, old.class, next.class}} {
		write(w, c.set, c.had, c.has, of, appendNumber(data[:0], c.has), "")
		s.use(c.had, -1)
		s.use(c.has, 1)
	}
	switch {
	case old.pool != 0 && next.pool == 0:
		w.remove(place.connections, of(false))
	case old.pool == 0 && next.pool != 0:
		w.put(place.connections, of(true), nil, next.comment())
	case old.service != next.service && next.pool != 0:
		replace(w, place.connections, of(true), nil, next.comment())
	}
	switch {
	case old.drops && !next.drops:
		w.remove(place.drops, of(true))
	case !old.drops && next.drops:
		w.put(place.drops, of(true), nil, "")
	}
}

// use counts the frontends of a class.
func (s *state) use(class uint32, by int) {
	if class == 0 {
		return
	}
	used := s.classes[s.classIDs[class]]
	if used.frontends == 0 {
		s.idle--
	}
	if used.frontends += by; used.frontends == 0 {
		s.idle++
	}
}
