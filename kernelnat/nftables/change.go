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
	s.writeMembers(w, old, next)
	s.writeBehind(w, old, next)
	s.pairs(old, next, func(old, next *frontend) {
		s.writeTargets(w, old, next)
		s.writeClasses(w, old, next)
		s.writeDrops(w, old, next)
	})
}

// pairs calls f for each frontend with what the kernel holds for it and what it is to hold.
// Without a pool that is nothing.
func (s *state) pairs(old, next *service, f func(old, next *frontend)) {
	var had map[plan.Key]*frontend
	if old != nil {
		had = make(map[plan.Key]*frontend, len(old.frontends))
		for i := range old.frontends {
			had[old.frontends[i].Key] = &old.frontends[i]
		}
	}
	if next != nil {
		for i := range next.frontends {
			n := &next.frontends[i]
			o := had[n.Key]
			delete(had, n.Key)
			if o == nil {
				o = s.takeFrom(n)
			}
			f(o, n)
			s.holders[n.Key] = n.service
		}
	}
	if old != nil {
		for i := range old.frontends {
			if o := &old.frontends[i]; had[o.Key] != nil {
				f(o, &frontend{Key: o.Key})
				delete(s.holders, o.Key)
			}
		}
	}
}

// takeFrom returns what the kernel holds for a frontend that a Service comes to have: that of
// another Service, whose own change is still to come, or nothing.
func (s *state) takeFrom(f *frontend) *frontend {
	if other, held := s.services[s.holders[f.Key]]; held && s.holders[f.Key] != f.service {
		if i := slices.IndexFunc(other.frontends, func(o frontend) bool { return o.Key == f.Key }); i >= 0 {
			taken := other.frontends[i]
			s.services[taken.service] = &service{pools: other.pools, frontends: slices.Delete(slices.Clone(other.frontends), i, i+1)}
			return &taken
		}
	}
	return &nothing
}

// nothing is what the kernel holds for a frontend that nobody has. It is never written to.
var nothing frontend

// writeTargets writes all of a frontend but what leads packets to it.
func (s *state) writeTargets(w writer, old, next *frontend) {
	for _, side := range sides {
		s.writeSlots(w, old, next, side)
	}
	s.writeMarks(w, old, next)
}

// writeMarks writes what is known of a frontend besides its slots, and does not lead packets
// to it.
func (s *state) writeMarks(w writer, old, next *frontend) {
	var key [64]byte
	place := s.placeOf(next)
	for _, r := range old.sources {
		if _, stays := slices.BinarySearchFunc(next.sources, r, comparePrefixes); !stays {
			w.remove(place.sources, appendSource(key[:0], old.Key, r))
		}
	}
	for _, r := range next.sources {
		if _, there := slices.BinarySearchFunc(old.sources, r, comparePrefixes); !there {
			w.put(place.sources, appendSource(key[:0], next.Key, r), nil, "")
		}
	}
	of := appendKey(key[:0], next.Key)
	writeMember(w, place.known, of, old.pool != nil, next.pool != nil)
	switch was, is := old.comment(), next.comment(); {
	case was == is:
	case is == "":
		w.remove(place.connections, of)
	case was == "":
		w.put(place.connections, of, nil, is)
	default:
		replace(w, place.connections, of, nil, is)
	}
}

// writeDrops writes whether packets are dropped that nobody translates. That comes after what
// leads packets to endpoints, and goes before it: those in between are refused, as long as the
// kernel does not drop them.
func (s *state) writeDrops(w writer, old, next *frontend) {
	var key [64]byte
	writeMember(w, s.placeOf(next).drops, appendKey(key[:0], next.Key), old.drops, next.drops)
}

func writeMember(w writer, set *set, key []byte, had, has bool) {
	switch {
	case had && !has:
		w.remove(set, key)
	case !had && has:
		w.put(set, key, nil, "")
	}
}

func comparePrefixes(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}

// slots are those of a frontend on one side.
func (f *frontend) slots(of side) []netip.AddrPort { return *f.slotsOf(of) }

func (f *frontend) slotsOf(of side) *[]netip.AddrPort {
	switch of {
	case far:
		return &f.far
	case loopback:
		return &f.loopback
	}
	return &f.near
}

// member is the number of the one in a slot, 0 if the clients of the frontend are not remembered.
func (f *frontend) member(e netip.AddrPort) uint32 {
	if f.pool == nil {
		return 0
	}
	return f.pool.members[e].number
}

func (s *state) placeOf(f *frontend) *place { return s.schema.placeOf(f.At.Addr().IsUnspecified()) }

