package iptables

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/backendtest"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// large makes a Service with endpoints of so many, from a number on; without any it is
// refused.
func largeService(name string, ports, first, endpoints int) plan.Service {
	var all []plan.Service
	vip := netip.AddrFrom4([4]byte{10, 43, 200, byte(len(name))})
	for i := range ports {
		p := onePort(fmt.Sprintf("p%d", i), cluster.TCP, netip.AddrPortFrom(vip, uint16(i+1)))
		if endpoints == 0 {
			p.Frontends[0].Verdict = plan.Reject
		}
		for e := first; e < first+endpoints; e++ {
			p.Pools[0].Endpoints = append(p.Pools[0].Endpoints, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 100, byte(e >> 8), byte(e)}), uint16(i+1)))
		}
		all = append(all, p)
	}
	s := backendtest.Named(name, all...)
	s.Name.Namespace = "large"
	return s
}

func removed(s plan.Service) plan.Service { return plan.Service{Name: s.Name} }

// begin returns the Work of a large change.
func begin(t *testing.T, b *Backend, old, new plan.Service) kernelnat.Work {
	t.Helper()
	rest, works := b.Large([]kernelnat.Change{{Old: old, New: new}})
	if len(rest) != 0 || len(works) != 1 || works[0].Service() != new.Name {
		t.Fatalf("%d changes are not large, %d Works", len(rest), len(works))
	}
	return works[0]
}

// finish does what is left of a Work, with something between its steps.
func (h *host) finish(t *testing.T, w kernelnat.Work, between func()) (steps int) {
	t.Helper()
	for done := false; !done; steps++ {
		h.do(t, func() (err error) {
			done, err = w.Step(t.Context())
			return err
		})
		if between != nil {
			between()
		}
	}
	return steps
}

// freshly is what a fresh start with these Services leads to.
func freshly(t *testing.T, v variant, all []plan.Service) string {
	t.Helper()
	fresh := newHost(t, v)
	b := newBackend(t)[cluster.IPv4]
	fresh.do(t, func() error {
		_, err := b.Sync(t.Context(), stateOf(all, cluster.IPv4))
		return err
	})
	_, works := b.Large(nil)
	for _, w := range works {
		fresh.finish(t, w, nil)
	}
	return counters.ReplaceAllString(fresh.run(t, "iptables-save"), "")
}

// A large Service comes, changes and goes in parts of bounded size, others change in
// between, and the end is that of a fresh start.
func TestLargeServiceInParts(t *testing.T) {
	eachVariant(t, func(t *testing.T, h *host) {
		dir := h.replaceRestore(t, `n=$(ls $DIR/parts | wc -l); tee $DIR/parts/$n | $REAL "$@"`)
		parts := filepath.Join(dir, "parts")
		if err := os.Mkdir(parts, 0o755); err != nil {
			t.Fatal(err)
		}
		ctx, b := t.Context(), newBackend(t)[cluster.IPv4]
		others := services(40, 1, 2)
		h.do(t, func() error { _, err := b.Sync(ctx, stateOf(others, cluster.IPv4)); return err })
		turn := 0
		changeAnother := func() {
			turn++
			next := services(40, 1, 1+turn%3)[turn%40]
			h.do(t, func() error { return b.Apply(ctx, []kernelnat.Change{{Old: others[turn%40], New: next}}) })
			others[turn%40] = next
		}
		now := largeService("svc", 4, 0, 0)
		now.Frontends, now.Pools = nil, nil
		for _, next := range []plan.Service{
			largeService("svc", 4, 0, 1000), largeService("svc", 4, 1, 1000), largeService("svc", 3, 500, 900), largeService("svc", 4000, 0, 0), removed(now),
		} {
			steps := h.finish(t, begin(t, b, now, next), changeAnother)
			t.Logf("%d ports: %d steps", len(next.Pools), steps)
			now = next
			diff(t, freshly(t, h.variant, append(slices.Clone(others), now)), counters.ReplaceAllString(h.run(t, "iptables-save"), ""))
		}
		files, err := os.ReadDir(parts)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			input, err := os.ReadFile(filepath.Join(parts, f.Name()))
			if err != nil {
				t.Fatal(err)
			}
			// The chain of one ClusterIP with 4,000 refused ports is written whole.
			if n := strings.Count(string(input), "\n"); n > 3*rulesInPart {
				t.Errorf("one run reads %d lines", n)
			}
		}
	})
}

