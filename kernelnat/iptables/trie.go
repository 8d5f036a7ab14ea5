package iptables

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// trie arranges the rules of a place so that a packet passes few of them, and so that a
// Service that comes or goes has few of them rewritten. Up to leafSize rules are in one
// chain, as kube-proxy has them. Beyond, a chain holds jumps by the next four bits in
// which its addresses differ: a packet passes at most 16 rules for each such step, and
// leafSize in the last. Both costs grow with the logarithm of the number of rules.
//
// The shape depends on the rules alone, so changes and a fresh start lead to the same
// chains. Chains are written whole, so it does no harm to write one twice, and none of
// thousands of rules that go has to be searched for.
type trie struct {
	at   place
	root node
	flat []rule   // sorted: rules for no address, such as those of NodePorts
	tail []string // the last rules of the place

	// What is different since the last call of changes.
	changed map[netip.Prefix]*node
	removed map[netip.Prefix]bool
}

// leafSize is how many rules a chain holds before it is split, unless all are for one
// address.
const leafSize = 32

// node is one chain: a leaf with entries, or an inner one with children.
type node struct {
	slot     netip.Prefix // the addresses that lead here, as the jump to it says
	count    int          // entries here and below
	entries  []rule       // of a leaf, sorted
	branch   int          // bits that all addresses of an inner node share, a multiple of 4
	children []*node      // sorted by slot, which has branch+4 bits
}

// compare orders rules by address, those for none first.
func (r rule) compare(o rule) int {
	return cmp.Or(r.At.Addr().Compare(o.At.Addr()), strings.Compare(r.text, o.text))
}

// flat reports whether a rule is for no address.
func (r rule) flat() bool { return !r.At.Addr().IsValid() }

// newTrie returns a trie of the rules, all of which count as changed.
func newTrie(at place, rules []rule, tail []string, any netip.Prefix) *trie {
	t := &trie{at: at, root: node{slot: any}, tail: tail, changed: make(map[netip.Prefix]*node), removed: make(map[netip.Prefix]bool)}
	rules = sorted(rules)
	first := slices.IndexFunc(rules, func(r rule) bool { return !r.flat() })
	if first < 0 {
		first = len(rules)
	}
	t.flat = rules[:first:first]
	t.build(&t.root, rules[first:])
	return t
}

// sorted returns the rules sorted, each once.
func sorted(rules []rule) []rule {
	out := slices.Clone(rules)
	slices.SortFunc(out, rule.compare)
	return slices.CompactFunc(out, func(a, b rule) bool { return a.text == b.text })
}

// build makes a node of sorted entries.
func (t *trie) build(n *node, entries []rule) {
	t.touch(n)
	n.count, n.entries, n.children = len(entries), nil, nil
	if len(entries) <= leafSize || entries[0].At.Addr() == entries[len(entries)-1].At.Addr() {
		n.entries = entries
		return
	}
	n.branch = shared4(entries[0].At.Addr(), entries[len(entries)-1].At.Addr())
	for len(entries) > 0 {
		slot := netip.PrefixFrom(entries[0].At.Addr(), n.branch+4).Masked()
		end := 0
		for end < len(entries) && slot.Contains(entries[end].At.Addr()) {
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
func (t *trie) update(insert, remove []rule) {
	for _, group := range byAddress(remove) {
		if group[0].flat() {
			t.setFlat(without(t.flat, group))
		} else {
			t.remove(&t.root, group)
		}
	}
	for _, group := range byAddress(insert) {
		if group[0].flat() {
			t.setFlat(sorted(slices.Concat(t.flat, group)))
		} else if group = slices.DeleteFunc(group, t.has); len(group) > 0 {
			t.insert(&t.root, group)
		}
	}
}

// setFlat replaces the rules that are for no address.
func (t *trie) setFlat(flat []rule) {
	if len(flat) != len(t.flat) { // they only come, or go
		t.flat = flat
		t.touch(&t.root)
	}
}

// byAddress returns rules sorted, those for each address together.
func byAddress(rules []rule) [][]rule {
	all := sorted(rules)
	var groups [][]rule
	for len(all) > 0 {
		end := slices.IndexFunc(all, func(r rule) bool { return r.At.Addr() != all[0].At.Addr() })
		if end < 0 {
			end = len(all)
		}
		groups, all = append(groups, all[:end:end]), all[end:]
	}
	return groups
}

func (t *trie) has(r rule) bool {
	in := t.flat
	if !r.flat() {
		n := &t.root
		for n.children != nil {
			at, found := n.child(r.At.Addr())
			if !found {
				return false
			}
			n = n.children[at]
		}
		in = n.entries
	}
	_, found := slices.BinarySearchFunc(in, r, rule.compare)
	return found
}

// insert adds entries, sorted, of one address that are not there.
func (t *trie) insert(n *node, group []rule) {
	addr := group[0].At.Addr()
	n.count += len(group)
	if n.children == nil {
		all := slices.Concat(n.entries, group)
		slices.SortFunc(all, rule.compare)
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
	return n.entries[0].At.Addr()
}

// remove takes entries of one address out, and returns how many were there.
func (t *trie) remove(n *node, group []rule) (removed int) {
	if n.children == nil {
		left := slices.DeleteFunc(slices.Clone(n.entries), func(e rule) bool {
			_, found := slices.BinarySearchFunc(group, e, rule.compare)
			return found
		})
		if removed = len(n.entries) - len(left); removed > 0 {
			t.build(n, left)
		}
		return removed
	}
	at, found := n.child(group[0].At.Addr())
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

func (n *node) all(entries []rule) []rule {
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
	for _, r := range n.entries {
		c.add(r.text)
	}
	for _, child := range n.children {
		c.add("-d " + child.slot.String() + " " + comment("services in "+child.slot.String()) + " -j " + t.chainOf(child.slot))
	}
	if n == &t.root {
		for _, r := range t.flat {
			c.add(r.text)
		}
		c.rules = append(c.rules, t.tail...)
	}
	return c
}
