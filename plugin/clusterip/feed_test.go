package clusterip

import (
	"context"
	"errors"
	"fmt"
	golog "log"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/cluster/kubernetes"
	"github.com/clusterip/clusterip/plugin/clusterip/zone"
)

// recorder is an origin whose sources sync at once. It notes what it was opened for.
type recorder struct{ opened []needs }

func (r *recorder) String() string                { return "the recorder" }
func (r *recorder) accept(n needs) (needs, error) { return n, nil }
func (r *recorder) close()                        {}

func (r *recorder) open(n needs) (source, error) {
	r.opened = append(r.opened, n)
	return syncer{}, nil
}

type syncer struct{}

func (syncer) Run(ctx context.Context, store *cluster.Store, takeOver func(func())) error {
	takeOver(func() { store.Apply(cluster.Update{Synced: true}) })
	<-ctx.Done()
	return nil
}

// The server starts, and says it is ready, when the Handlers have the objects, and
// no sooner.
func TestReadyLast(t *testing.T) {
	f := newFeed(new(recorder))
	defer f.stop()
	f.store.Subscribe(func(u cluster.Update) {
		if u.Synced && f.ready(0) {
			t.Error("ready while a Handler is given the objects")
		}
	})
	own := new(server)
	f.users[own] = &use{}
	if err := f.start(own, time.Minute); err != nil {
		t.Fatal(err)
	}
	if !f.store.HasSynced() {
		t.Error("started before the Store is synced")
	}
}

