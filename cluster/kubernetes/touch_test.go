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
		s, q, j := &Source{watches: newWatches()}, newQueue(), newJoiner(cluster.Update{}, false, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); s.followTouch(ctx, q) }()
		defer func() { cancel(); <-done }()
		unsure := func(want bool) {
			t.Helper()
			synctest.Wait()
			for _, c := range q.take() {
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

// Of all other Nodes, listed in pages, those are kept that have something in a range,
// and of them no more than that. Where listing is forbidden it is gone on without them.
func TestNeighbours(t *testing.T) {
	api := &pages{nodes: 2*nodesInPage + 1}
	server := httptest.NewServer(api)
	defer server.Close()
	var told []error
	s, err := New(Options{Endpoint: server.URL, Node: "node-5"}, func(_ string, err error) { told = append(told, err) })
	if err != nil {
		t.Fatal(err)
	}
	q, j := newQueue(), newJoiner(cluster.Update{}, false, func(string, error) {})
	j.ranges.set(object[string, []netip.Prefix]{key: "a", model: &[]netip.Prefix{netip.MustParsePrefix("10.9.0.4/31"), netip.MustParsePrefix("10.42.7.128/25")}})
	j.take()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.followNeighbours(ctx, q) })
	look := func() cluster.Update {
		j.neighboursKnown = false
		s.neighbours.begun = false
		s.neighbours.in(j.serviceCIDRs())
		<-q.filled
		for _, c := range q.take() {
			c.apply(j)
		}
		return j.take()
	}
	got := look()
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
	if addr := netip.MustParseAddrPort(server.Listener.Addr().String()).Addr(); !reflect.DeepEqual(s.origins.list(), []netip.Addr{addr}) {
		t.Errorf("the API server is at %v, not at %v", s.origins.list(), addr)
	}
	api.mu.Lock()
	api.forbid = true
	api.mu.Unlock()
	if again := look(); len(again.Nodes) != 0 || again.Unsure {
		t.Errorf("without the right: %+v", again)
	}
	look()
	cancel()
	running.Wait()
	if len(told) != 1 || !errors.Is(told[0], ErrGoingOn) {
		t.Errorf("told %v", told)
	}
}
