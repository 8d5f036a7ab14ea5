package plan

import (
	"fmt"
	"maps"
	"slices"

	"github.com/clusterip/clusterip/cluster"
)

// Table holds the plans of all Services in one IP family on a node, in which each Key has
// one Frontend, and what is nobody's in the ranges of ClusterIPs. The kernel is to hold
// what a Table says.
type Table struct {
	family     cluster.Family
	options    Options
	node       Node
	entries    map[cluster.ServiceName]*entry
	treatments []*Treatment // that frontends of all Services share: a handful

	precedence precedence
	nobodys    nobodys
	short      []Shortfall // of those that do not get everything, sorted by name; never written to
	planned    int         // Services with frontends
	ports      int         // with frontends, in all
	unserved   int         // Services with frontends that refuse all connections
}

// entry is what a Table knows of one Service. There is one in each family, also where the
// Service asks for nothing. So an entry is 64 bytes, and a plan is held once where it gets
// all that it asks for.
type entry struct {
	name    cluster.ServiceName
	service *cluster.Service
	asked   *Service   // what it asks for; nil: nothing
	plan    *Service   // what it gets, mostly all that it asks for; nil: nothing
	short   *Shortfall // nil: of nothing
}

// planned is e.plan as a value.
func (e *entry) planned() Service {
	if e.plan == nil {
		return Service{Name: e.name}
	}
	return *e.plan
}

// shortfall is e.short as a value.
func (e *entry) shortfall() Shortfall {
	if e.short == nil {
		return Shortfall{}
	}
	return *e.short
}

// NewTable returns a Table without Services.
func NewTable(family cluster.Family, options Options) *Table {
	return &Table{
		family: family, options: options, entries: make(map[cluster.ServiceName]*entry),
		precedence: newPrecedence(family, options.Healthz), nobodys: newNobodys(family, options.Proxy),
	}
}

// Update is what has changed.
type Update struct {
	// Services are those that came or changed, and nil for those that went.
	Services map[cluster.ServiceName]*cluster.Service
	Node     Node     // as it is now
	Network  *Network // nil: as before
}

// Shortfall is what a Service asks for and does not get.
type Shortfall struct {
	Service cluster.ServiceName
	// Refused are the frontends, and the healthCheckNodePort, that are not its own to have.
	Refused []Refusal
	// Excess is Service.Excess.
	Excess string
}

// ShortfallChange is that a Service does not get something else than before.
type ShortfallChange struct{ Old, New Shortfall }

// maxTold is how many refusals of one Service are told one by one.
const maxTold = 5

// Texts says it in words.
func (s Shortfall) Texts() []string {
	var out []string
	for _, r := range s.Refused[:min(len(s.Refused), maxTold)] {
		out = append(out, r.String())
	}
	if n := len(s.Refused) - maxTold; n > 0 {
		out = append(out, fmt.Sprintf("%d more frontends are refused for such reasons", n))
	}
	if s.Excess != "" {
		out = append(out, s.Excess)
	}
	return out
}

// Beyond returns what was not in an earlier shortfall of the Service. That somebody else
// has a frontend which it did not get before is nothing new.
func (s Shortfall) Beyond(earlier Shortfall) Shortfall {
	known := make(map[Refusal]bool, len(earlier.Refused))
	for _, r := range earlier.Refused {
		known[Refusal{Key: r.Key, Why: r.Why}] = true
	}
	s.Refused = slices.DeleteFunc(slices.Clone(s.Refused), func(r Refusal) bool { return known[Refusal{Key: r.Key, Why: r.Why}] })
	if s.Excess == earlier.Excess {
		s.Excess = ""
	}
	return s
}

func (s Shortfall) equal(o Shortfall) bool {
	return s.Excess == o.Excess && slices.Equal(s.Refused, o.Refused)
}

// Apply takes an Update over. It returns the plans and the shortfalls that are others than
// before, also of Services that lose a frontend to another or get one from it, both sorted
// by name. An Update of a few Services costs what these cost.
func (t *Table) Apply(u Update) ([]Change, []ShortfallChange) {
	touched := make(map[*entry]bool)
	touch := func(e *entry) { touched[e] = true }
	replan := !u.Node.Equal(t.node)
	if t.node = u.Node; replan {
		t.treatments = nil // clients inside may be others
	}
	for _, name := range cluster.SortedNames(u.Services) {
		t.set(name, u.Services[name], touch)
	}
	if replan {
		for _, name := range t.names() {
			if _, done := u.Services[name]; !done {
				t.set(name, t.entries[name].service, touch)
			}
		}
	}
	t.network(u.Network, u.Services, touch)
	return t.settle(touched)
}

// set plans a Service, nil if it is gone.
func (t *Table) set(name cluster.ServiceName, service *cluster.Service, touch func(*entry)) {
	e := t.entries[name]
	if e == nil {
		if service == nil {
			return
		}
		e = &entry{name: name}
		t.entries[name] = e
	}
	var asked *Service
	if service != nil {
		if p := Compute(service, t.family, t.node, t.options); !p.Equal(Service{Name: name}) {
			t.share(p.Frontends)
			asked = &Service{}
			*asked = p // p stays off the heap where there is nothing
		}
	}
	t.precedence.set(e, service, asked, touch)
	touch(e)
}