// A source is started anew only for what the one that runs does not give.
func TestNeeds(t *testing.T) {
	r := new(recorder)
	f := newFeed(r)
	defer f.stop()
	start := func(own *server, n needs) {
		t.Helper()
		if f.users[own] == nil {
			f.users[own] = &use{}
		}
		if err := f.need(own, n); err != nil {
			t.Fatal(err)
		}
		if err := f.start(own, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	first, second := new(server), new(server)
	if f.ready(0) {
		t.Error("ready before it runs")
	}
	start(first, needs{})
	start(first, needs{})
	start(second, needs{pods: true})
	start(first, needs{})
	start(second, needs{node: "a"})
	start(second, needs{node: "b"})
	if err := f.followNode(second, "b"); err != nil {
		t.Fatal(err)
	}
	start(first, needs{imports: true})
	start(second, needs{podNames: true})
	want := []needs{{}, {pods: true}, {pods: true, node: "a"}, {pods: true, node: "b"}, {pods: true, imports: true, node: "b"},
		{pods: true, podNames: true, imports: true, node: "b"}}
	if !reflect.DeepEqual(r.opened, want) {
		t.Errorf("opened for %+v, want %+v", r.opened, want)
	}
	if !f.ready(0) || !f.ready(time.Second) {
		t.Error("not ready when it runs")
	}
}

// Pods of one Node are enough only as long as nobody needs those of another.
func TestNeedsOfPods(t *testing.T) {
	all, one, other := needs{pods: true}, needs{pods: true, podsNode: "a"}, needs{pods: true, podsNode: "b"}
	for _, c := range []struct{ n, o, want needs }{
		{needs{}, one, one}, {one, needs{}, one}, {one, one, one}, {one, other, all}, {one, all, all}, {all, one, all},
	} {
		if got := c.n.with(c.o); got != c.want {
			t.Errorf("%+v with %+v is %+v, want %+v", c.n, c.o, got, c.want)
		}
	}
}

// partly is an origin that cannot list Pods.
type partly struct{ recorder }

func (p *partly) open(n needs) (source, error) {
	if n.pods {
		return deaf{}, nil
	}
	return p.recorder.open(n)
}

// deaf is a source that never lists everything.
type deaf struct{}

func (deaf) Run(ctx context.Context, _ *cluster.Store, _ func(func())) error {
	<-ctx.Done()
	return nil
}

// A reload that needs what cannot be read is refused, and what ran runs on as it did.
func TestReloadThatCannotRead(t *testing.T) {
	f := newFeed(new(partly))
	old, next := new(server), new(server)
	f.users[old] = &use{}
	feeds.byKey = map[any]*feed{"partly": f}
	defer leave(func(*server) bool { return true })
	if err := f.start(old, time.Minute); err != nil {
		t.Fatal(err)
	}
	before := f.newest()
	f.users[next] = &use{needs: needs{pods: true}}
	if err := f.start(next, time.Millisecond); err == nil || !strings.Contains(err.Error(), "what runs goes on") {
		t.Errorf("the reload got %v", err)
	}
	if !f.ready(0) {
		t.Error("not ready while the old source goes on")
	}
	leave(func(s *server) bool { return s == next })
	f.ready(0)
	if f.newest() != before {
		t.Error("what the failed reload began goes on")
	}
	select {
	case <-before.done:
		t.Error("the old source has ended")
	default:
	}
}

// Server blocks that read an API server in the same way share its source, whatever
// they do with it; NAT is refused where Services are left out.
func TestAPIServerIsShared(t *testing.T) {
	own := new(server)
	defer leave(func(s *server) bool { return s == own })
	serveFrom := func(o Options) (*Handler, *feed) {
		t.Helper()
		o.Zones = []string{"cluster.local."}
		h, f, err := serve(own, o, nil)
		if err != nil {
			t.Fatal(err)
		}
		return h, f
	}
	api := kubernetes.Options{Endpoint: "https://192.0.2.1"}
	h, first := serveFrom(Options{API: api})
	if _, again := serveFrom(Options{API: api, TTL: 30, Pods: zone.PodsVerified}); again != first {
		t.Error("one API server has two sources")
	}
	if got := first.users[own].needs; got != (needs{pods: true}) {
		t.Errorf("needed are Pods, and asked for is %+v", got)
	}
	serveFrom(Options{API: api, Multicluster: []string{"cluster.local."}})
	if !first.users[own].needs.imports {
		t.Error("ServiceImports are needed and not asked for")
	}
	serveFrom(Options{API: api, EndpointPodNames: true})
	if !first.users[own].needs.podNames {
		t.Error("names of pods are needed and not asked for")
	}
	if err := h.FollowNode("node-1"); err != nil {
		t.Error(err)
	}
	for name, o := range map[string]kubernetes.Options{
		"labels":           {Labels: "app=web"},
		"namespace_labels": {NamespaceLabels: "app=web"},
		"noendpoints":      {NoEndpoints: true},
	} {
		h, f := serveFrom(Options{API: o})
		if f == first {
			t.Errorf("%s: shared with one that reads all", name)
		}
		if err := h.FollowNode("node-1"); err == nil || !strings.Contains(err.Error(), "kernelnat needs every Service") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// That server blocks with other limits read an API server twice is said; a reload
// that changes them is as good as any.
func TestLimitsThatDiffer(t *testing.T) {
	var logged strings.Builder
	golog.SetOutput(&logged)
	defer golog.SetOutput(os.Stderr)
	defer leave(func(*server) bool { return true })
	first, next := new(server), new(server)
	for _, c := range []struct {
		own  *server
		api  kubernetes.Options
		warn bool
	}{
		{first, kubernetes.Options{Endpoint: "https://192.0.2.1"}, false},
		{first, kubernetes.Options{Endpoint: "https://192.0.2.1"}, false},
		{first, kubernetes.Options{Endpoint: "https://192.0.2.1", Labels: "app=web"}, false},
		{first, kubernetes.Options{Endpoint: "https://192.0.2.1", QPS: 20}, true},
		{next, kubernetes.Options{Endpoint: "https://192.0.2.1", Burst: 20}, false},
	} {
		logged.Reset()
		if _, _, err := serve(c.own, Options{Zones: []string{"cluster.local."}, API: c.api}, nil); err != nil {
			t.Fatal(err)
		}
		if got := logged.String(); strings.Contains(got, "the API server https://192.0.2.1 is read once more") != c.warn {
			t.Errorf("%+v: the log has %q", c.api, got)
		}
	}
}

// What is wrong is an error in the log; what need not be there is none.
func TestReportTrouble(t *testing.T) {
	var logged strings.Builder
	golog.SetOutput(&logged)
	defer golog.SetOutput(os.Stderr)
	for _, c := range []struct {
		err  error
		want string
	}{
		{errors.New("broken"), "[ERROR] plugin/clusterip: services: broken"},
		{fmt.Errorf("not there; %w", kubernetes.ErrGoingOn), "[WARNING] plugin/clusterip: services: not there; going on without"},
		{nil, "[INFO] plugin/clusterip: services: well again"},
	} {
		logged.Reset()
		if reportTrouble("services", c.err); !strings.Contains(logged.String(), c.want) {
			t.Errorf("got %q, want %q", logged.String(), c.want)
		}
	}
}
