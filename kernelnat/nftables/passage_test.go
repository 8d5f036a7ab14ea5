package nftables

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/backendtest"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/google/go-cmp/cmp"
)

// elementsOf is a kernel's elements, by set and key, and a transaction in the making. Like the
// kernel it takes no key twice and removes none that is not there, and what goes in a
// transaction goes first.
type elementsOf struct {
	testing.TB
	all, come map[string]string
	gone      []string
}

func newElements(t testing.TB) *elementsOf {
	return &elementsOf{TB: t, all: make(map[string]string), come: make(map[string]string)}
}

func keyIn(s *set, key []byte) string { return fmt.Sprintf("%s %x", s.name, key) }

func (e *elementsOf) put(s *set, key, data []byte, comment string) {
	if _, twice := e.come[keyIn(s, key)]; twice {
		e.Errorf("%s comes twice", keyIn(s, key))
	}
	e.come[keyIn(s, key)] = fmt.Sprintf("%x %s", data, comment)
}

func (e *elementsOf) remove(s *set, key []byte) { e.gone = append(e.gone, keyIn(s, key)) }

func (e *elementsOf) commit() {
	for _, key := range e.gone {
		if _, there := e.all[key]; !there {
			e.Errorf("%s goes and is not there", key)
		}
		delete(e.all, key)
	}
	for key, value := range e.come {
		if _, there := e.all[key]; there {
			e.Errorf("%s comes and is there already", key)
		}
		e.all[key] = value
	}
	clear(e.come)
	e.gone = e.gone[:0]
}

// says is what the kernel holds if the state is right.
func (s *state) says(t testing.TB) map[string]string {
	out := newElements(t)
	again := newState(s.schema).chosenBy(s.chooser)
	again.classIDs = s.classIDs
	for c, used := range s.classes {
		again.classes[c] = &usedClass{id: used.id}
	}
	for _, held := range s.services {
		again.change(out, nil, held)
	}
	out.commit()
	return out.all
}

// leads checks that every class leads to slots that are there.
func (s *state) leads(t testing.TB, held *service) {
	t.Helper()
	for _, f := range held.frontends {
		if n := s.classIDs[f.class].slots; len(f.near) < n {
			t.Fatalf("%s leads to %d slots, and has %d", f.Key, n, len(f.near))
		}
		if n := s.classIDs[f.inside].slots; len(f.far) < n {
			t.Fatalf("%s leads to %d slots from inside, and has %d", f.Key, n, len(f.far))
		}
	}
}

// Wherever the way from one plan to the next ends, it is known what the kernel holds, and the
// next one leads from there to what it is to hold.
func TestPassagesMayEndAnywhere(t *testing.T) {
	for seed := range uint64(3) {
		passages(t, seed, nil)
		passages(t, seed, chooserOfSome{})
	}
}