// However a Work ends, the next one leads on from there.
func TestLargeServiceInterrupted(t *testing.T) {
	eachVariant(t, func(t *testing.T, h *host) {
		// Fails as often as a file says.
		dir := h.replaceRestore(t, `if [ -e $DIR/fail ]; then rm $DIR/fail; exec false; fi; exec $REAL "$@"`)
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		r := rand.New(rand.NewPCG(seed, 0))
		ctx, b := t.Context(), newBackend(t)[cluster.IPv4]
		others := services(40, 1, 2)
		sync := func(all []plan.Service) {
			h.do(t, func() error { _, err := b.Sync(ctx, stateOf(all, cluster.IPv4)); return err })
		}
		sync(others)
		now := plan.Service{Name: largeService("svc", 1, 0, 0).Name}
		for range 12 {
			next := []plan.Service{
				largeService("svc", 1+r.IntN(3), r.IntN(500), 1000+r.IntN(300)), largeService("svc", 3100, 0, 0), removed(now),
			}[r.IntN(3)]
			rest, works := b.Large([]kernelnat.Change{{Old: now, New: next}})
			now = next
			if len(works) == 0 {
				h.do(t, func() error { return b.Apply(ctx, rest) })
				continue
			}
			w := works[0]
			for range r.IntN(8) {
				fail := r.IntN(4) == 0
				if fail {
					if err := os.WriteFile(filepath.Join(dir, "fail"), nil, 0o644); err != nil {
						t.Fatal(err)
					}
				}
				var done bool
				err := h.Do(func() (err error) { done, err = w.Step(ctx); return err })
				if err != nil && !errors.Is(err, kernelnat.ErrSetAside) {
					sync(others) // as after any failure whose effects are not known
				}
				if done || err != nil {
					break
				}
			}
			os.Remove(filepath.Join(dir, "fail"))
		}
		now = largeService("svc", 2, 100, 1000)
		_, works := b.Large([]kernelnat.Change{{New: now}})
		for _, w := range works {
			h.finish(t, w, nil)
		}
		// What an unfinished Work before a Sync has left goes with the next Sync.
		sync(append(slices.Clone(others), now))
		if _, works := b.Large(nil); len(works) > 0 {
			t.Errorf("%d Services are not as they are to be", len(works))
		}
		diff(t, freshly(t, h.variant, append(slices.Clone(others), now)), counters.ReplaceAllString(h.run(t, "iptables-save"), ""))
	})
}

// A start leaves a large Service as it is, and its Work makes it what it is to be; one
// that is whole is not written again.
func TestLargeServiceAtAStart(t *testing.T) {
	eachVariant(t, func(t *testing.T, h *host) {
		dir := h.replaceRestore(t, recording)
		ctx := t.Context()
		start := func(all ...plan.Service) (*Backend, []kernelnat.Work) {
			b := newBackend(t)[cluster.IPv4]
			h.do(t, func() error { _, err := b.Sync(ctx, stateOf(all, cluster.IPv4)); return err })
			_, works := b.Large(nil)
			return b, works
		}
		other, old, next := services(1, 1, 2)[0], largeService("svc", 2, 0, 1000), largeService("svc", 2, 300, 1100)
		_, works := start(other, old)
		for _, w := range works {
			h.finish(t, w, nil)
		}
		before := runs(t, dir)
		if _, works := start(other, old); len(works) != 0 || runs(t, dir) != before {
			t.Errorf("what is whole is written again: %d Works, %d runs", len(works), runs(t, dir)-before)
		}
		_, works = start(other, next)
		if saved := h.run(t, "iptables-save"); !strings.Contains(saved, "10.100.0.1:1\n") || strings.Contains(saved, "10.100.5.1:1\n") {
			t.Error("a start has changed a large Service")
		}
		if len(works) != 1 {
			t.Fatalf("%d Works", len(works))
		}
		h.finish(t, works[0], nil)
		start(other, next) // what nothing leads to goes
		diff(t, freshly(t, h.variant, []plan.Service{other, next}), counters.ReplaceAllString(h.run(t, "iptables-save"), ""))
	})
}

// What a Service gives up is gone first, whatever becomes of the rest: it may be
// another's by now.
func TestLostFrontendGoesFirst(t *testing.T) {
	eachVariant(t, func(t *testing.T, h *host) {
		ctx, b := t.Context(), newBackend(t)[cluster.IPv4]
		h.do(t, func() error { _, err := b.Sync(ctx, stateOf(nil, cluster.IPv4)); return err })
		old := largeService("svc", 1, 0, 1500)
		old = backendtest.Outside{Verdict: plan.Forward, IPs: []netip.Addr{netip.MustParseAddr("203.0.113.7")}}.Add(old)
		h.finish(t, begin(t, b, removed(old), old), nil)
		if !strings.Contains(h.run(t, "iptables-save"), "-d 203.0.113.7/32") {
			t.Fatal("the external address is not served")
		}
		w := begin(t, b, old, largeService("svc", 1, 700, 1500))
		h.do(t, func() error { _, err := w.Step(ctx); return err })
		if saved := h.run(t, "iptables-save"); strings.Contains(saved, "-d 203.0.113.7/32") || !strings.Contains(saved, "-d "+single(old.Frontends[0].At.Addr())) {
			t.Error("after the first step, the external address is served, or the ClusterIP is not")
		}
	})
}

