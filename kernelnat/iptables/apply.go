package iptables

import (
	"slices"

	"github.com/clusterip/clusterip/kernelnat"
)

// delta is the way from one rendering to another. Several can be added up.
type delta struct {
	write          []chain // in nat
	remove         []string
	insert, delete [places][]string
}

func difference(old, new rendering) delta {
	have := make(map[string][]string, len(old.chains))
	for _, c := range old.chains {
		have[c.name] = c.rules
	}
	var d delta
	for _, c := range new.chains {
		if rules, ok := have[c.name]; !ok || !slices.Equal(rules, c.rules) {
			d.write = append(d.write, c)
		}
		delete(have, c.name)
	}
	for _, c := range old.chains {
		if _, gone := have[c.name]; gone {
			d.remove = append(d.remove, c.name)
		}
	}
	for p := range places {
		d.insert[p], d.delete[p] = without(new.shared[p], old.shared[p]), without(old.shared[p], new.shared[p])
	}
	return d
}

// without returns the elements of a that are not in b.
func without(a, b []string) []string {
	var out []string
	for _, s := range a {
		if !slices.Contains(b, s) {
			out = append(out, s)
		}
	}
	return out
}

func (d *delta) add(o delta) {
	d.write = append(d.write, o.write...)
	d.remove = append(d.remove, o.remove...)
	for p := range places {
		d.insert[p] = append(d.insert[p], o.insert[p]...)
		d.delete[p] = append(d.delete[p], o.delete[p]...)
	}
}

// changeScript returns the input that makes the changes, in transactions of about
// so many chains, each with whole Services; nothing if there is nothing to change.
// It takes the dispatch rules over into the trie.
func changeScript(changes []kernelnat.Change, dispatch *trie, chains int) []byte {
	var s script
	var d delta
	for _, c := range changes {
		d.add(difference(render(c.Old), render(c.New)))
		if len(d.write)+len(d.remove) >= chains {
			s.change(d.dispatched(dispatch))
			d = delta{}
		}
	}
	s.change(d.dispatched(dispatch))
	return s.buf.Bytes()
}

// dispatched has the chains that the trie makes of the dispatch rules in place of
// those rules.
func (d delta) dispatched(dispatch *trie) delta {
	dispatch.update(d.insert[natServices], d.delete[natServices])
	write, remove := dispatch.changes()
	d.write, d.remove = append(d.write, write...), append(remove, d.remove...)
	d.insert[natServices], d.delete[natServices] = nil, nil
	return d
}

// change writes a delta. Rules that refuse are there before a Service stops being
// translated, and until it is: in between, packets would leave the node for the
// ClusterIP.
func (s *script) change(d delta) {
	s.rules(tableFilter, d.insert, s.insert)
	if len(d.write)+len(d.remove) > 0 || !empty(tableNAT, d.insert) || !empty(tableNAT, d.delete) {
		s.beginTable(tableNAT)
		s.write(d.write...)
		s.eachRule(tableNAT, d.insert, s.insert)
		s.eachRule(tableNAT, d.delete, s.deleteRule)
		s.remove(d.remove...)
		s.commit()
	}
	s.rules(tableFilter, d.delete, s.deleteRule)
}

// rules writes a transaction of the rules of one table, if there are any.
func (s *script) rules(table string, rules [places][]string, write func(chain, rule string)) {
	if empty(table, rules) {
		return
	}
	s.beginTable(table)
	s.eachRule(table, rules, write)
	s.commit()
}

func (s *script) eachRule(table string, rules [places][]string, write func(chain, rule string)) {
	for p, at := range shared {
		if at.table != table {
			continue
		}
		for _, rule := range rules[p] {
			write(at.chain, rule)
		}
	}
}

func empty(table string, rules [places][]string) bool {
	for p, at := range shared {
		if at.table == table && len(rules[p]) > 0 {
			return false
		}
	}
	return true
}