func (s *state) writeSlots(w writer, old, next *frontend, side side) {
	before, after := old.slots(side), next.slots(side)
	for i := range max(len(before), len(after)) {
		var had, has netip.AddrPort
		if i < len(before) {
			had = before[i]
		}
		if i < len(after) {
			has = after[i]
		}
		s.writeSlot(w, slot{next.Key, side, i}, inSlot{had, old.member(had)}, inSlot{has, next.member(has)})
	}
}

// slot is one of a frontend, on one side.
type slot struct {
	of   plan.Key
	side side
	at   int
}

// inSlot is what is in a slot; the zero value: nothing.
type inSlot struct {
	endpoint netip.AddrPort
	member   uint32
}

func (s *state) writeSlot(w writer, at slot, had, has inSlot) {
	var buf, data [64]byte
	place := s.schema.placeOf(at.of.At.Addr().IsUnspecified())
	key := appendSlot(buf[:0], at.of, at.side, at.at)
	if had.endpoint != has.endpoint {
		switch {
		case !has.endpoint.IsValid():
			w.remove(place.endpoints, key)
		case !had.endpoint.IsValid():
			w.put(place.endpoints, key, appendAddrPort(data[:0], has.endpoint), "")
		default:
			replace(w, place.endpoints, key, appendAddrPort(data[:0], has.endpoint), "")
		}
		s.refer(w, had.endpoint.Addr(), -1)
		s.refer(w, has.endpoint.Addr(), 1)
	}
	writeNumber(w, place.slots, key, had.member, has.member)
}

// refer counts the slots that an address is in, and keeps it in hairpin while there are any.
// Virtual servers are nobody's source.
func (s *state) refer(w writer, a netip.Addr, by int32) {
	if !a.IsValid() || s.virtual.Contains(a) {
		return
	}
	var key [32]byte
	bytes := a.As16()
	now := s.hairpin[bytes] + by
	switch pair := appendAddr(appendAddr(key[:0], a), a); {
	case now == 0:
		delete(s.hairpin, bytes)
		w.remove(s.schema.hairpin, pair)
		return
	case now == 1 && by > 0:
		w.put(s.schema.hairpin, pair, nil, "")
	}
	s.hairpin[bytes] = now
}

// writeNumber writes an element whose data is a number; 0 is none.
func writeNumber(w writer, set *set, key []byte, had, has uint32) {
	var data [4]byte
	switch {
	case had == has:
	case has == 0:
		w.remove(set, key)
	case had == 0:
		w.put(set, key, appendNumber(data[:0], has), "")
	default:
		replace(w, set, key, appendNumber(data[:0], has), "")
	}
}

// writeMembers writes where members are. Their clients expire by themselves.
func (s *state) writeMembers(w writer, old, next *service) {
	for _, local := range []bool{false, true} {
		s.writeMembersOf(w, s.schema.membersOf(local), old, next, local)
	}
	stay := next.numbersOfPools()
	for number := range old.numbersOfPools() {
		if !stay[number] {
			s.poolNumbers.release(number >> memberBits)
		}
	}
}

func (s *state) writeMembersOf(w writer, set *set, old, next *service, local bool) {
	var key, data [32]byte
	before, after := old.memberNumbers(local), next.memberNumbers(local)
	for _, p := range old.allPools() {
		for _, m := range p.memberList(local) {
			if !after[m.number] {
				w.remove(set, appendProtocol(appendNumber(key[:0], m.number), p.protocol))
			}
		}
	}
	for _, p := range next.allPools() {
		for _, m := range p.memberList(local) {
			if !before[m.number] {
				w.put(set, appendProtocol(appendNumber(key[:0], m.number), p.protocol), appendAddrPort(data[:0], m.at), "")
			}
		}
	}
}

func (s *service) allPools() []*pool {
	if s == nil {
		return nil
	}
	return s.pools
}

// numbersOfPools are the numbers of those with client affinity.
func (s *service) numbersOfPools() map[uint32]bool {
	var out map[uint32]bool
	for _, p := range s.allPools() {
		if p.number != 0 {
			if out == nil {
				out = make(map[uint32]bool)
			}
			out[p.number] = true
		}
	}
	return out
}

func (s *service) memberNumbers(local bool) map[uint32]bool {
	var out map[uint32]bool
	for _, p := range s.allPools() {
		for _, m := range p.members {
			if !m.isFor(local) {
				continue
			}
			if out == nil {
				out = make(map[uint32]bool)
			}
			out[m.number] = true
		}
	}
	return out
}

// writeClasses writes what leads packets to a frontend.
func (s *state) writeClasses(w writer, old, next *frontend) {
	var key [32]byte
	of, place := appendKey(key[:0], next.Key), s.placeOf(next)
	for _, c := range []struct {
		set      *set
		had, has uint32
	}{{place.inside, old.inside, next.inside}, {place.class, old.class, next.class}} {
		writeNumber(w, c.set, of, c.had, c.has)
		s.use(c.had, -1)
		s.use(c.has, 1)
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
