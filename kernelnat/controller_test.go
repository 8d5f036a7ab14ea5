package kernelnat

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/conntrack"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/clusterip/clusterip/test/clustertest"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// memory is a Backend that keeps what it is given, as a kernel would. The real
// ones run in the packages beside this; here the loop is looked at.
type memory struct {
	mu      sync.Mutex
	held    map[cluster.ServiceName]plan.Service
	calls   []string
	fail    func() error // asked before every write
	misuse  error        // the loop broke Backend's contract
	known   bool         // the last write succeeded
	touched bool         // somebody else has written since
	unsure  map[cluster.ServiceName]bool
	partial cluster.ServiceName // whose rules Sync finds rejected
	left    []Work
	ranges  []plan.Range
}

// largeEndpoints is how many a Service has that memory changes in parts.
const largeEndpoints = 3

// memoryWork has two parts and then changes what memory holds.
type memoryWork struct {
	m     *memory
	to    plan.Service
	steps int
}

func (w *memoryWork) Service() cluster.ServiceName { return w.to.Name }

func (w *memoryWork) Step(ctx context.Context) (bool, error) {
	if w.steps++; w.steps < 3 {
		w.m.mu.Lock()
		defer w.m.mu.Unlock()
		w.m.calls = append(w.m.calls, "part")
		if err := w.m.fail(); err != nil {
			return false, errors.Join(err, ErrSetAside)
		}
		return false, nil
	}
	w.m.mu.Lock()
	delete(w.m.unsure, w.to.Name)
	delete(w.m.held, w.to.Name)
	w.m.mu.Unlock()
	return true, w.m.Apply(ctx, []Change{{New: w.to}})
}

func (m *memory) Large(changes []Change) (rest []Change, works []Work) {
	m.mu.Lock()
	defer m.mu.Unlock()
	works, m.left = m.left, nil
	large := func(p plan.Service) bool { return len(p.Pools) > 0 && len(p.Pools[0].Endpoints) >= largeEndpoints }
	for _, c := range changes {
		if m.unsure[c.New.Name] || large(c.Old) || large(c.New) {
			m.unsure[c.New.Name] = true
			works = append(works, &memoryWork{m: m, to: c.New})
		} else {
			rest = append(rest, c)
		}
	}
	return rest, works
}

func newMemory() *memory {
	return &memory{held: make(map[cluster.ServiceName]plan.Service), unsure: make(map[cluster.ServiceName]bool), fail: func() error { return nil }}
}

func (m *memory) Sync(_ context.Context, state State) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	call := fmt.Sprintf("sync %d", len(state.Services))
	if state.Incomplete {
		call += " of more"
	}
	m.calls = append(m.calls, call)
	m.known = false
	if err := m.fail(); err != nil {
		return nil, err
	}
	var written []string
	if m.touched {
		written, m.touched = []string{"nat KUBE-SERVICES"}, false
	}
	m.held, m.unsure = make(map[cluster.ServiceName]plan.Service), make(map[cluster.ServiceName]bool)
	for _, s := range state.Services {
		m.held[s.Name] = s
	}
	m.known, m.ranges = true, state.Ranges
	if p, there := m.held[m.partial]; there {
		delete(m.held, m.partial)
		m.unsure[m.partial] = true
		m.left = []Work{&memoryWork{m: m, to: p}}
		return written, ErrPartial
	}
	return written, nil
}

func (m *memory) Refuse(_ context.Context, ranges []plan.Range) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, fmt.Sprintf("refuse %d", len(ranges)))
	if !m.known && len(ranges) > 0 {
		m.misuse = errors.New("Refuse while the kernel's state is unknown")
	}
	if err := m.fail(); err != nil {
		m.known = false
		return err
	}
	m.ranges = ranges
	return nil
}

func (m *memory) Untouched() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.touched
}

func (m *memory) Apply(_ context.Context, changes []Change) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, fmt.Sprintf("apply %d", len(changes)))
	if !m.known {
		m.misuse = errors.New("Apply while the kernel's state is unknown")
	}
	m.known = false
	if err := m.fail(); err != nil {
		return err
	}
	for _, c := range changes {
		if old := m.held[c.New.Name]; len(old.Frontends) > 0 && !old.Equal(c.Old) {
			m.misuse = fmt.Errorf("Apply says %v was %v, but %v was written", c.New.Name, c.Old, old)
		}
		delete(m.held, c.New.Name)
		if len(c.New.Frontends) > 0 {
			m.held[c.New.Name] = c.New
		}
	}
	m.known = true
	return nil
}

