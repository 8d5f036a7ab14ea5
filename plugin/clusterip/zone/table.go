package zone

import (
	"iter"
	"net/netip"
	"sync/atomic"
)

// table maps addresses to values. Readers see a change once it is published, and
// whole; it copies only the path to each address it touches. The zero value is empty.
type table[V any] struct {
	published atomic.Pointer[tree[V]]
}

// get returns what an address has.
func (t *table[V]) get(ip netip.Addr) (value V, found bool) {
	if published := t.published.Load(); published != nil {
		return published.get(ip)
	}
	return value, false
}

// hasIn reports whether an address in the prefix has a value.
func (t *table[V]) hasIn(prefix netip.Prefix) bool {
	published := t.published.Load()
	if published == nil || !prefix.IsValid() {
		return false
	}
	ip := prefix.Addr()
	return (*published.root(ip)).hasIn(numberOf(ip), uint8(ip.BitLen()-prefix.Bits()))
}

// edit begins a change, for one writer at a time.
func (t *table[V]) edit() *edit[V] {
	e := new(edit[V])
	if published := t.published.Load(); published != nil {
		e.next = *published
	}
	e.unseen = e.next == tree[V]{}
	return e
}

// publish ends a change.
func (t *table[V]) publish(e *edit[V]) {
	if published := t.published.Load(); published == nil || *published != e.next {
		t.published.Store(&e.next)
	}
}

// tree is a state of a table.
type tree[V any] struct{ ipv4, ipv6 *subtree[V] }

func (t *tree[V]) root(ip netip.Addr) **subtree[V] {
	if ip.Is4() {
		return &t.ipv4
	}
	return &t.ipv6
}

func (t *tree[V]) get(ip netip.Addr) (value V, found bool) {
	if !ip.IsValid() {
		return value, false
	}
	return (*t.root(ip)).get(numberOf(ip))
}

// all returns the addresses that have a value, in order.
func (t *tree[V]) all() iter.Seq2[netip.Addr, V] {
	return func(yield func(netip.Addr, V) bool) {
		if t.ipv4.each(func(k number, v V) bool { return yield(k.ipv4(), v) }) {
			t.ipv6.each(func(k number, v V) bool { return yield(k.ipv6(), v) })
		}
	}
}

// edit is a change to a table that readers do not see yet.
type edit[V any] struct {
	next tree[V]
	// unseen is set when no reader has seen any of it, so that the first load
	// need not copy.
	unseen bool
}

func (e *edit[V]) get(ip netip.Addr) (V, bool) { return e.next.get(ip) }

func (e *edit[V]) put(ip netip.Addr, value V) {
	root := e.next.root(ip)
	*root = (*root).put(numberOf(ip), value, e.unseen)
}

func (e *edit[V]) remove(ip netip.Addr) {
	if ip.IsValid() {
		root := e.next.root(ip)
		*root = (*root).remove(numberOf(ip), e.unseen)
	}
}