func passages(t *testing.T, seed uint64, chooser Chooser) {
	c := churn{rand.New(rand.NewPCG(7, seed)), cluster.IPv4, 40}
	s := newState(newSchema(cluster.IPv4, false)).chosenBy(chooser)
	kernel := newElements(t)
	for round := range 60 {
		to := c.small(c.IntN(2))
		if c.IntN(5) == 0 && len(to.Frontends) > 0 { // at once
			next := s.target(s.services[to.Name], &to)
			s.change(kernel, s.services[to.Name], next)
			s.services[to.Name] = next
			kernel.commit()
			continue
		}
		p, whole := s.begin(&to), c.IntN(3) > 0
		before := new(service)
		for done := false; !done && (whole || c.IntN(8) > 0); {
			if p.held != s.services[to.Name] {
				p = s.begin(&to)
			}
			*before = service{frontends: append([]frontend(nil), p.held.frontends...)}
			most := 1 + c.IntN(20)
			done = p.step(&limited{writer: kernel, elements: most, looks: 10 * most})
			kernel.commit()
			if says := s.says(t); !maps.Equal(says, kernel.all) {
				t.Fatalf("seed %d, round %d, stage %d: the kernel holds something else (-known +held):\n%s", seed, round, p.stage, cmp.Diff(says, kernel.all))
			}
			s.leads(t, p.held)
			s.stillThere(t, before, p.held)
			if done {
				wantPlan(t, s, &to)
			}
			if c.IntN(10) == 0 {
				other := c.small(2 + c.IntN(3)) // which may take a frontend over
				if len(other.Frontends) > 0 && len(to.Frontends) > 0 {
					other.Frontends[0].Key = to.Frontends[len(to.Frontends)-1].Key
				}
				next := s.target(s.services[other.Name], &other)
				s.change(kernel, s.services[other.Name], next)
				s.services[other.Name] = next
				kernel.commit()
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d, round %d", seed, round)
		}
	}
}

// small is a Service as it is next, without tables of thousands of slots.
func (c *churn) small(i int) plan.Service {
	s := c.service(i)
	for i := range s.Pools {
		if s.Pools[i].Policy == cluster.SourceHash {
			s.Pools[i].Policy = cluster.RoundRobin
		}
	}
	return s
}

// stillThere checks that what packets were led to before a step is there after it.
func (s *state) stillThere(t testing.TB, before, after *service) {
	t.Helper()
	now := make(map[plan.Key]*frontend)
	for i := range after.frontends {
		now[after.frontends[i].Key] = &after.frontends[i]
	}
	for _, f := range before.frontends {
		near, far := s.classIDs[f.class].slots, s.classIDs[f.inside].slots
		if n := now[f.Key]; near+far > 0 && (n == nil || len(n.near) < near || len(n.far) < far) {
			t.Fatalf("slots of %s go in the step in which it leads to them no more", f.Key)
		}
	}
}

// wantPlan checks that a Service is held as if it had never been another.
func wantPlan(t testing.TB, s *state, to *plan.Service) {
	t.Helper()
	held := s.services[to.Name]
	if held == nil {
		if len(to.Frontends) > 0 {
			t.Fatalf("nothing is held of %s", to.Name)
		}
		return
	}
	if len(held.frontends) != len(to.Frontends) {
		t.Fatalf("%d frontends are held of %d", len(held.frontends), len(to.Frontends))
	}
	for i, f := range s.target(held, to).frontends {
		if got := held.frontends[i]; got.class != f.class || got.inside != f.inside || len(got.near) != len(f.near) || len(got.far) != len(f.far) {
			t.Errorf("frontend %s is not as it is to be", got.Key)
		}
	}
}

// largeService has so many ports, each at these endpoints.
func largeService(ports int, endpoints []netip.AddrPort) plan.Service {
	var all []plan.Service
	for i := range ports {
		p := backendtest.Port(cluster.TCP, netip.AddrPortFrom(netip.MustParseAddr("10.43.0.1"), uint16(1000+i)), endpoints...)
		p.Pools[0].Port = fmt.Sprint("port-", i)
		all = append(all, p)
	}
	return backendtest.Named("large", all...)
}

// A step of a large Service writes, and looks at, no more than it may, and all of them together
// look at everything a few times. Only the plan of one pool comes on top of that.
func TestStepsAreBounded(t *testing.T) {
	const ports, endpoints = 10, 2000
	var all []netip.AddrPort
	for i := range endpoints {
		all = append(all, endpointOf(i))
	}
	s := newState(newSchema(cluster.IPv4, false))
	for _, c := range []struct {
		name   string
		to     plan.Service
		writes int
	}{
		{"comes", largeService(ports, all), ports * (endpoints + 3)},
		{"is the same", largeService(ports, all), 0},
		{"changes", largeService(ports, append(all[1:len(all):len(all)], endpointOf(endpoints))), ports * 2},
		{"shrinks", largeService(ports, all[1:]), ports * 5},
		{"goes", plan.Service{Name: largeService(1, nil).Name}, ports * (endpoints + 2)},
	} {
		const most, mostLooks, slack = maxCommit / 2, maxLooks, 10
		p, written, looked := s.begin(&c.to), 0, 0
		for done := false; !done; {
			var n tally
			l := &limited{writer: &n, elements: most, looks: mostLooks}
			if done = p.step(l); int(n) > most+slack || -l.looks > endpoints+slack {
				t.Errorf("it %s: a step writes %d elements, and looks at %d", c.name, n, mostLooks-l.looks)
			}
			written, looked = written+int(n), looked+mostLooks-l.looks
		}
		// The endpoints themselves are elements of hairpin.
		if written < c.writes || written > c.writes+endpoints+slack {
			t.Errorf("it %s: %d elements are written, want about %d", c.name, written, c.writes)
		}
		if looked > 4*ports*endpoints {
			t.Errorf("it %s: %d elements are looked at", c.name, looked)
		}
	}
	if left := s.says(t); len(left) > 0 || len(s.hairpin) > 0 || len(s.holders) > 0 {
		t.Errorf("what is left is %v", maps.Keys(left))
	}
}

// A large Service that changes, or goes, on its way is in the kernel as a start would write it.
func TestLargeServiceTurnsOnItsWay(t *testing.T) {
	h, b := newHost(t), newBackend(t, cluster.IPv4, settings)
	c := churn{rand.New(rand.NewPCG(8, 8)), cluster.IPv4, 1500}
	h.do(func() error { _, err := b.Sync(t.Context(), kernelnat.State{}); return err })
	now := make(map[cluster.ServiceName]plan.Service)
	for range 12 {
		next := c.service(c.IntN(2))
		old := now[next.Name]
		old.Name = next.Name
		rest, works := b.Large([]kernelnat.Change{{Old: old, New: next}})
		now[next.Name] = next
		h.do(func() error { return b.Apply(t.Context(), rest) })
		for _, w := range works {
			for range c.IntN(6) {
				h.do(func() error { _, err := w.Step(t.Context()); return err })
			}
		}
	}
	var state kernelnat.State
	for _, p := range now {
		_, works := b.Large([]kernelnat.Change{{Old: p, New: p}})
		for done := len(works) == 0; !done; {
			h.do(func() (err error) { done, err = works[0].Step(t.Context()); return err })
		}
		if len(p.Frontends) > 0 {
			state.Services = append(state.Services, p)
		}
	}
	b.Close()
	for _, w := range h.synced(state, cluster.IPv4) {
		if !unneeded[trimCount(w)] {
			t.Errorf("a start writes %q", w)
		}
	}
}