// share has frontends of all Services share their treatments, but for those with clients of
// their own.
func (t *Table) share(frontends []Frontend) {
	for i := range frontends {
		f := &frontends[i]
		if len(f.Sources) > 0 {
			continue
		}
		at := slices.IndexFunc(t.treatments, f.Treatment.equal)
		if at < 0 {
			at, t.treatments = len(t.treatments), append(t.treatments, f.Treatment)
		}
		f.Treatment = t.treatments[at]
	}
}

// network takes over what is known of the ranges of ClusterIPs.
func (t *Table) network(now *Network, changed map[cluster.ServiceName]*cluster.Service, touch func(*entry)) {
	if now != nil {
		// The address of the API server, or a name server's, may be a ClusterIP; then a
		// Service has it.
		known := slices.DeleteFunc(slices.Clone(now.Known), func(k Known) bool {
			return k.At.IsSingleIP() && t.precedence.clusterIPs[k.At.Addr()] > 0
		})
		if t.nobodys.fix(now.ServiceCIDRs, known) {
			for name, e := range t.entries {
				t.nobodys.set(name, e.service)
			}
		}
		t.precedence.close(t.nobodys.closed(), now.Broadcasts, touch)
	}
	for name, service := range changed {
		t.nobodys.set(name, service)
	}
	t.nobodys.update()
}

// settle grants the entries what they get.
func (t *Table) settle(touched map[*entry]bool) (changes []Change, shortfalls []ShortfallChange) {
	byName := func(a, b *entry) int { return a.name.Compare(b.name) }
	sorted := slices.AppendSeq(make([]*entry, 0, len(touched)), maps.Keys(touched))
	slices.SortFunc(sorted, byName)
	for i, e := range sorted {
		next, refused := t.precedence.grant(e)
		old := e.planned()
		e.plan = next
		now := e.planned()
		if short := (Shortfall{e.name, refused, now.Excess}); !short.equal(e.shortfall()) {
			shortfalls = append(shortfalls, ShortfallChange{e.shortfall(), short})
			e.short = &short
		}
		if !now.Equal(old) {
			if changes == nil {
				changes = make([]Change, 0, len(sorted)-i) // at the start every Service changes
			}
			changes = append(changes, Change{Old: old, New: now})
			t.count(old, -1)
			t.count(now, 1)
		}
		if e.service == nil {
			delete(t.entries, e.name)
		}
	}
	if len(shortfalls) > 0 {
		t.short = merge(t.short, shortfalls)
	}
	return changes, shortfalls
}

func (t *Table) count(s Service, by int) {
	if len(s.Frontends) > 0 {
		t.planned += by
		t.ports += by * len(s.Pools)
		if !slices.ContainsFunc(s.Frontends, func(f Frontend) bool { return f.Verdict != Reject }) {
			t.unserved += by
		}
	}
}

// names returns those of all Services, sorted.
func (t *Table) names() []cluster.ServiceName {
	return cluster.SortedNames(t.entries)
}

// Service returns a Service as it was planned last, nil if it is not there.
func (t *Table) Service(name cluster.ServiceName) *cluster.Service {
	if e := t.entries[name]; e != nil {
		return e.service
	}
	return nil
}

// Plan returns the plan of a Service.
func (t *Table) Plan(name cluster.ServiceName) Service {
	if e := t.entries[name]; e != nil {
		return e.planned()
	}
	return Service{Name: name}
}

// Plans returns the plans of all Services that have frontends, sorted by name.
func (t *Table) Plans() []Service {
	out := make([]Service, 0, t.planned)
	for _, name := range t.names() {
		if p := t.entries[name].plan; p != nil && len(p.Frontends) > 0 {
			out = append(out, *p)
		}
	}
	return out
}

// Shortfalls returns what Services do not get, sorted by name. It may not be written to.
func (t *Table) Shortfalls() []Shortfall { return t.short }

// merge returns sorted shortfalls with sorted changes.
func merge(all []Shortfall, changes []ShortfallChange) []Shortfall {
	out := make([]Shortfall, 0, len(all)+len(changes))
	for _, c := range changes {
		at, had := slices.BinarySearchFunc(all, c.New.Service, func(s Shortfall, name cluster.ServiceName) int { return s.Service.Compare(name) })
		out, all = append(out, all[:at]...), all[at:]
		if had {
			all = all[1:]
		}
		if !c.New.equal(Shortfall{}) {
			out = append(out, c.New)
		}
	}
	return append(out, all...)
}

// Node returns the Node that plans are for.
func (t *Table) Node() Node { return t.node }

// Counts returns how many Services have frontends, and at how many ports.
func (t *Table) Counts() (services, ports int) { return t.planned, t.ports }

// Unserved returns how many Services with frontends refuse all connections, since no port
// has an endpoint.
func (t *Table) Unserved() int { return t.unserved }

// Known says of all Services whether more is known of them than that they are there.
func (t *Table) Known() map[cluster.ServiceName]bool {
	known := make(map[cluster.ServiceName]bool, len(t.entries))
	for name, e := range t.entries {
		known[name] = !e.service.Remembered
	}
	return known
}

// Ranges returns the ranges of ClusterIPs with what is somebody's in them, and what they
// overlap, in the order in which that is to be told. Neither may be written to.
func (t *Table) Ranges() ([]Range, []Overlap) { return t.nobodys.now, t.nobodys.overlaps }
