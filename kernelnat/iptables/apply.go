package iptables

import (
	"slices"

	"github.com/clusterip/clusterip/kernelnat"
)

// delta is the way from one rendering to another. Several can be added up.
type delta struct {
	write                          []chain // in nat
	remove                         []string
	dispatchInsert, dispatchDelete []string
	filterInsert, filterDelete     []string
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
	d.dispatchInsert, d.dispatchDelete = without(new.dispatch, old.dispatch), without(old.dispatch, new.dispatch)
	d.filterInsert, d.filterDelete = without(new.filter, old.filter), without(old.filter, new.filter)
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
	d.dispatchInsert = append(d.dispatchInsert, o.dispatchInsert...)
	d.dispatchDelete = append(d.dispatchDelete, o.dispatchDelete...)
	d.filterInsert = append(d.filterInsert, o.filterInsert...)
	d.filterDelete = append(d.filterDelete, o.filterDelete...)
}

// changeScript returns the input that makes the changes, in transactions of about
// so many chains, each with whole Services; nothing if there is nothing to change.
func changeScript(changes []kernelnat.Change, chains int) []byte {
	var s script
	var d delta
	for _, c := range changes {
		d.add(difference(render(c.Old), render(c.New)))
		if len(d.write)+len(d.remove) >= chains {
			s.change(d)
			d = delta{}
		}
	}
	s.change(d)
	return s.buf.Bytes()
}

// change writes a delta. Rules that refuse are there before a Service stops being
// translated, and until it is: in between, packets would leave the node for the
// ClusterIP.
func (s *script) change(d delta) {
	if len(d.filterInsert) > 0 {
		s.beginTable(tableFilter)
		for _, rule := range d.filterInsert {
			s.insert(chainServices, rule)
		}
		s.commit()
	}
	if len(d.write)+len(d.remove)+len(d.dispatchInsert)+len(d.dispatchDelete) > 0 {
		s.beginTable(tableNAT)
		s.write(d.write...)
		// At the head: the last rule of KUBE-SERVICES has to stay the last.
		for _, rule := range d.dispatchInsert {
			s.insert(chainServices, rule)
		}
		for _, rule := range d.dispatchDelete {
			s.deleteRule(chainServices, rule)
		}
		s.remove(d.remove...)
		s.commit()
	}
	if len(d.filterDelete) > 0 {
		s.beginTable(tableFilter)
		for _, rule := range d.filterDelete {
			s.deleteRule(chainServices, rule)
		}
		s.commit()
	}
}