func (m *memory) Forget(*conntrack.Stale, *conntrack.Draining) (func() (uint, error), error) {
	return func() (uint, error) { return 0, nil }, nil
}

func (m *memory) Cleanup(context.Context) error { return nil }

func (m *memory) Connections() ([]Connections, error) { return nil, nil }

func (m *memory) Tables() []string { return nil }

func (m *memory) Close() error { return nil }

func (m *memory) takeCalls() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	calls := m.calls
	m.calls = nil
	return calls
}

type testLog struct{ t *testing.T }

func (l testLog) Infof(format string, args ...any)  { l.t.Logf(format, args...) }
func (l testLog) Errorf(format string, args ...any) { l.t.Logf("error: "+format, args...) }

func service(name string, endpoints ...string) cluster.ServiceUpdate {
	s := cluster.New(clustertest.Service("testing/"+name, vipOf(name).String()), clustertest.Ready(endpoints...))
	return clustertest.Changed(s)[0]
}

// vipOf is the ClusterIP of a Service, each another.
func vipOf(name string) netip.Addr {
	sum := 0
	for _, c := range name {
		sum += int(c)
	}
	return netip.AddrFrom4([4]byte{10, 43, 0, byte(50 + sum%199)})
}

func gone(name string) cluster.ServiceUpdate {
	return clustertest.Gone("testing/" + name)[0]
}

// run starts a Controller inside a synctest bubble and stops it at the end.
func run(t *testing.T, options Options, backend Backend, store *cluster.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	options.Family = cluster.IPv4
	go func() { done <- New(options, backend, testLog{t}).Run(ctx, store) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
	})
}

func wantCalls(t *testing.T, m *memory, want ...string) {
	t.Helper()
	synctest.Wait()
	if got := m.takeCalls(); !reflect.DeepEqual(got, want) {
		t.Errorf("backend calls %q, want %q", got, want)
	}
}

func TestNothingIsWrittenBeforeTheStoreHasSynced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, backend := cluster.NewStore(), newMemory()
		run(t, Options{}, backend, store)
		store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{service("a", "10.42.0.1")}})
		time.Sleep(listingPatience - time.Second)
		wantCalls(t, backend)
		time.Sleep(time.Hour)
		wantCalls(t, backend, "refuse 0") // what is left may keep the source away
		store.Apply(cluster.Update{Synced: true})
		wantCalls(t, backend, "sync 1")
	})
}

func TestOnlyChangesAreWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, backend := cluster.NewStore(), newMemory()
		store.Apply(cluster.Update{Synced: true, Services: []cluster.ServiceUpdate{service("a", "10.42.0.1"), service("b")}})
		run(t, Options{}, backend, store)
		wantCalls(t, backend, "sync 2")

		store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{service("a", "10.42.0.1", "10.42.0.2")}})
		wantCalls(t, backend, "apply 1")
		// The same again, pods and namespaces: no work for the kernel.
		store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{service("a", "10.42.0.1", "10.42.0.2")}})
		store.Apply(cluster.Update{Namespaces: []cluster.NamespaceUpdate{{Name: "x", Exists: true}}})
		wantCalls(t, backend)
		store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{gone("a"), gone("never-seen")}})
		wantCalls(t, backend, "apply 1")
		if len(backend.held) != 1 {
			t.Errorf("the backend holds %v", backend.held)
		}
	})
}

func TestMinSyncPeriodGathersChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, backend := cluster.NewStore(), newMemory()
		store.Apply(cluster.Update{Synced: true})
		run(t, Options{MinSyncPeriod: time.Second}, backend, store)
		wantCalls(t, backend, "sync 0")
		for _, name := range []string{"a", "b", "c"} {
			store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{service(name, "10.42.0.1")}})
		}
		wantCalls(t, backend)
		time.Sleep(time.Second)
		wantCalls(t, backend, "apply 3")
	})
}

func TestFailureIsRetriedWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, backend := cluster.NewStore(), newMemory()
		store.Apply(cluster.Update{Synced: true, Services: []cluster.ServiceUpdate{service("a", "10.42.0.1")}})
		run(t, Options{}, backend, store)
		wantCalls(t, backend, "sync 1")

		broken := true
		backend.mu.Lock()
		backend.fail = func() error {
			if broken {
				return errors.New("iptables-restore: refused")
			}
			return nil
		}
		backend.mu.Unlock()
		store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{service("b", "10.42.0.2")}})
		wantCalls(t, backend, "apply 1")
		time.Sleep(firstRetry)
		wantCalls(t, backend, "sync 2")
		time.Sleep(firstRetry)
		wantCalls(t, backend) // the second delay is twice as long
		backend.mu.Lock()
		broken = false
		backend.mu.Unlock()
		time.Sleep(firstRetry)
		wantCalls(t, backend, "sync 2")
		store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{gone("b")}})
		wantCalls(t, backend, "apply 1")
	})
}

// As long as not all Services are known nothing is removed; then all is looked at
// once more.
func TestIncompleteStateIsSyncedAgainWhenComplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, backend := cluster.NewStore(), newMemory()
		store.Apply(cluster.Update{Synced: true, Incomplete: true, Services: []cluster.ServiceUpdate{service("a", "10.42.0.1")}})
		run(t, Options{}, backend, store)
		wantCalls(t, backend, "sync 1 of more")
		store.Apply(cluster.Update{Incomplete: true, Services: []cluster.ServiceUpdate{service("b", "10.42.0.2")}})
		wantCalls(t, backend, "apply 1")
		store.Apply(cluster.Update{})
		wantCalls(t, backend, "sync 2")
		store.Apply(cluster.Update{})
		wantCalls(t, backend)
	})
}

// What somebody else changes is repaired within a period; as long as nobody does,
// nothing is read but once an hour.
func TestAudit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, backend := cluster.NewStore(), newMemory()
		store.Apply(cluster.Update{Synced: true, Services: []cluster.ServiceUpdate{service("a", "10.42.0.1")}})
		run(t, Options{SyncPeriod: 30 * time.Second}, backend, store)
		wantCalls(t, backend, "sync 1")
		time.Sleep(time.Hour - time.Second)
		wantCalls(t, backend)
		time.Sleep(time.Second)
		wantCalls(t, backend, "sync 1")

		before := testutil.ToFloat64(repairs.WithLabelValues("IPv4"))
		time.Sleep(10 * time.Second)
		backend.mu.Lock()
		backend.touched = true
		backend.mu.Unlock()
		time.Sleep(20 * time.Second)
		wantCalls(t, backend, "sync 1")
		if got := testutil.ToFloat64(repairs.WithLabelValues("IPv4")) - before; got != 1 {
			t.Errorf("%v repairs are counted, want 1", got)
		}
		store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{service("b", "10.42.0.2")}})
		wantCalls(t, backend, "apply 1")
	})
}

// What needs no rules is not waiting to be written.
func TestNothingToWriteIsNotLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, backend := cluster.NewStore(), newMemory()
		store.Apply(cluster.Update{Synced: true, Services: []cluster.ServiceUpdate{service("a", "10.42.0.1")}})
		ctx, cancel := context.WithCancel(t.Context())
		c := New(Options{Family: cluster.IPv6, SyncPeriod: time.Second}, backend, testLog{t})
		done := make(chan error)
		go func() { done <- c.Run(ctx, store) }()
		for range 3 {
			synctest.Wait()
			store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{service("a", "10.42.0.2")}}) // IPv4 alone
			time.Sleep(time.Minute)
			if h := c.Health(); h.Late || h.LastUpdated.IsZero() {
				t.Errorf("health %+v", h)
			}
		}
		cancel()
		<-done
	})
}

