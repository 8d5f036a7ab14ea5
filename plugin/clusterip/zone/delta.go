package zone

import (
	"cmp"
	"maps"
	"slices"

	"github.com/miekg/dns"
)

// Delta is the difference between two states of a zone: records that went and
// records that came, none in both. The zero value is no difference.
type Delta struct {
	gone, come map[string]dns.RR // by text
}

// Change is how what a transfer of a zone carries has become different.
//
// With the transfer plugin, and only then, Changes are made and remembered; an IXFR
// client gets the sum since its serial. A reload forgets them and begins a new serial,
// since the same objects may be served with other options.
type Change struct {
	Zone *Zone
	Delta
}

// Add takes over one more step: records that go, then records that come.
func (d *Delta) Add(gone, come []dns.RR) {
	if d.gone == nil {
		d.gone, d.come = make(map[string]dns.RR), make(map[string]dns.RR)
	}
	for _, rr := range gone {
		move(rr, d.come, d.gone)
	}
	for _, rr := range come {
		move(rr, d.gone, d.come)
	}
}

// move takes a record back from one side or, if it is not there, puts it on the
// other.
func move(rr dns.RR, from, to map[string]dns.RR) {
	text := rr.String()
	if _, there := from[text]; there {
		delete(from, text)
		return
	}
	to[text] = rr
}

// Gone returns the records that went, in order.
func (d *Delta) Gone() []dns.RR { return inOrder(d.gone) }

// Come returns the records that came, in order.
func (d *Delta) Come() []dns.RR { return inOrder(d.come) }

func inOrder(records map[string]dns.RR) []dns.RR {
	out := make([]dns.RR, 0, len(records))
	for _, text := range slices.Sorted(maps.Keys(records)) {
		out = append(out, records[text])
	}
	return out
}

// tracker collects the Changes of one Apply. A nil tracker collects nothing.
type tracker struct {
	index   *Index
	changes []Change // one for each zone
	before  [][]dns.RR
}

func (x *Index) track() *tracker {
	if !x.tracked {
		return nil
	}
	t := &tracker{index: x}
	for _, z := range x.zones {
		t.changes = append(t.changes, Change{Zone: z})
		t.before = append(t.before, z.glue())
	}
	return t
}

// end returns the Changes of the zones that have any.
func (t *tracker) end() []Change {
	if t == nil {
		return nil
	}
	for i, z := range t.index.zones {
		t.replaced(t.before[i], z.glue())
	}
	return slices.DeleteFunc(t.changes, func(c Change) bool { return len(c.gone)+len(c.come) == 0 })
}

// replaced takes over that the records at one name have become others.
func (t *tracker) replaced(before, after []dns.RR) {
	if t == nil || slices.EqualFunc(before, after, sameRecord) {
		return
	}
	owner := slices.Concat(before, after)[0].Header().Name
	for i, z := range t.index.zones {
		if z == t.index.Match(owner) {
			t.changes[i].Add(before, after)
		}
	}
}

func sameRecord(a, b dns.RR) bool { return a.Header().Ttl == b.Header().Ttl && dns.IsDuplicate(a, b) }

// recompiled takes over that a Service has other records in a zone, none for nil. Those
// whose names are in a zone below that one are not in its transfers, nor in the
// other's.
func (t *tracker) recompiled(z *Zone, before, after *Records) {
	if t == nil {
		return
	}
	old, now := before.sets(), after.sets()
	for len(old) > 0 || len(now) > 0 {
		var order int
		switch {
		case len(old) == 0:
			order = 1
		case len(now) == 0:
			order = -1
		default:
			order = compareSets(old[0], now[0])
		}
		var gone, come []dns.RR
		if order <= 0 {
			gone, old = old[0].records, old[1:]
		}
		if order >= 0 {
			come, now = now[0].records, now[1:]
		}
		if owner := slices.Concat(gone, come)[0].Header().Name; t.index.Match(owner) == z {
			t.replaced(gone, come)
		}
	}
}

// compareSets sorts sets by owner and type.
func compareSets(a, b rrset) int {
	return cmp.Or(cmp.Compare(a.records[0].Header().Name, b.records[0].Header().Name), int(a.qtype)-int(b.qtype))
}
