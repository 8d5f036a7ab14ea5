package iptables

import "slices"

// arrangement is how the rules that Services have in shared chains, those that refuse
// included, are laid out in the kernel. It is all that a Backend remembers of the rules
// it has written, but for Services whose Work is not done.
type arrangement [places]*trie

// arrange lays rules out; all chains count as changed.
func arrange(rules [places][]rule, d dialect) *arrangement {
	tails := [places][]string{natServices: nodePortRules(d), filterServices: {rangesJump}}
	var a arrangement
	for p := range places {
		a[p] = newTrie(p, rules[p], tails[p], anyAddress(d.family))
	}
	return &a
}

// update takes rules of one table out and puts others in. It returns the chains to
// write, those first that others lead to, and those that nothing leads to any more.
func (a *arrangement) update(table string, insert, remove [places][]rule) (write []chain, gone []string) {
	for p, at := range shared {
		if at.table != table {
			continue
		}
		a[p].update(insert[p], remove[p])
		w, g := a[p].changes()
		write, gone = append(write, w...), append(gone, g...)
	}
	return write, gone
}

// try is update that can be taken back, for a transaction that may be rejected.
func (a *arrangement) try(table string, insert, remove [places][]rule) (write []chain, gone []string, undo func()) {
	var inserted, removed [places][]rule
	for p := range places {
		inserted[p] = slices.DeleteFunc(slices.Clone(insert[p]), a[p].has)
		removed[p] = slices.DeleteFunc(slices.Clone(remove[p]), func(r rule) bool { return !a[p].has(r) })
	}
	write, gone = a.update(table, inserted, removed)
	return write, gone, func() { a.update(table, removed, inserted) }
}
