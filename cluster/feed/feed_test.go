package feed

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/cluster/manifest"
)

// logged is a Logger that keeps what it is told.
type logged struct {
	mu    sync.Mutex
	lines []string
}

func (l *logged) Infof(format string, args ...any)    { l.add("[INFO] "+format, args) }
func (l *logged) Warningf(format string, args ...any) { l.add("[WARNING] "+format, args) }
func (l *logged) Errorf(format string, args ...any)   { l.add("[ERROR] "+format, args) }

func (l *logged) add(format string, args []any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

func ignore(uint64, cluster.Update) {}

// recorder is an Origin whose sources sync at once, but for Pods, if it has none to
// list. It notes what it was opened for, and what sources were told to warn of.
type recorder struct {
	opened []Needs
	noPods bool
	warned chan string
}

func (r *recorder) String() string                { return "the recorder" }
func (r *recorder) Accept(n Needs) (Needs, error) { return n, nil }
func (r *recorder) key() any                      { return r }
func (r *recorder) hasNodes() bool                { return false }
func (r *recorder) present() []manifest.Problem   { return nil }
func (r *recorder) beside(Origin, Logger) error   { return nil }
func (r *recorder) check() error                  { return nil }
func (r *recorder) close()                        {}
func (r *recorder) open(n Needs, _ Logger) (source, error) {
	r.opened = append(r.opened, n)
	return &recorded{recorder: r, deaf: n.Pods && r.noPods}, nil
}

type recorded struct {
	fromFolder
	recorder *recorder
	deaf     bool
}

func (s *recorded) Run(ctx context.Context, store *cluster.Store, takeOver func(func())) error {
	if !s.deaf {
		takeOver(func() { store.Apply(cluster.Update{Synced: true}) })
	}
	<-ctx.Done()
	return nil
}

func (s *recorded) Warn(_ cluster.ServiceName, _, text string) { s.recorder.warned <- text }
func (s *recorded) WarnRange(_ netip.Prefix, _, text string)   { s.recorder.warned <- text }

// newFeeds returns Feeds without any running at the end, and a function by which a
// server joins one of an origin.
func newFeeds(t *testing.T, r *recorder) (feeds *Feeds, join func(*Server, Needs) *Subscription) {
	feeds = New(new(logged), ignore)
	t.Cleanup(func() { feeds.Leave(func(*Server) bool { return true }) })
	return feeds, func(own *Server, n Needs) *Subscription {
		t.Helper()
		s, err := feeds.Join(own, r, n)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

// The server starts, and says it is ready, when the Handlers have the objects, and
// no sooner.
func TestReadyLast(t *testing.T) {
	_, join := newFeeds(t, new(recorder))
	s := join(new(Server), Needs{})
	s.Store().Subscribe(func(u cluster.Update) {
		if u.Synced && s.Ready(0) {
			t.Error("ready while a Handler is given the objects")
		}
	})
	if err := s.Start(time.Minute); err != nil {
		t.Fatal(err)
	}
	if !s.Store().HasSynced() {
		t.Error("started before the Store is synced")
	}
}

// What is measured of a change is when all have it, those after a reload too.
func TestObserveIsLast(t *testing.T) {
	var called []string
	feeds := New(new(logged), func(uint64, cluster.Update) { called = append(called, "observe") })
	defer feeds.Leave(func(*Server) bool { return true })
	r := new(recorder)
	for _, server := range []string{"old", "new"} {
		s, err := feeds.Join(new(Server), r, Needs{})
		if err != nil {
			t.Fatal(err)
		}
		s.Store().Subscribe(func(cluster.Update) { called = append(called, server) })
		if err := s.Start(time.Minute); err != nil {
			t.Fatal(err)
		}
		called = nil
		s.Store().Renew()
	}
	if !slices.Equal(called, []string{"old", "new", "observe"}) {
		t.Errorf("called were %v", called)
	}
}

// A source is started anew only for what the one that runs does not give.
func TestNeeds(t *testing.T) {
	r := new(recorder)
	_, join := newFeeds(t, r)
	start := func(own *Server, n Needs) *Subscription {
		t.Helper()
		s := join(own, n)
		if err := s.Start(time.Minute); err != nil {
			t.Fatal(err)
		}
		return s
	}
	first, second := new(Server), new(Server)
	if join(first, Needs{}).Ready(0) {
		t.Error("ready before it runs")
	}
	start(first, Needs{})
	start(first, Needs{})
	start(second, Needs{Pods: true})
	start(first, Needs{})
	start(second, Needs{Node: "a"})
	start(second, Needs{Node: "b"})
	start(second, Needs{Node: "b"})
	start(first, Needs{Imports: true})
	s := start(second, Needs{PodNames: true})
	want := []Needs{{}, {Pods: true}, {Pods: true, Node: "a"}, {Pods: true, Node: "b"}, {Pods: true, Imports: true, Node: "b"},
		{Pods: true, PodNames: true, Imports: true, Node: "b"}}
	if !reflect.DeepEqual(r.opened, want) {
		t.Errorf("opened for %+v, want %+v", r.opened, want)
	}
	if !s.Ready(0) || !s.Ready(time.Second) {
		t.Error("not ready when it runs")
	}
}

// Pods of one Node are enough only as long as nobody needs those of another.
func TestNeedsOfPods(t *testing.T) {
	all, one, other := Needs{Pods: true}, Needs{Pods: true, PodsNode: "a"}, Needs{Pods: true, PodsNode: "b"}
	for _, c := range []struct{ n, o, want Needs }{
		{Needs{}, one, one}, {one, Needs{}, one}, {one, one, one}, {one, other, all}, {one, all, all}, {all, one, all},
	} {
		if got := c.n.with(c.o); got != c.want {
			t.Errorf("%+v with %+v is %+v, want %+v", c.n, c.o, got, c.want)
		}
	}
}

// A reload that needs what cannot be read is refused, and what ran runs on as it did.
func TestReloadThatCannotRead(t *testing.T) {
	feeds, join := newFeeds(t, &recorder{noPods: true})
	old, next := new(Server), new(Server)
	first := join(old, Needs{})
	if err := first.Start(time.Minute); err != nil {
		t.Fatal(err)
	}
	before := first.feed.newest
	second := join(next, Needs{Pods: true})
	left := false
	second.AtEnd(func() { left = true })
	if err := second.Start(time.Millisecond); err == nil || !strings.Contains(err.Error(), "what runs goes on") {
		t.Errorf("the reload got %v", err)
	}
	if !first.Ready(0) {
		t.Error("not ready while the old source goes on")
	}
	feeds.Leave(func(s *Server) bool { return s == next })
	if !left {
		t.Error("the server that left was not told")
	}
	if !first.Ready(0) || first.feed.newest != before {
		t.Error("what the failed reload began goes on")
	}
	if isClosed(before.done) {
		t.Error("the old source has ended")
	}
}

// Who warns is in the middle of writing rules and must not wait until sources have
// started or ended.
func TestWarningsDoNotWait(t *testing.T) {
	r := &recorder{warned: make(chan string, 2)}
	feeds, join := newFeeds(t, r)
	s := join(new(Server), Needs{})
	s.Warn(cluster.ServiceName{}, "Reason", "nobody is there to hear it yet")
	if err := s.Start(time.Minute); err != nil {
		t.Fatal(err)
	}
	feeds.mu.Lock()
	defer feeds.mu.Unlock()
	go func() {
		s.Warn(cluster.ServiceName{}, "Reason", "a Service")
		s.WarnRange(netip.Prefix{}, "Reason", "a range")
	}()
	for _, want := range []string{"a Service", "a range"} {
		select {
		case got := <-r.warned:
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%q waits for the lock of the feeds", want)
		}
	}
}

// While a new source publishes what it lists first, it is the one to be warned by: the
// one before it has ended.
func TestWarningsOfWhatIsNew(t *testing.T) {
	r := &recorder{warned: make(chan string, 1)}
	_, join := newFeeds(t, r)
	own := new(Server)
	s := join(own, Needs{})
	s.Store().Subscribe(func(u cluster.Update) {
		if u.Synced {
			s.Warn(cluster.ServiceName{}, "Reason", "as it came")
		}
	})
	if err := s.Start(time.Minute); err != nil {
		t.Fatal(err)
	}
	if len(r.warned) != 1 {
		t.Error("the warning is lost")
	}
}
