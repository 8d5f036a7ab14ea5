package kernelnat

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clusterip/clusterip/cluster"
)

// slow makes each write of memory take a while, in which others' changes come.
func slow(m *memory, takes time.Duration) {
	m.fail = func() error {
		m.mu.Unlock()
		defer m.mu.Lock()
		time.Sleep(takes)
		return nil
	}
}

var largeEcho = service("large", "10.42.0.1", "10.42.0.2", "10.42.0.3")

// While the parts of a large Service are written, others' changes come in between.
func TestOthersDoNotWaitForALargeService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, backend := cluster.NewStore(), newMemory()
		slow(backend, time.Second)
		store.Apply(cluster.Update{Synced: true})
		run(t, Options{}, backend, store)
		time.Sleep(2 * time.Second)
		wantCalls(t, backend, "sync 0")
		store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{largeEcho}})
		time.Sleep(time.Second / 2)
		store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{service("a", "10.42.0.1")}})
		time.Sleep(time.Minute)
		wantCalls(t, backend, "part", "apply 1", "part", "apply 1")
		if len(backend.held) != 2 {
			t.Errorf("%d Services are held", len(backend.held))
		}
	})
}

// A Service that goes ends the writing of its parts, and one that changes is changed
// when they are written.
func TestLargeServiceGoesOrChangesMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, backend := cluster.NewStore(), newMemory()
		slow(backend, time.Second)
		store.Apply(cluster.Update{Synced: true})
		run(t, Options{}, backend, store)
		time.Sleep(2 * time.Second)
		wantCalls(t, backend, "sync 0")
		store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{largeEcho}})
		time.Sleep(time.Second / 2)
		store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{gone("large")}})
		time.Sleep(time.Minute)
		// Its first part has to go again.
		wantCalls(t, backend, "part", "part", "part", "apply 1")
		if len(backend.held) != 0 {
			t.Errorf("the kernel holds %v", backend.held)
		}
		store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{largeEcho}})
		time.Sleep(time.Second / 2)
		for _, last := range []string{"10.42.0.4", "10.42.0.5"} {
			store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{service("large", "10.42.0.1", "10.42.0.2", last)}})
		}
		time.Sleep(time.Minute)
		wantCalls(t, backend, "part", "part", "apply 1", "part", "part", "apply 1")
		if got := backend.held[largeEcho.Name].Pools[0].Endpoints[2].String(); got != "10.42.0.5:8080" {
			t.Errorf("the last endpoint is %s", got)
		}
	})
}

