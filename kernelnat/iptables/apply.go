package iptables

import (
	"slices"

	"github.com/clusterip/clusterip/kernelnat"
)

// delta is the way from one rendering to another. Several can be added up.
type delta struct {
	write          []chain // in nat
	remove         []string
	insert, delete [places][]rule
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

// without returns the rules of a that are not in b.
func without(a, b []rule) []rule {
	if len(b) == 0 {
		return a
	}
	in := make(map[string]bool, len(b))
	for _, r := range b {
		in[r.text] = true
	}
	var out []rule
	for _, r := range a {
		if !in[r.text] {
			out = append(out, r)
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

// changeScripts yields the input that makes the changes, in transactions of about so
// many chains, each with whole Services; nothing if there is nothing to change. It
// takes the rules of shared chains over into the arrangement.
func changeScripts(changes []kernelnat.Change, a *arrangement, chains int) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		var s script
		var d delta
		for _, c := range changes {
			d.add(difference(render(c.Old), render(c.New)))
			if len(d.write)+len(d.remove) < chains {
				continue
			}
			s.change(d, a)
			d = delta{}
			if s.buf.Len() >= runSize {
				if !yield(s.buf.Bytes()) {
					return
				}
				s.buf.Reset()
			}
		}
		if s.change(d, a); s.buf.Len() > 0 {
			yield(s.buf.Bytes())
		}
	}
}

// change writes a delta. Rules that refuse are there before a Service stops being
// translated, and until it is: in between, packets would leave the node for the
// ClusterIP.
func (s *script) change(d delta, a *arrangement) {
	var none [places][]rule
	write, gone := a.update(tableFilter, d.insert, none)
	s.transaction(tableFilter, write, gone)
	write, gone = a.update(tableNAT, d.insert, d.delete)
	s.transaction(tableNAT, append(d.write, write...), append(gone, d.remove...))
	write, gone = a.update(tableFilter, none, d.delete)
	s.transaction(tableFilter, write, gone)
}

// transaction writes chains and removes others, if there are any.
func (s *script) transaction(table string, write []chain, remove []string) {
	if len(write)+len(remove) == 0 {
		return
	}
	s.beginTable(table)
	s.write(write...)
	s.remove(remove...)
	s.commit()
}