// A Sync that comes in between takes nothing back of what is written.
func TestLargeServiceGoesOnAfterSync(t *testing.T) {
	eachVariant(t, func(t *testing.T, h *host) {
		ctx, b := t.Context(), newBackend(t)[cluster.IPv4]
		s := largeService("svc", 4, 0, 3000)
		h.do(t, func() error { _, err := b.Sync(ctx, stateOf(nil, cluster.IPv4)); return err })
		w := begin(t, b, removed(s), s)
		for range 8 {
			for range 10 {
				var done bool
				if h.do(t, func() (err error) { done, err = w.Step(ctx); return err }); done {
					return
				}
			}
			h.do(t, func() error { _, err := b.Sync(ctx, stateOf([]plan.Service{s}, cluster.IPv4)); return err })
			_, works := b.Large(nil)
			w = works[0]
		}
		t.Error("80 steps were made, and it is not done")
	})
}

// What the kernel may hold of a Service is still known when its Work is dropped.
func TestDroppedWorkForgetsNothing(t *testing.T) {
	s := largeService("svc", 3, 0, 0)
	s.Frontends[0].Verdict, s.Pools[0].Endpoints = plan.Forward, addrPorts("10.42.0.1:80")
	h := &held{rules: render(s).shared}
	var before [places][]rule
	for p, rules := range h.rules {
		before[p] = slices.Clone(rules)
	}
	h.change(removed(s), nil, arrangementOf(s), 1000).next()
	for p := range places {
		if !slices.Equal(h.rules[p], before[p]) {
			t.Errorf("%s of %s: known are %q, want %q", shared[p].chain, shared[p].table, h.rules[p], before[p])
		}
	}
}

// Of thousands of rules that go none is searched for: the chain is written whole.
func TestRefusalsGoAtOnce(t *testing.T) {
	s := largeService("svc", 900, 0, 0)
	a := arrangementOf(s)
	input := string(changeScript([]kernelnat.Change{{Old: s, New: removed(s)}}, a, 1000))
	if strings.Contains(input, "\n-D ") || strings.Count(input, "\n") > 10 {
		t.Errorf("%d lines", strings.Count(input, "\n"))
	}
}

// Ten times as large is ten times the work.
func BenchmarkRender(b *testing.B) {
	for _, n := range []int{100, 1000, 10_000} {
		var ips []netip.Addr
		for i := range n / 10 {
			ips = append(ips, netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}))
		}
		var ports []plan.Service
		for i := range 10 {
			port := onePort(fmt.Sprintf("p%d", i), cluster.TCP, addrPorts(fmt.Sprint("10.43.200.3:", i+1))[0], addrPorts("10.100.0.0:1", "10.100.0.1:1", "10.100.0.2:1")...)
			ports = append(ports, backendtest.Outside{Verdict: plan.Forward, IPs: ips}.Add(port))
		}
		external := backendtest.Named("svc", ports...)
		for what, s := range map[string]plan.Service{"endpoints": largeService("svc", 1, 0, n), "ports": largeService("svc", n, 0, 0), "external": external} {
			b.Run(fmt.Sprintf("%s=%d", what, n), func(b *testing.B) {
				for b.Loop() {
					difference(render(removed(s)), render(s))
				}
			})
		}
	}
}

// The rules of one address that come or go together are sorted in once.
func BenchmarkArrange(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		b.Run(fmt.Sprintf("ports=%d", n), func(b *testing.B) {
			rules, none := render(largeService("svc", n, 0, 0)).shared, [places][]rule{}
			a := arrangementOf(services(1000, 1, 1)...)
			for b.Loop() {
				a.update(tableFilter, rules, none)
				a.update(tableFilter, none, rules)
			}
		})
	}
}

func BenchmarkParts(b *testing.B) {
	for _, n := range []int{2000, 20_000} {
		b.Run(fmt.Sprintf("ports=%d", n), func(b *testing.B) {
			s, a := largeService("svc", n, 0, 0), arrangementOf()
			for b.Loop() {
				for _, change := range []kernelnat.Change{{Old: removed(s), New: s}, {Old: s, New: removed(s)}} {
					l := (&held{}).change(change.New, &change.Old, a, 1000)
					for more := true; more; {
						_, more = l.next()
					}
				}
			}
		})
	}
}