// Changes without a pause put no audit off.
func TestChangesPutNoAuditOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, backend := cluster.NewStore(), newMemory()
		store.Apply(cluster.Update{Synced: true})
		run(t, Options{SyncPeriod: 30 * time.Second, MinSyncPeriod: 10 * time.Second}, backend, store)
		backend.mu.Lock()
		backend.touched = true
		backend.mu.Unlock()
		for i := range 6 {
			store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{service("a", fmt.Sprint("10.42.0.", i+1))}})
			time.Sleep(9 * time.Second)
		}
		backend.mu.Lock()
		defer backend.mu.Unlock()
		if backend.touched {
			t.Errorf("nobody looked at what somebody touched: %v", backend.calls)
		}
	})
}

// A change that comes while retries are far apart is tried soon.
func TestChangeIsNotHeldUpByRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, backend := cluster.NewStore(), newMemory()
		backend.fail = func() error { return errors.New("ip6tables: not there") }
		store.Apply(cluster.Update{Synced: true, Services: []cluster.ServiceUpdate{service("a", "10.42.0.1")}})
		run(t, Options{}, backend, store)
		time.Sleep(10 * lastRetry)
		synctest.Wait()
		backend.takeCalls()
		for len(backend.takeCalls()) == 0 { // until a retry has just failed
			time.Sleep(firstRetry / 5)
			synctest.Wait()
		}
		time.Sleep(2 * firstRetry)
		store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{service("b", "10.42.0.2")}})
		wantCalls(t, backend, "sync 2")
	})
}

func TestDryRunWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, backend := cluster.NewStore(), newMemory()
		store.Apply(cluster.Update{Synced: true, Services: []cluster.ServiceUpdate{service("a", "10.42.0.1")}})
		run(t, Options{DryRun: true}, backend, store)
		store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{service("b", "10.42.0.2")}})
		wantCalls(t, backend)
	})
}

// The younger Service gets the frontend when the older one goes, with no change of
// its own.
func TestConflictIsSettledAndUnsettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, backend := cluster.NewStore(), newMemory()
		withNodePort := func(name string, created int64) cluster.ServiceUpdate {
			u := service(name, "10.42.0.1")
			s := *u.Service
			s.Created, s.Ports = time.Unix(created, 0), []cluster.Port{{Protocol: cluster.TCP, Port: 80, NodePort: 30080}}
			u.Service = &s
			return u
		}
		has := func(want string) {
			t.Helper()
			synctest.Wait()
			var got []string
			for name, p := range backend.held {
				if len(p.Frontends) > 1 {
					got = append(got, name.Name)
				}
			}
			if fmt.Sprint(got) != want {
				t.Errorf("%v have the NodePort, want %s", got, want)
			}
		}
		store.Apply(cluster.Update{Synced: true, Services: []cluster.ServiceUpdate{withNodePort("young", 200)}})
		run(t, Options{}, backend, store)
		has("[young]")
		store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{withNodePort("old", 100)}})
		has("[old]")
		store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{gone("old")}})
		has("[young]")
	})
}

// What stands at the end of a sync can be asked for at any time.
func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, backend := cluster.NewStore(), newMemory()
		broken := ""
		backend.fail = func() error {
			if broken != "" && strings.HasSuffix(strings.Join(backend.calls, " "), broken) {
				return errors.New("iptables-restore: refused")
			}
			return nil
		}
		c := New(Options{Family: cluster.IPv4, SyncPeriod: 30 * time.Second}, backend, testLog{t})
		if s := c.Status(); s.Family != cluster.IPv4 || !s.Updated.IsZero() {
			t.Errorf("before it runs: %+v", s)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx, store) }()
		other := service("b", "10.42.0.2")
		other.Service.External.IPs = []netip.Addr{vipOf("a")}
		store.Apply(cluster.Update{Synced: true, Services: []cluster.ServiceUpdate{service("a", "10.42.0.1"), other}})
		synctest.Wait()
		started := time.Now()
		if s := c.Status(); s.Services != 2 || s.Ports != 2 || s.Updated != started || s.Error != "" || len(s.Waiting) > 0 ||
			len(s.Short) != 1 || s.Short[0].Service != other.Name || s.Short[0].Refused[0].Why != plan.IsClusterIP {
			t.Errorf("after the start: %+v", s)
		}
		backend.mu.Lock()
		broken = "apply 1"
		backend.mu.Unlock()
		store.Apply(services1(service("c", "10.42.0.3")))
		synctest.Wait()
		if s := c.Status(); s.Services != 3 || s.Updated != started || s.Failed != time.Now() || !strings.Contains(s.Error, "refused") {
			t.Errorf("after a failure: %+v", s)
		}
		time.Sleep(time.Second)
		backend.mu.Lock()
		broken, backend.touched = "part", true
		backend.mu.Unlock()
		store.Apply(services1(service("large", "10.42.0.1", "10.42.0.2", "10.42.0.3")))
		synctest.Wait()
		if s := c.Status(); s.Error != "" || len(s.Waiting) != 1 || s.Waiting[0].Service.Name != "large" || s.Waiting[0].Again != time.Now().Add(firstSetAside) {
			t.Errorf("while one is set aside: %+v", s)
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if s := c.Status(); s.Repairs != 1 || s.Repaired[0] != "nat KUBE-SERVICES" || s.RepairedAt.IsZero() {
			t.Errorf("after a repair: %+v", s)
		}
		cancel()
		<-done
	})
}

