package zone

import (
	"net/netip"
	"sync/atomic"

	"github.com/gaissmai/bart"
)

// table maps addresses to values. Readers see a change once it is published; it
// copies only the path to each address it touches. The zero value is empty.
type table[V any] struct {
	published atomic.Pointer[bart.Table[V]]
}

// get returns what an address has.
func (t *table[V]) get(ip netip.Addr) (value V, found bool) {
	if published := t.published.Load(); published != nil {
		return published.Get(whole(ip))
	}
	return value, false
}

// hasIn reports whether an address in the prefix has a value. Only single
// addresses are in the table, so overlap with a prefix means one is inside.
func (t *table[V]) hasIn(prefix netip.Prefix) bool {
	published := t.published.Load()
	return published != nil && published.OverlapsPrefix(prefix)
}

func whole(ip netip.Addr) netip.Prefix { return netip.PrefixFrom(ip, ip.BitLen()) }

// edit begins a change, for one writer at a time.
func (t *table[V]) edit() *edit[V] {
	if published := t.published.Load(); published != nil && published.Size() > 0 {
		return &edit[V]{next: published}
	}
	return &edit[V]{next: new(bart.Table[V]), unseen: true}
}

// publish ends a change.
func (t *table[V]) publish(e *edit[V]) { t.published.Store(e.next) }

// edit is a change to a table that readers do not see yet.
type edit[V any] struct {
	next *bart.Table[V]
	// unseen is set when no reader has seen any of it, so that the first load
	// need not copy.
	unseen bool
}

func (e *edit[V]) get(ip netip.Addr) (V, bool) { return e.next.Get(whole(ip)) }

func (e *edit[V]) put(ip netip.Addr, value V) {
	if e.unseen {
		e.next.Insert(whole(ip), value)
	} else {
		e.next = e.next.InsertPersist(whole(ip), value)
	}
}

func (e *edit[V]) remove(ip netip.Addr) {
	if e.unseen {
		e.next.Delete(whole(ip))
	} else {
		e.next = e.next.DeletePersist(whole(ip))
	}
}