// EndpointSlices of a large Service that come while it is written are planned together when it
// is, and what others want of it does not wait for that.
func TestSlicesOfALargeServiceArePlannedTogether(t *testing.T) {
	backend := newMemory()
	c := New(Options{Family: cluster.IPv4}, backend, testLog{t})
	apply := func(u cluster.ServiceUpdate) (planned bool) {
		before := c.table.Service(u.Name)
		c.enqueue(cluster.Update{Services: []cluster.ServiceUpdate{u}})
		if err := c.sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		return c.table.Service(u.Name) != before
	}
	part := func() {
		if err := c.workOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	apply(service("a", "10.42.0.1"))
	apply(largeEcho)
	endpoints, plans, slices := []string{"10.42.0.1", "10.42.0.2", "10.42.0.3"}, 0, 100
	for i := range slices {
		endpoints = append(endpoints, fmt.Sprint("10.42.1.", i))
		if apply(service("large", endpoints...)) {
			plans++
		}
		if i%10 == 9 {
			part()
		}
	}
	if works := slices / 10 / 3; plans > works { // of three parts each
		t.Errorf("%d plans are made of %d slices while %d Works are done", plans, slices, works)
	}
	for c.nextDeadline() == 0 {
		if err := c.sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(c.works.queue) > 0 {
			part()
		}
	}
	if n := len(backend.held[largeEcho.Name].Pools[0].Endpoints); n != len(endpoints) {
		t.Errorf("the kernel holds %d endpoints of %d", n, len(endpoints))
	}

	apply(service("large", endpoints[1:]...))
	changed := *service("large", endpoints...).Service
	changed.Ports = []cluster.Port{{Name: "http", Protocol: cluster.TCP, Port: 81}}
	if !apply(cluster.ServiceUpdate{Name: changed.Name, Service: &changed}) {
		t.Error("a change of a frontend is put off")
	}
	if !apply(gone("large")) {
		t.Error("it goes, and that is put off")
	}
}

// A large Service whose rules cannot be written is told and tried again, later and
// later, and nobody else is looked at for it.
func TestLargeServiceIsSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, backend := cluster.NewStore(), newMemory()
		store.Apply(cluster.Update{Synced: true})
		var told []string
		run(t, Options{Refused: func(name cluster.ServiceName, why string) { told = append(told, name.String()+": "+why) }}, backend, store)
		wantCalls(t, backend, "sync 0")
		failing := func(yes bool) {
			backend.mu.Lock()
			defer backend.mu.Unlock()
			backend.fail = func() error {
				if yes && strings.HasSuffix(strings.Join(backend.calls, " "), "part") {
					return errors.New("iptables-restore was killed after 20s")
				}
				return nil
			}
		}
		failing(true)
		store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{largeEcho}})
		wantCalls(t, backend, "part")
		if len(told) != 1 || !strings.Contains(told[0], "testing/large: its rules cannot be written") {
			t.Errorf("told %q", told)
		}
		store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{service("a", "10.42.0.1")}})
		wantCalls(t, backend, "apply 1")
		time.Sleep(firstSetAside)
		wantCalls(t, backend, "part")
		time.Sleep(firstSetAside)
		wantCalls(t, backend)
		failing(false)
		time.Sleep(firstSetAside)
		wantCalls(t, backend, "part", "part", "apply 1")
		if len(backend.held) != 2 {
			t.Errorf("%d Services are held", len(backend.held))
		}
	})
}

// However often others change, a large Service is written in the end.
func TestChurnStarvesNoLargeService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, backend := cluster.NewStore(), newMemory()
		slow(backend, 400*time.Millisecond)
		store.Apply(cluster.Update{Synced: true, Services: []cluster.ServiceUpdate{service("a", "10.42.0.1")}})
		run(t, Options{}, backend, store)
		time.Sleep(time.Second)
		store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{largeEcho}})
		for i := range 20 {
			store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{service("a", fmt.Sprint("10.42.0.", i+1))}})
			time.Sleep(300 * time.Millisecond)
		}
		backend.mu.Lock()
		defer backend.mu.Unlock()
		if _, written := backend.held[largeEcho.Name]; !written {
			t.Errorf("it is not written: %q", backend.calls)
		}
	})
}

// A Service that is set aside gives up what is another's by now, and is not forgotten to
// be set aside by a look at everything.
func TestSetAsideGivesUpFrontends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, backend := cluster.NewStore(), newMemory()
		external := func(u cluster.ServiceUpdate, created int64) cluster.ServiceUpdate {
			s := *u.Service
			s.Created, s.External.IPs = time.Unix(created, 0), []netip.Addr{netip.MustParseAddr("203.0.113.7")}
			u.Service = &s
			return u
		}
		store.Apply(cluster.Update{Synced: true, Services: []cluster.ServiceUpdate{external(largeEcho, 200)}})
		run(t, Options{SyncPeriod: 30 * time.Second}, backend, store)
		wantCalls(t, backend, "sync 1")
		fail := true
		backend.mu.Lock()
		backend.fail = func() error {
			if fail && strings.HasSuffix(strings.Join(backend.calls, " "), "part") {
				return errors.New("iptables-restore was killed after 20s")
			}
			return nil
		}
		backend.mu.Unlock()
		other := external(service("large", "10.42.0.1", "10.42.0.2", "10.42.0.4"), 200)
		store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{other}})
		wantCalls(t, backend, "part")
		// An older one comes: the change that takes the address away is tried at once.
		store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{external(service("victim", "10.42.0.9"), 100)}})
		wantCalls(t, backend, "apply 1", "part")
	})
}

