package iptables

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// trie arranges the rules of a place so that a packet passes few of them. Up to
// leafSize they are in its one chain, as kube-proxy has them. Beyond, a chain holds
// jumps by the next four bits in which its addresses differ, so each packet passes
// at most 16 rules for each such step and leafSize in the last. The shape depends on
// the rules alone, not on the way that led to them.
//
// Its chains are written whole, so to write one again changes nothing, and of
// thousands of rules that go none has to be searched for.
type trie struct {
	at   place
	root node
	flat []string // sorted: rules for no address, such as those of NodePorts
	tail []string // the last rules of the place

	// What is different since the last call of changes.
	changed map[netip.Prefix]*node
	removed map[netip.Prefix]bool
}

// leafSize is how many rules a chain holds before it is split.
const leafSize = 32

// node is one chain: a leaf with entries, or an inner one with children.
type node struct {
	slot     netip.Prefix // the addresses that lead here, as the jump to it says
	count    int          // entries here and below
	entries  []entry      // of a leaf, sorted
	branch   int          // bits that all addresses of an inner node share, a multiple of 4
	children []*node      // sorted by slot, which has branch+4 bits
}

// entry is a rule for packets to an address.
type entry struct {
	addr netip.Addr
	rule string
}

func (e entry) compare(o entry) int {
	return cmp.Or(e.addr.Compare(o.addr), strings.Compare(e.rule, o.rule))
}

// newTrie returns a trie of the rules, all of which count as changed.
func newTrie(at place, rules, tail []string, any netip.Prefix) *trie {
	t := &trie{at: at, root: node{slot: any}, tail: tail, changed: make(map[netip.Prefix]*node), removed: make(map[netip.Prefix]bool)}
	var entries []entry
	for _, rule := range rules {
		if addr := destination(rule); addr.IsValid() {
			entries = append(entries, entry{addr, rule})
		} else {
			t.flat = append(t.flat, rule)
		}
	}
	slices.Sort(t.flat)
	t.flat = slices.Compact(t.flat)
	slices.SortFunc(entries, entry.compare)
	t.build(&t.root, slices.Compact(entries))
	return t
}

// destination is the address that a rule is for, invalid if it is for none.
func destination(rule string) netip.Addr {
	rest, found := strings.CutPrefix(rule, "-d ")
	if !found {
		return netip.Addr{}
	}
	text, _, _ := strings.Cut(rest, "/")
	addr, _ := netip.ParseAddr(text)
	return addr
}

// build makes a node of sorted entries.
func (t *trie) build(n *node, entries []entry) {
	t.touch(n)
	n.count, n.entries, n.children = len(entries), nil, nil
	if len(entries) <= leafSize || entries[0].addr == entries[len(entries)-1].addr {
		n.entries = entries
		return
	}
	n.branch = shared4(entries[0].addr, entries[len(entries)-1].addr)
	for len(entries) > 0 {
		slot := netip.PrefixFrom(entries[0].addr, n.branch+4).Masked()
		end := 0
		for end < len(entries) && slot.Contains(entries[end].addr) {
			end++
		}
		child := &node{slot: slot}
		t.build(child, slices.Clip(entries[:end:end]))
		n.children = append(n.children, child)
		entries = entries[end:]
	}
}

// shared4 is how many leading bits two addresses share, in steps of four.
func shared4(a, b netip.Addr) int {
	x, y := a.AsSlice(), b.AsSlice()
	for i := range x {
		switch d := x[i] ^ y[i]; {
		case d == 0:
		case d < 16:
			return 8*i + 4
		default:
			return 8 * i
		}
	}
	return 8 * len(x)
}

func (t *trie) touch(n *node) {
	t.changed[n.slot] = n
	delete(t.removed, n.slot)
}

// forget notes that the chains below a node are gone.
func (t *trie) forget(n *node) {
	for _, child := range n.children {
		delete(t.changed, child.slot)
		t.removed[child.slot] = true
		t.forget(child)
	}
}

// update takes rules out and puts rules in. What is not there is not taken out, and
// what is there is not put in again.
func (t *trie) update(insert, remove []string) {
	for _, group := range t.byAddress(remove) {
		t.remove(&t.root, group)
	}
	for _, group := range t.byAddress(insert) {
		if group = slices.DeleteFunc(group, t.has); len(group) > 0 {
			t.insert(&t.root, group)
		}
	}
	t.updateFlat(insert, remove)
}

// updateFlat takes over the rules that are for no address.
func (t *trie) updateFlat(insert, remove []string) {
	flat := func(rule string) bool { return !destination(rule).IsValid() }
	if !slices.ContainsFunc(insert, flat) && !slices.ContainsFunc(remove, flat) {
		return
	}
	gone := make(map[string]bool)
	for _, rule := range remove {
		gone[rule] = true
	}
	next := slices.DeleteFunc(slices.Clone(t.flat), func(rule string) bool { return gone[rule] })
	for _, rule := range insert {
		if flat(rule) {
			next = append(next, rule)
		}
	}
	slices.Sort(next)
	if next = slices.Compact(next); !slices.Equal(next, t.flat) {
		t.flat = next
		t.touch(&t.root)
	}
}

