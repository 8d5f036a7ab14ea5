package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clusterip/clusterip/cluster"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What cannot be known of the API server for long makes it unsure what is in ranges,
// until it says something again.
func TestOutOfTouch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, j := &Source{watches: newWatches(), queue: newQueue()}, newJoiner(cluster.Update{}, false, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); s.followTouch(ctx) }()
		defer func() { cancel(); <-done }()
		unsure := func(want bool) {
			t.Helper()
			synctest.Wait()
			for _, c := range s.queue.take() {
				c.apply(j)
			}
			if got := j.take().Unsure; got != want {
				t.Errorf("unsure: %t, want %t", got, want)
			}
		}
		s.watches.sign("nodes")
		time.Sleep(time.Hour)
		unsure(false)
		s.watches.failed("nodes")
		time.Sleep(touchLost - time.Second)
		unsure(false)
		s.watches.sign("nodes")
		time.Sleep(time.Hour)
		unsure(false)
		s.watches.failed("nodes")
		time.Sleep(touchLost)
		unsure(true)
		s.watches.failed("services")
		s.watches.sign("nodes")
		unsure(false) // services have failed just now
		time.Sleep(touchLost)
		unsure(true)
		s.watches.sign("services")
		unsure(false)
	})
}

// pages is an API server with Nodes alone.
type pages struct {
	nodes    int
	forbid   bool
	mu       sync.Mutex
	requests []string
}

func (p *pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := r.URL.Query()
	p.requests = append(p.requests, r.URL.Path+"?limit="+q.Get("limit")+"&continue="+q.Get("continue"))
	w.Header().Set("Content-Type", "application/json")
	if p.forbid {
		w.WriteHeader(http.StatusForbidden)
		json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Reason: metav1.StatusReasonForbidden, Code: 403})
		return
	}
	limit, _ := strconv.Atoi(q.Get("limit"))
	from, _ := strconv.Atoi(q.Get("continue"))
	list := corev1.NodeList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "NodeList"}}
	for i := from; i < min(p.nodes, from+limit); i++ {
		n := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("node-%d", i)}}
		n.Spec.PodCIDRs = []string{fmt.Sprintf("10.42.%d.0/24", i%256)}
		n.Status.Addresses = []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("10.9.%d.%d", i/256, i%256)}, {Type: corev1.NodeHostName, Address: "name"},
		}
		list.Items = append(list.Items, n)
	}
	if next := from + limit; next < p.nodes {
		list.Continue = strconv.Itoa(next)
	}
	json.NewEncoder(w).Encode(list)
}

// lookFor is the joiner of a Source that asks for other Nodes in ranges.
type lookFor struct {
	*joiner
	s *Source
}

func lookingFor(t *testing.T, url string, report func(string, error), ranges ...netip.Prefix) *lookFor {
	t.Helper()
	s, err := New(Options{Endpoint: url, Node: "node-5"}, report)
	if err != nil {
		t.Fatal(err)
	}
	l := &lookFor{newJoiner(cluster.Update{}, false, quiet), s}
	l.ranges.set(object[[]netip.Prefix]{key: key{Name: "a"}, model: &ranges})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.followNeighbours(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return l
}

// look returns what is found out.
func (l *lookFor) look() cluster.Update {
	l.s.ranges = nil
	l.s.lookForNeighbours(l.joiner)
	for !l.neighboursKnown { // the address of the API server comes first
		<-l.s.queue.filled
		for _, c := range l.s.queue.take() {
			c.apply(l.joiner)
		}
	}
	return l.take()
}

// Of all other Nodes, listed in pages, those are kept that have something in a range,
// and of them no more than that.
func TestNeighbours(t *testing.T) {
	api := &pages{nodes: 2*nodesInPage + 1}
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	l := lookingFor(t, server.URL, quiet, netip.MustParsePrefix("10.9.0.4/31"), netip.MustParsePrefix("10.42.7.128/25"))
	got := l.look()
	want := map[string]*cluster.Node{
		"node-4": {Name: "node-4", Addresses: []netip.Addr{netip.MustParseAddr("10.9.0.4")}},
	}
	for i := 7; i < api.nodes; i += 256 {
		name := fmt.Sprintf("node-%d", i)
		want[name] = &cluster.Node{Name: name, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.42.7.0/24")}}
	}
	found := make(map[string]*cluster.Node)
	for _, n := range got.Nodes {
		found[n.Name] = n.Node
	}
	if !reflect.DeepEqual(found, want) || got.Unsure {
		t.Errorf("got %v, want %v; unsure: %t", found, want, got.Unsure)
	}
	if n := len(api.requests); n != 3 {
		t.Errorf("requests %q", api.requests)
	}
	if addr := netip.MustParseAddrPort(server.Listener.Addr().String()).Addr(); !reflect.DeepEqual(got.Origins, []netip.Addr{addr}) {
		t.Errorf("the API server is at %v, not at %v", got.Origins, addr)
	}
}

// Where listing is forbidden it is gone on without, which is told once.
func TestNeighboursForbidden(t *testing.T) {
	server := httptest.NewServer(&pages{forbid: true})
	t.Cleanup(server.Close)
	var told []error
	l := lookingFor(t, server.URL, func(_ string, err error) { told = append(told, err) }, netip.MustParsePrefix("10.9.0.0/16"))
	for range 2 {
		if u := l.look(); len(u.Nodes) != 0 || u.Unsure {
			t.Errorf("got %+v", u)
		}
	}
	if len(told) != 1 || !errors.Is(told[0], ErrGoingOn) {
		t.Errorf("told %v", told)
	}
}
