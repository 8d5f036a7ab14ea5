// Package difference says what one set of Services serves and programs otherwise than
// another: which names come, go and change, which frontends do, and what works with the one
// and would not with the other.
//
// It is pure. Both states are values that other packages have made: Services by a source,
// plans by plan.Table. Names are compiled of the Services one at a time, and what differs of
// one Service is yielded before the next is looked at. So the cost is linear in the number of
// Services, and what is kept of it is one map of the frontends of each state.
//
// Start with Between.
package difference

import (
	"cmp"
	"iter"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/clusterip/clusterip/plugin/clusterip/zone"
)

// State is what is served and programmed at one time. The zero value: nothing.
type State struct {
	Services []*cluster.Service // sorted by name
	Plans    [][]plan.Service   // those of each IP family, sorted by name
}

// Mark says how something has become different.
type Mark byte

// The marks, as they are printed.
const (
	Added   Mark = '+'
	Removed Mark = '-'
	Changed Mark = '~'
)

// markOf is that of something that was there, is there, or both.
func markOf(before, after bool) Mark {
	switch {
	case !before:
		return Added
	case !after:
		return Removed
	}
	return Changed
}

// Service is what is different of one Service.
type Service struct {
	Name          cluster.ServiceName
	Mark          Mark
	Before, After *cluster.Service // nil where it is not there
	Names         []Name           // those that are different or stop, the shortest first
	Frontends     []Frontend       // those that are different or stop, sorted by Key
}

// Name is a name with records that are different.
type Name struct {
	Name    string
	Mark    Mark // Changed too if it only stops
	Records []Records
	// Stops says that the name works before and not after: it has records of a type and its
	// Service has a usable endpoint, unless it is an alias.
	Stops bool
}

// Records are those of one type at one name. They are the same before and after where the
// Service has lost its last endpoint.
type Records struct {
	Type          string
	Before, After []string // as in zone.Listed; nil where there are none
}

// Between yields what is different of each Service, by name; nothing of those that are the
// same. The Index says which names there are; it need know no Services.
func Between(before, after State, names *zone.Index) iter.Seq[Service] {
	d := &differ{names: names, before: newSide(before.Plans), after: newSide(after.Plans)}
	return func(yield func(Service) bool) {
		byName := func(a, b *cluster.Service) int { return a.Name.Compare(b.Name) }
		for old, now := range pairs(before.Services, after.Services, byName) {
			s := Service{Before: valueOf(old), After: valueOf(now), Mark: markOf(old != nil, now != nil)}
			s.Name = cmp.Or(s.Before, s.After).Name
			s.Names, s.Frontends = d.namesOf(&s), d.frontendsOf(s.Name)
			if s.isDifferent() && !yield(s) {
				return
			}
		}
	}
}

func (s *Service) isDifferent() bool {
	return s.Mark != Changed || len(s.Names)+len(s.Frontends) > 0 || s.Before.Kind != s.After.Kind || !slices.Equal(s.Before.Ports, s.After.Ports)
}

// differ is one comparison of two states.
type differ struct {
	names         *zone.Index
	before, after side
}

// namesOf compares the names of a Service.
func (d *differ) namesOf(s *Service) []Name {
	works := hasUsable(s.Before)
	lost := works && !hasUsable(s.After)
	var all []Name
	for old, now := range pairs(d.list(s.Before), d.list(s.After), compareListed) {
		l := cmp.Or(old, now)
		if len(all) == 0 || all[len(all)-1].Name != l.Name {
			all = append(all, Name{Name: l.Name})
		}
		name := &all[len(all)-1]
		name.Records = append(name.Records, Records{Type: l.Type, Before: valueOf(old).Values, After: valueOf(now).Values})
	}
	for i := range all {
		n := &all[i]
		n.Mark = markOf(n.has("", before), n.has("", after))
		n.Stops = works && n.has("", before) && (lost || n.loses())
		if !lost {
			n.Records = slices.DeleteFunc(n.Records, func(r Records) bool { return slices.Equal(r.Before, r.After) })
		}
	}
	return slices.DeleteFunc(all, func(n Name) bool { return len(n.Records) == 0 })
}

// list returns the records of a Service, nil for none, in the order of compareListed.
func (d *differ) list(s *cluster.Service) []zone.Listed {
	if s == nil {
		return nil
	}
	all := d.names.List(s)
	slices.SortFunc(all, compareListed)
	return all
}

// compareListed puts the name of a Service before those below it.
func compareListed(a, b zone.Listed) int {
	return cmp.Or(strings.Count(a.Name, ".")-strings.Count(b.Name, "."), strings.Compare(a.Name, b.Name), strings.Compare(a.Type, b.Type))
}

func before(r *Records) []string { return r.Before }

func after(r *Records) []string { return r.After }

// has reports whether there are records of a type in one state, of any type for "".
func (n *Name) has(kind string, in func(*Records) []string) bool {
	return slices.ContainsFunc(n.Records, func(r Records) bool { return (kind == "" || r.Type == kind) && len(in(&r)) > 0 })
}

// loses reports whether a question that the name answers before has no answer after. An
// alias answers every question.
func (n *Name) loses() bool {
	if n.has("CNAME", after) {
		return false
	}
	return slices.ContainsFunc(n.Records, func(r Records) bool {
		switch {
		case len(r.Before) == 0:
			return false
		case r.Type == "CNAME":
			return !n.has("A", after) && !n.has("AAAA", after)
		}
		return len(r.After) == 0
	})
}

// hasUsable reports whether whoever has found the name of a Service, nil for none, finds
// somebody there. Who is behind an alias is not known.
func hasUsable(s *cluster.Service) bool {
	return s != nil && (s.Kind == cluster.KindExternalName || len(cluster.Usable(s.Endpoints)) > 0)
}

// pairs yields what two sorted lists have, in order: what both have together, and else with
// nil for the other's.
func pairs[T any](before, after []T, compare func(a, b T) int) iter.Seq2[*T, *T] {
	return func(yield func(old, now *T) bool) {
		for len(before)+len(after) > 0 {
			var order int
			switch {
			case len(before) == 0:
				order = 1
			case len(after) == 0:
				order = -1
			default:
				order = compare(before[0], after[0])
			}
			var old, now *T
			if order <= 0 {
				old, before = &before[0], before[1:]
			}
			if order >= 0 {
				now, after = &after[0], after[1:]
			}
			if !yield(old, now) {
				return
			}
		}
	}
}

// valueOf is *p, or the zero value for nil.
func valueOf[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