// byAddress returns the rules that are for addresses, sorted, those for each together.
func (t *trie) byAddress(rules []string) [][]entry {
	var all []entry
	for _, rule := range rules {
		if addr := destination(rule); addr.IsValid() {
			all = append(all, entry{addr, rule})
		}
	}
	slices.SortFunc(all, entry.compare)
	all = slices.Compact(all)
	var groups [][]entry
	for len(all) > 0 {
		end := slices.IndexFunc(all, func(e entry) bool { return e.addr != all[0].addr })
		if end < 0 {
			end = len(all)
		}
		groups, all = append(groups, all[:end:end]), all[end:]
	}
	return groups
}

func (t *trie) hasRule(rule string) bool {
	if addr := destination(rule); addr.IsValid() {
		return t.has(entry{addr, rule})
	}
	_, found := slices.BinarySearch(t.flat, rule)
	return found
}

func (t *trie) has(e entry) bool {
	n := &t.root
	for n.children != nil {
		at, found := n.child(e.addr)
		if !found {
			return false
		}
		n = n.children[at]
	}
	_, found := slices.BinarySearchFunc(n.entries, e, entry.compare)
	return found
}

// insert adds entries, sorted, of one address that are not there.
func (t *trie) insert(n *node, group []entry) {
	addr := group[0].addr
	n.count += len(group)
	if n.children == nil {
		all := slices.Concat(n.entries, group)
		slices.SortFunc(all, entry.compare)
		t.build(n, all)
		return
	}
	if common := shared4(n.any(), addr); common < n.branch {
		// The jumps come too late for this address: one step before them.
		below := &node{slot: netip.PrefixFrom(n.any(), common+4).Masked(), count: n.count - len(group), branch: n.branch, children: n.children}
		t.touch(below)
		n.branch, n.children = common, []*node{below}
		t.touch(n)
	}
	at, found := n.child(addr)
	if !found {
		n.children = slices.Insert(n.children, at, &node{slot: netip.PrefixFrom(addr, n.branch+4).Masked()})
		t.touch(n)
	}
	t.insert(n.children[at], group)
}

// child returns where the child for an address is, or is to be.
func (n *node) child(addr netip.Addr) (int, bool) {
	slot := netip.PrefixFrom(addr, n.branch+4).Masked()
	return slices.BinarySearchFunc(n.children, slot, func(c *node, s netip.Prefix) int { return c.slot.Addr().Compare(s.Addr()) })
}

// any returns an address of a node that is not empty.
func (n *node) any() netip.Addr {
	for n.children != nil {
		n = n.children[0]
	}
	return n.entries[0].addr
}

// remove takes entries of one address out, and returns how many were there.
func (t *trie) remove(n *node, group []entry) (removed int) {
	if n.children == nil {
		left := slices.DeleteFunc(slices.Clone(n.entries), func(e entry) bool {
			_, found := slices.BinarySearchFunc(group, e, entry.compare)
			return found
		})
		if removed = len(n.entries) - len(left); removed > 0 {
			t.build(n, left)
		}
		return removed
	}
	at, found := n.child(group[0].addr)
	if !found {
		return 0
	}
	if removed = t.remove(n.children[at], group); removed == 0 {
		return 0
	}
	if n.count -= removed; n.count <= leafSize {
		entries := n.all(nil)
		t.forget(n)
		t.build(n, entries)
		return removed
	}
	if child := n.children[at]; child.count == 0 {
		delete(t.changed, child.slot)
		t.removed[child.slot] = true
		n.children = slices.Delete(n.children, at, at+1)
		t.touch(n)
	}
	if len(n.children) == 1 {
		only := n.children[0]
		delete(t.changed, only.slot)
		t.removed[only.slot] = true
		n.entries, n.branch, n.children = only.entries, only.branch, only.children
		t.touch(n)
	}
	return removed
}

func (n *node) all(entries []entry) []entry {
	entries = append(entries, n.entries...)
	for _, child := range n.children {
		entries = child.all(entries)
	}
	return entries
}

// changes returns the chains to write, those first that others lead to, and the
// ones that nothing leads to any more.
func (t *trie) changes() (write []chain, remove []string) {
	nodes := make([]*node, 0, len(t.changed))
	for _, n := range t.changed {
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, func(a, b *node) int {
		return cmp.Or(cmp.Compare(b.slot.Bits(), a.slot.Bits()), a.slot.Addr().Compare(b.slot.Addr()))
	})
	for _, n := range nodes {
		write = append(write, t.chain(n))
	}
	for slot := range t.removed {
		remove = append(remove, t.chainOf(slot))
	}
	slices.Sort(remove)
	clear(t.changed)
	clear(t.removed)
	return write, remove
}

// chainOf names the chain for a range of addresses.
func (t *trie) chainOf(slot netip.Prefix) string {
	if slot.Bits() == 0 {
		return shared[t.at].chain
	}
	return shared[t.at].ranges + hash(slot.String())
}

func (t *trie) chain(n *node) chain {
	c := chain{name: t.chainOf(n.slot)}
	for _, e := range n.entries {
		c.add(e.rule)
	}
	for _, child := range n.children {
		c.add("-d " + child.slot.String() + " " + comment("services in "+child.slot.String()) + " -j " + t.chainOf(child.slot))
	}
	if n == &t.root {
		c.rules = append(append(c.rules, t.flat...), t.tail...)
	}
	return c
}