// A Service whose rules are rejected has nobody else looked at again.
func TestRejectedServiceHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, backend := cluster.NewStore(), newMemory()
		backend.partial = largeEcho.Name
		store.Apply(cluster.Update{Synced: true, Services: []cluster.ServiceUpdate{largeEcho}})
		backend.fail = func() error {
			if strings.HasSuffix(strings.Join(backend.calls, " "), "part") {
				return errors.New("iptables-restore: line 7 failed")
			}
			return nil
		}
		run(t, Options{}, backend, store)
		// Once more, to remove what may be left of it.
		wantCalls(t, backend, "sync 1", "part", "sync 1")
		for i := range 3 {
			store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{service("a", fmt.Sprint("10.42.0.", i+1))}})
			wantCalls(t, backend, "apply 1")
		}
		time.Sleep(firstSetAside)
		wantCalls(t, backend, "part")
	})
}

// logged counts what is logged.
type logged struct {
	mu    sync.Mutex
	texts []string
}

func (l *logged) Infof(format string, _ ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.texts = append(l.texts, format)
}

func (l *logged) Errorf(format string, args ...any) { l.Infof(format, args...) }

// However many changes there are, the log has a line a second of them, and the last
// one is told too.
func TestChurnIsToldOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, backend, log := cluster.NewStore(), newMemory(), &logged{}
		store.Apply(cluster.Update{Synced: true})
		done := make(chan error)
		c := New(Options{Family: cluster.IPv4}, backend, log)
		ctx := t.Context()
		go func() { done <- c.Run(ctx, store) }()
		t.Cleanup(func() { <-done })
		synctest.Wait()
		for range 50 {
			for _, endpoint := range []string{"10.42.0.1", "10.42.0.2"} {
				store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{service("a", endpoint)}})
				time.Sleep(50 * time.Millisecond)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(backend.takeCalls()); n != 101 {
			t.Errorf("%d writes, want 101", n)
		}
		if n := len(log.texts); n < 6 || n > 9 {
			t.Errorf("%d lines for 100 changes in 5 s: %q", n, log.texts)
		}
		if c.told.changes.writes != 0 {
			t.Errorf("%d writes are never told", c.told.changes.writes)
		}
	})
}

// Changes go on as changes while rules of another backend cannot be removed. That is tried
// again later and later.
func TestRemainsHoldUpNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, backend := cluster.NewStore(), newMemory()
		store.Apply(cluster.Update{Synced: true})
		backend.fail = func() error { return fmt.Errorf("no lock: %w", ErrRemains) }
		run(t, Options{}, backend, store)
		wantCalls(t, backend, "sync 0")
		backend.mu.Lock()
		backend.fail, backend.known = func() error { return nil }, true
		backend.mu.Unlock()
		for range 3 {
			store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{service("a", "10.42.0.1")}})
			wantCalls(t, backend, "apply 1")
			store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{gone("a")}})
			wantCalls(t, backend, "apply 1")
		}
		backend.mu.Lock()
		backend.fail = func() error { return fmt.Errorf("no lock: %w", ErrRemains) }
		backend.mu.Unlock()
		time.Sleep(firstSetAside)
		wantCalls(t, backend, "sync 0")
		time.Sleep(firstSetAside)
		wantCalls(t, backend)
		backend.mu.Lock()
		backend.fail = func() error { return nil }
		backend.mu.Unlock()
		time.Sleep(firstSetAside)
		wantCalls(t, backend, "sync 0")
		time.Sleep(time.Hour)
		wantCalls(t, backend)
	})
}
