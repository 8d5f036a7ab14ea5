// Package addrs finds things by their IP addresses, and reads and writes addresses as
// DNS names spell them.
//
// A Table maps addresses to values. It is a persistent prefix tree, as a routing table
// is: 43.10.in-addr.arpa stands for 10.43.0.0/16, and a server has to tell whether
// anything is below it (RFC 8020: NODATA if there is, else NXDOMAIN). A change copies
// the nodes above one address and shares the rest. So all addresses of an Edit become
// visible together, and who has loaded a Tree goes on reading the state it began with.
//
// The tree is our own because of what it copies. It branches on six bits and keeps 64
// addresses in one list. An address that moves costs about 15 allocations and 3 kB.
// gaissmai/bart branches on eight bits and clones each entry of a node by itself. It
// took up to 530 allocations and 30 kB, and three times the memory for the addresses of
// a cluster.
//
// The package knows neither Services nor zones, and makes no DNS records.
//
// Start with Table and ParseReverse.
package addrs

import (
	"iter"
	"net/netip"
	"slices"
	"sync/atomic"
)

// Table maps addresses to values. Readers see a change when it is committed, and
// whole. The zero value is empty.
type Table[V any] struct {
	current atomic.Pointer[Tree[V]]
	edits   uint64 // how many were begun
}

// Load returns the present state.
func (t *Table[V]) Load() *Tree[V] { return t.current.Load() }

// Tree is a state of a Table. It never changes; nil is an empty one. Addresses of IPv4
// are none of IPv6 in any form.
type Tree[V any] struct{ ipv4, ipv6 *subtree[V] }

func (t *Tree[V]) root(ip netip.Addr) **subtree[V] {
	if ip.Is4() {
		return &t.ipv4
	}
	return &t.ipv6
}

// Get returns what an address has.
func (t *Tree[V]) Get(ip netip.Addr) (value V, found bool) {
	if t == nil || !ip.IsValid() {
		return value, false
	}
	return (*t.root(ip)).get(numberOf(ip))
}

// HasIn reports whether an address in the prefix has a value.
func (t *Tree[V]) HasIn(prefix netip.Prefix) bool {
	if t == nil || !prefix.IsValid() {
		return false
	}
	ip := prefix.Addr()
	return (*t.root(ip)).hasIn(numberOf(ip), uint8(ip.BitLen()-prefix.Bits()))
}

// All returns the addresses that have a value, in order.
func (t *Tree[V]) All() iter.Seq2[netip.Addr, V] {
	return func(yield func(netip.Addr, V) bool) {
		if t != nil && t.ipv4.each(func(k number, v V) bool { return yield(k.ipv4(), v) }) {
			t.ipv6.each(func(k number, v V) bool { return yield(k.ipv6(), v) })
		}
	}
}

// Edit is a change to a Table that readers do not see yet.
type Edit[V any] struct {
	table  *Table[V]
	number uint64
	next   Tree[V]
	unseen bool
}

// Edit begins a change, for one writer at a time.
func (t *Table[V]) Edit() *Edit[V] {
	t.edits++
	e := &Edit[V]{table: t, number: t.edits}
	if now := t.Load(); now != nil {
		e.next = *now
	}
	e.unseen = e.next == Tree[V]{}
	return e
}

// Unseen reports whether no reader has seen anything of the table, as in a first load.
func (e *Edit[V]) Unseen() bool { return e.unseen }

// Get returns what an address has after the change.
func (e *Edit[V]) Get(ip netip.Addr) (V, bool) { return e.next.Get(ip) }

// Put gives an address a value, in place of that which it may have.
func (e *Edit[V]) Put(ip netip.Addr, value V) {
	root := e.next.root(ip)
	*root = (*root).put(numberOf(ip), value, e.number)
}

// Remove takes the value of an address away, if it has one.
func (e *Edit[V]) Remove(ip netip.Addr) {
	if ip.IsValid() {
		root := e.next.root(ip)
		*root = (*root).remove(numberOf(ip), e.number)
	}
}

// Commit ends the change and shows it to readers.
func (e *Edit[V]) Commit() {
	if now := e.table.Load(); now == nil || *now != e.next {
		e.table.current.Store(&e.next)
	}
}

// Hold adds to those who have an address. Mostly there is one; there are more at a
// node, whose address its pods share.
func Hold[T any](e *Edit[[]*T], ip netip.Addr, holder *T) {
	all, _ := e.Get(ip)
	e.Put(ip, append(slices.Clip(all), holder))
}

// Release takes one from those who have an address.
func Release[T any](e *Edit[[]*T], ip netip.Addr, holder *T) {
	all, _ := e.Get(ip)
	all = slices.DeleteFunc(slices.Clone(all), func(h *T) bool { return h == holder })
	if len(all) == 0 {
		e.Remove(ip)
		return
	}
	e.Put(ip, slices.Clip(all))
}
