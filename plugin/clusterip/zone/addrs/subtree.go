package addrs

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"
)

// stride is how many bits of an address a subtree branches on: one for each bit of a
// word. Wider ones would copy more for a change of one address, narrower ones make
// its path longer.
const stride = 6

// subtree has addresses that differ in their lowest shift+stride bits alone: a leaf
// if shift is 0, else a branch. Nothing in a tree is empty, and no branch has a single
// child; nil is what has no addresses.
//
// Methods that change a subtree return what takes its place. They change it in place only if
// it was made in the same edit: then no reader can reach it, nor the list that it was made with.
type subtree[V any] struct {
	some    number // one of the addresses, or one that was
	present uint64 // what the stride bits above shift can be
	shift   uint8  // a multiple of stride
	edit    uint64 // in which it was made
	below   []*subtree[V]
	values  []V
}

// number is an address as one, of 32 or 128 bits.
type number struct{ hi, lo uint64 }

func numberOf(ip netip.Addr) number {
	if ip.Is4() {
		b := ip.As4()
		return number{lo: uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := ip.As16()
	return number{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (k number) ipv4() netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(k.lo))
	return netip.AddrFrom4(b)
}

func (k number) ipv6() netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], k.hi)
	binary.BigEndian.PutUint64(b[8:], k.lo)
	return netip.AddrFrom16(b)
}

// slot returns the stride bits above shift. In Go, to shift by 64 or more makes 0, and
// a negative distance wraps to more than that.
func (k number) slot(shift uint8) uint8 {
	return uint8(k.lo>>shift|k.hi<<(64-shift)|k.hi>>(shift-64)) & (1<<stride - 1)
}

// differ returns how many of their lowest bits two numbers must lose to be the same.
func differ(a, b number) uint8 {
	if high := a.hi ^ b.hi; high != 0 {
		return uint8(64 + bits.Len64(high))
	}
	return uint8(bits.Len64(a.lo ^ b.lo))
}

// covers reports whether an address belongs into the subtree.
func (s *subtree[V]) covers(k number) bool { return differ(s.some, k) <= s.shift+stride }

// place returns where in its list a slot is, or would be.
func (s *subtree[V]) place(slot uint8) (i int, present bool) {
	return bits.OnesCount64(s.present & (1<<slot - 1)), s.present>>slot&1 == 1
}

// child returns that which an address is in, if it is in the branch.
func (s *subtree[V]) child(k number) *subtree[V] {
	if i, present := s.place(k.slot(s.shift)); present {
		return s.below[i]
	}
	return nil
}

// get compares the whole address once, in the leaf.
func (s *subtree[V]) get(k number) (value V, found bool) {
	for s != nil && s.shift > 0 {
		s = s.child(k)
	}
	if s == nil || !s.covers(k) {
		return value, false
	}
	i, present := s.place(k.slot(0))
	if !present {
		return value, false
	}
	return s.values[i], true
}

// hasIn reports whether there is an address that differs from k in the free lowest
// bits alone.
func (s *subtree[V]) hasIn(k number, free uint8) bool {
	for s != nil && s.shift > 0 && s.shift >= free {
		s = s.child(k)
	}
	switch {
	case s == nil || differ(s.some, k) > max(free, s.shift+stride):
		return false
	case free >= s.shift+stride:
		return true
	}
	count := uint8(1) << (free - s.shift)
	first := k.slot(s.shift) &^ (count - 1)
	return s.present>>first&(1<<count-1) != 0
}

// each calls f for all addresses in order, until it returns false.
func (s *subtree[V]) each(f func(number, V) bool) bool {
	if s == nil {
		return true
	}
	for _, child := range s.below {
		if !child.each(f) {
			return false
		}
	}
	slots, k := s.present, s.some
	for _, value := range s.values {
		k.lo = k.lo&^(1<<stride-1) | uint64(bits.TrailingZeros64(slots))
		if !f(k, value) {
			return false
		}
		slots &= slots - 1
	}
	return true
}

func (s *subtree[V]) put(k number, value V, edit uint64) *subtree[V] {
	switch {
	case s == nil:
		return newLeaf(k, value, edit)
	case !s.covers(k):
		return fork(s, newLeaf(k, value, edit), edit)
	}
	s, unseen := s.writable(edit)
	slot := k.slot(s.shift)
	i, present := s.place(slot)
	s.present |= 1 << slot
	switch {
	case s.shift == 0 && present:
		s.values = replaced(s.values, i, value, unseen)
	case s.shift == 0:
		s.values = inserted(s.values, i, value, unseen)
	case present:
		s.below = replaced(s.below, i, s.below[i].put(k, value, edit), unseen)
	default:
		s.below = inserted(s.below, i, newLeaf(k, value, edit), unseen)
	}
	return s
}

func newLeaf[V any](k number, value V, edit uint64) *subtree[V] {
	return &subtree[V]{some: k, edit: edit, present: 1 << k.slot(0), values: []V{value}}
}

// fork returns the branch of two subtrees of which neither covers the other's
// addresses.
func fork[V any](a, b *subtree[V], edit uint64) *subtree[V] {
	shift := (differ(a.some, b.some) - 1) / stride * stride
	if a.some.slot(shift) > b.some.slot(shift) {
		a, b = b, a
	}
	return &subtree[V]{
		some: a.some, shift: shift, edit: edit, below: []*subtree[V]{a, b},
		present: 1<<a.some.slot(shift) | 1<<b.some.slot(shift),
	}
}

func (s *subtree[V]) remove(k number, edit uint64) *subtree[V] {
	if _, found := s.get(k); !found {
		return s
	}
	return s.cut(k, edit)
}

// cut removes an address that is there.
func (s *subtree[V]) cut(k number, edit uint64) *subtree[V] {
	slot := k.slot(s.shift)
	i, _ := s.place(slot)
	var rest *subtree[V]
	if s.shift > 0 {
		rest = s.below[i].cut(k, edit)
	}
	switch {
	case rest == nil && len(s.values) == 1:
		return nil
	case rest == nil && len(s.below) == 2:
		return s.below[1-i]
	}
	s, unseen := s.writable(edit)
	switch {
	case rest != nil:
		s.below = replaced(s.below, i, rest, unseen)
		return s
	case s.shift > 0:
		s.below = dropped(s.below, i, unseen)
	default:
		s.values = dropped(s.values, i, unseen)
	}
	s.present &^= 1 << slot
	return s
}

// writable returns the subtree itself if it was made in this edit, else a copy. The copy's
// list is still that of the subtree, which readers see.
func (s *subtree[V]) writable(edit uint64) (w *subtree[V], unseen bool) {
	if s.edit == edit {
		return s, true
	}
	c := *s
	c.edit = edit
	return &c, false
}

// replaced, inserted and dropped change a list in place if it is unseen, else a copy,
// which has no spare capacity.
func replaced[E any](list []E, i int, e E, unseen bool) []E {
	if !unseen {
		list = slices.Clone(list)
	}
	list[i] = e
	return list
}

func inserted[E any](list []E, i int, e E, unseen bool) []E {
	if unseen {
		return slices.Insert(list, i, e)
	}
	c := make([]E, len(list)+1)
	copy(c, list[:i])
	c[i] = e
	copy(c[i+1:], list[i:])
	return c
}

func dropped[E any](list []E, i int, unseen bool) []E {
	if unseen {
		return slices.Delete(list, i, i+1)
	}
	return slices.Concat(list[:i], list[i+1:])
}
