package explain

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/clusterip/clusterip/status"
)

// judged is what a Catalogue knows of the Services of one server block.
type judged struct {
	parts      *Parts
	generation uint64 // of the Store
	base       status.Facts
	families   []status.FamilyFacts // without a plan
	scratch    []status.FamilyFacts // of one Service, with a plan
	entries    map[cluster.ServiceName]*entry
	sorted     []*entry
	frontends  int
	wrong      int
}

// entry is a Service that was judged.
type entry struct {
	service   *cluster.Service
	frontends int
	wrong     bool
	seen      uint64 // the generation in which it was there
}

// refresh returns what is known of a block, up to date.
func (c *Catalogue) refresh(ctx context.Context, p *Parts) *judged {
	before, next := c.judged[p], &judged{parts: p, generation: p.Store.Generation()}
	next.base = status.Facts{DNS: p.Names.DNS(), Source: p.Source()}
	if p.NAT == nil {
		next.base.NoNAT = noNAT
	} else {
		for _, family := range cluster.Families {
			next.families = append(next.families, p.NAT.Facts(ctx, nil, family))
		}
	}
	if before == nil || !sameForAll(before, next) {
		before = &judged{entries: make(map[cluster.ServiceName]*entry)}
	}
	next.entries, next.sorted, next.frontends, next.wrong = before.entries, before.sorted, before.frontends, before.wrong
	if before.generation != next.generation {
		next.follow()
	}
	for name := range doubtful(before, next) {
		if e := next.entries[name]; e != nil {
			next.judge(e)
		}
	}
	c.judged[p] = next
	return next
}

// sameForAll reports whether what every Service is judged by is the same.
func sameForAll(a, b *judged) bool {
	return a.base.Source.Synced == b.base.Source.Synced && slices.EqualFunc(a.families, b.families, func(a, b status.FamilyFacts) bool {
		return a.Backend == b.Backend && (a.NAT.Error == "") == (b.NAT.Error == "") && a.NAT.Node.Equal(b.NAT.Node)
	})
}

// doubtful are the Services of which NAT has told something else than before.
func doubtful(before, now *judged) map[cluster.ServiceName]bool {
	out := make(map[cluster.ServiceName]bool)
	for i := range now.families {
		old, nat := status.NAT{}, &now.families[i].NAT
		if before.families != nil {
			old = before.families[i].NAT
		}
		for _, w := range slices.Concat(old.Waiting, nat.Waiting) {
			out[w.Service] = true
		}
		if !sameSlice(old.Short, nat.Short) {
			for _, s := range slices.Concat(old.Short, nat.Short) {
				out[s.Service] = true
			}
		}
	}
	return out
}

// sameSlice reports whether two slices of what nobody writes to are one.
func sameSlice(a, b []plan.Shortfall) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// follow takes up what the Store has, and judges what is new in it.
func (j *judged) follow() {
	var added bool
	all := j.parts.Store.Services()
	for _, s := range all {
		e := j.entries[s.Name]
		if e == nil {
			e, added = new(entry), true
			j.entries[s.Name] = e
		}
		if e.seen = j.generation; e.service != s {
			e.service = s
			j.judge(e)
		}
	}
	gone := len(j.entries) != len(all)
	if gone {
		maps.DeleteFunc(j.entries, func(_ cluster.ServiceName, e *entry) bool {
			if e.seen != j.generation {
				j.count(e, -1)
			}
			return e.seen != j.generation
		})
	}
	if added || gone {
		j.sorted = slices.AppendSeq(make([]*entry, 0, len(all)), maps.Values(j.entries))
		slices.SortFunc(j.sorted, func(a, b *entry) int { return a.service.Name.Compare(b.service.Name) })
	}
}

// judge says again how it is with a Service.
func (j *judged) judge(e *entry) {
	j.count(e, -1)
	f := j.facts(e.service)
	e.frontends = 0
	for i := range f.Families {
		e.frontends += len(f.Families[i].Plan.Asked.Frontends)
	}
	e.wrong = !status.Works(f)
	j.count(e, 1)
}

func (j *judged) count(e *entry, by int) {
	j.frontends += by * e.frontends
	if e.wrong {
		j.wrong += by
	}
}

// facts are what is known of a Service without a look at the kernel, until they are asked for
// of another one.
func (j *judged) facts(s *cluster.Service) status.Facts {
	f := j.base
	f.Service, f.Target = s, status.Target{Text: s.Name.String(), Service: s.Name}
	if s.Kind != cluster.KindClusterIP {
		return f
	}
	j.scratch = j.scratch[:0] // a family is large, and most Services need one for a moment
	for i := range j.families {
		if !s.ClusterIP(j.families[i].Family).IsValid() {
			continue
		}
		j.scratch = append(j.scratch, j.families[i])
		last := &j.scratch[len(j.scratch)-1]
		last.Plan, last.WhyNot = j.parts.NAT.Plan(s, last)
		last.WhyNot = cmp.Or(last.WhyNot, "lists do not")
	}
	f.Families = j.scratch
	return f
}

// row is a Service in a list.
func (j *judged) row(s *cluster.Service) status.Row {
	f := j.facts(s)
	for _, name := range serviceNames(s, f.DNS.Zones) {
		f.Names = append(f.Names, j.parts.Names.Look(name))
	}
	e := status.Explain(f)
	return status.NewRow(&e)
}
