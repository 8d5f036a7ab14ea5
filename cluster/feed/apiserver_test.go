package feed

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster/kubernetes"
)

// Server blocks that read an API server in the same way share its source, whatever
// they do with it; NAT is refused where Services are left out.
func TestAPIServerIsShared(t *testing.T) {
	feeds, own := New(new(logged), ignore), new(Server)
	join := func(o kubernetes.Options, n Needs) *Subscription {
		t.Helper()
		s, err := feeds.Join(own, APIServer(o), n)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	api := kubernetes.Options{Endpoint: "https://192.0.2.1"}
	first := join(api, Needs{})
	if again := join(api, Needs{Pods: true}); again != first {
		t.Error("one API server has two sources")
	}
	if first.needs != (Needs{Pods: true}) {
		t.Errorf("needed are Pods, and asked for is %+v", first.needs)
	}
	join(api, Needs{Imports: true})
	if !first.needs.Imports {
		t.Error("ServiceImports are needed and not asked for")
	}
	join(api, Needs{PodNames: true})
	if !first.needs.PodNames {
		t.Error("names of pods are needed and not asked for")
	}
	if err := first.Need(Needs{Node: "node-1"}); err != nil {
		t.Error(err)
	}
	for name, o := range map[string]kubernetes.Options{
		"labels":           {Labels: "app=web"},
		"namespace_labels": {NamespaceLabels: "app=web"},
		"noendpoints":      {NoEndpoints: true},
	} {
		s := join(o, Needs{})
		if s.feed == first.feed {
			t.Errorf("%s: shared with one that reads all", name)
		}
		if err := s.Need(Needs{Node: "node-1"}); err == nil || !strings.Contains(err.Error(), "kernelnat needs every Service") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// That server blocks with other limits read an API server twice is said; a reload
// that changes them is as good as any.
func TestLimitsThatDiffer(t *testing.T) {
	log := new(logged)
	feeds, first, next := New(log, ignore), new(Server), new(Server)
	for _, c := range []struct {
		own  *Server
		api  kubernetes.Options
		warn bool
	}{
		{first, kubernetes.Options{Endpoint: "https://192.0.2.1"}, false},
		{first, kubernetes.Options{Endpoint: "https://192.0.2.1"}, false},
		{first, kubernetes.Options{Endpoint: "https://192.0.2.1", Labels: "app=web"}, false},
		{first, kubernetes.Options{Endpoint: "https://192.0.2.1", QPS: 20}, true},
		{next, kubernetes.Options{Endpoint: "https://192.0.2.1", Burst: 20}, false},
	} {
		log.lines = nil
		if _, err := feeds.Join(c.own, APIServer(c.api), Needs{}); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(log.lines, "\n"); strings.Contains(got, "the API server https://192.0.2.1 is read once more") != c.warn {
			t.Errorf("%+v: the log has %q", c.api, got)
		}
	}
}

// What is wrong is an error in the log; what need not be there is none.
func TestReportTrouble(t *testing.T) {
	log := new(logged)
	for _, err := range []error{errors.New("broken"), fmt.Errorf("not there; %w", kubernetes.ErrGoingOn), nil} {
		reportTrouble(log, "services", err)
	}
	want := []string{"[ERROR] services: broken", "[WARNING] services: not there; going on without", "[INFO] services: well again"}
	if !slices.Equal(log.lines, want) {
		t.Errorf("got %q, want %q", log.lines, want)
	}
}