// Of a contest those are told who win or lose by it, and not all who wait.
func TestContestsAreToldByThoseWhoWinOrLose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, backend := cluster.NewStore(), newMemory()
		asking := func(i int) cluster.ServiceUpdate {
			name := cluster.ServiceName{Namespace: "testing", Name: fmt.Sprintf("s%04d", i)}
			return cluster.ServiceUpdate{Name: name, Service: cluster.New(cluster.Service{
				Name: name, Kind: cluster.KindClusterIP, Created: time.Unix(int64(1000+i), 0),
				ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 43, byte(i >> 8), byte(i)})},
				Ports:      []cluster.Port{{Protocol: cluster.TCP, Port: 80}},
				External:   cluster.External{IPs: []netip.Addr{netip.MustParseAddr("203.0.113.1")}},
			})}
		}
		var all []cluster.ServiceUpdate
		for i := 1; i <= 1000; i++ {
			all = append(all, asking(i))
		}
		store.Apply(cluster.Update{Synced: true, Services: all})
		var told atomic.Int32
		run(t, Options{Refused: func(cluster.ServiceName, string) { told.Add(1) }}, backend, store)
		time.Sleep(time.Second)
		told.Store(0)
		store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{asking(0)}}) // older than all
		time.Sleep(time.Second)
		if told := told.Load(); told > 10 {
			t.Errorf("one Service came, and %d are told (log lines at ERROR, and Events) that they do not get what they did not have before", told)
		}
	})
}

// One write in ten fails; however the changes fall, the kernel must end up
// holding what a fresh start would write.
func TestRandomWalkConverges(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				randomWalk(t, rand.New(rand.NewPCG(seed, 0)), rand.New(rand.NewPCG(seed, 1)))
			})
		})
	}
}

func randomWalk(t *testing.T, random, faults *rand.Rand) {
	store, backend := cluster.NewStore(), newMemory()
	backend.fail = func() error {
		if faults.IntN(10) == 0 {
			return errors.New("the tenth write")
		}
		return nil
	}
	store.Apply(cluster.Update{Synced: true})
	run(t, Options{}, backend, store)
	for range 200 {
		name := string(rune('a' + random.IntN(8)))
		update := gone(name)
		if random.IntN(4) > 0 {
			var endpoints []string
			for range random.IntN(6) {
				endpoints = append(endpoints, fmt.Sprint("10.42.0.", 1+random.IntN(9)))
			}
			update = service(name, endpoints...)
		}
		store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{update}})
		switch random.IntN(6) {
		case 0, 1:
			synctest.Wait()
		case 2:
			time.Sleep(firstRetry) // virtual: lets a retry come in between
		}
	}
	time.Sleep(10 * lastSetAside)
	synctest.Wait()
	want := make(map[cluster.ServiceName]plan.Service)
	for _, u := range store.Snapshot().Services {
		want[u.Name] = plan.Compute(u.Service, cluster.IPv4, plan.Node{}, plan.Options{})
	}
	if backend.misuse != nil {
		t.Error(backend.misuse)
	}
	if !reflect.DeepEqual(backend.held, want) {
		t.Errorf("the kernel holds %v, a fresh start would write %v", backend.held, want)
	}
}
