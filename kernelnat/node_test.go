package kernelnat

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// lines keeps what is logged.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) add(level, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, level+" "+fmt.Sprintf(format, args...))
}

func (l *lines) Infof(format string, args ...any)    { l.add("info", format, args...) }
func (l *lines) Warningf(format string, args ...any) { l.add("warning", format, args...) }
func (l *lines) Errorf(format string, args ...any)   { l.add("error", format, args...) }

func (l *lines) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.all
	l.all = nil
	return all
}

// follow runs a Node inside a synctest bubble, and says how often it began.
func follow(t *testing.T, options NodeOptions, store *cluster.Store) (n *Node, log *lines, begun *int) {
	log, begun = &lines{}, new(int)
	n = NewNode(options, log)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- n.Run(ctx, store, func() { *begun++ }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
	})
	synctest.Wait()
	return n, log, begun
}

func wantLines(t *testing.T, log *lines, want ...string) {
	t.Helper()
	synctest.Wait()
	got := log.take()
	for i, w := range want {
		if i >= len(got) || !strings.Contains(got[i], w) {
			t.Errorf("line %d is not %q", i, w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d lines, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
	}
}

func nodeUpdate(name string, cidrs ...string) cluster.Update {
	n := &cluster.Node{Name: name}
	for _, c := range cidrs {
		n.PodCIDRs = append(n.PodCIDRs, netip.MustParsePrefix(c))
	}
	return cluster.Update{Nodes: []cluster.NodeUpdate{{Name: name, Node: n}}}
}

// At an API server every node has a Node. That ours has none is told once, after a
// while; load balancers are told at once, when it is so and when it is no longer so.
func TestMissingNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := cluster.NewStore()
		n, log, begun := follow(t, NodeOptions{Name: "here", Registered: true}, store)
		if n.Eligible() || *begun != 1 {
			t.Errorf("before anything is known: eligible %t, begun %d", n.Eligible(), *begun)
		}
		store.Apply(cluster.Update{Synced: true})
		time.Sleep(nodeWait - time.Second)
		wantLines(t, log)
		store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{service("a", "10.42.0.1")}})
		time.Sleep(time.Second)
		wantLines(t, log, `error no Node is called "here"`)
		for range 3 {
			store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{service("a", "10.42.0.1")}})
			time.Sleep(time.Hour)
		}
		wantLines(t, log)
		if n.Eligible() {
			t.Error("a node without a Node is eligible")
		}
		store.Apply(nodeUpdate("here"))
		wantLines(t, log, `info no longer so: no Node is called "here"`)
		if !n.Eligible() {
			t.Error("the Node has come, and it is not eligible")
		}
		store.Apply(cluster.Update{Nodes: []cluster.NodeUpdate{{Name: "here", Node: &cluster.Node{Name: "here", Leaving: true}}}})
		if n.Eligible() {
			t.Error("a node that is leaving is eligible")
		}
		store.Apply(cluster.Update{Nodes: []cluster.NodeUpdate{{Name: "here"}}})
		time.Sleep(nodeWait)
		wantLines(t, log, `error no Node is called "here"`)
	})
}

// In a folder there mostly are no Nodes.
func TestNodeOfAFolder(t *testing.T) {
	here := func(policy bool) cluster.ServiceUpdate {
		u := service("a", "10.42.0.1")
		s := *u.Service
		s.InternalLocal = policy
		s.Endpoints[0].Topology = &cluster.Topology{NodeName: "other"}
		return cluster.ServiceUpdate{Name: u.Name, Service: &s}
	}
	for _, c := range []struct {
		name          string
		given         cluster.Update
		eligible      bool
		fault, doubts string
	}{
		{"nothing", cluster.Update{}, true, "", ""},
		{"endpoints elsewhere", cluster.Update{Services: []cluster.ServiceUpdate{here(false)}}, true, "", ""},
		{"those of a Local policy", cluster.Update{Services: []cluster.ServiceUpdate{here(true)}}, true, "", `warning no endpoint's nodeName is "here", so Services whose policy is Local drop connections here: testing/a. If`},
		{"our Node", nodeUpdate("here"), true, "", ""},
		{"another", nodeUpdate("other"), false, `error no Node is called "here", only other: `, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := cluster.NewStore()
				n, log, _ := follow(t, NodeOptions{Name: "here"}, store)
				u := c.given
				u.Synced = true
				store.Apply(u)
				if n.Eligible() != c.eligible {
					t.Errorf("eligible: %t", !c.eligible)
				}
				time.Sleep(nodeWait)
				want := []string{}
				for _, line := range []string{c.fault, c.doubts} {
					if line != "" {
						want = append(want, line)
					}
				}
				wantLines(t, log, want...)
				faults := NodeFaults(u, NodeOptions{Name: "here"})
				if len(faults) != len(want) || len(want) == 1 && (faults[0].Option != "node_name" || faults[0].Doubt != (c.doubts != "")) {
					t.Errorf("faults %+v, want %q", faults, want)
				}
				// What could not be read yet may be it.
				store.Apply(cluster.Update{Incomplete: true})
				if !n.Eligible() {
					t.Error("half of the folder is read, and it is not eligible")
				}
			})
		})
	}
}

// Nothing begins before it is known who is a pod, and what was known stays in force.
func TestPodCIDRs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := cluster.NewStore()
		_, log, begun := follow(t, NodeOptions{Name: "here", Registered: true, NodeCIDR: true}, store)
		store.Apply(cluster.Update{Synced: true})
		wantLines(t, log, `error NAT waits, and the kernel's rules stay as they are: detect_local is node_cidr, and there is no Node "here"`)
		store.Apply(nodeUpdate("here", "fd00::/64"))
		time.Sleep(time.Hour)
		if wantLines(t, log); *begun != 0 {
			t.Fatal("it begins without a range of the Node's first family")
		}
		store.Apply(nodeUpdate("here", "10.42.0.0/24", "fd00::/64"))
		if wantLines(t, log, "info no longer so: NAT waits"); *begun != 1 {
			t.Fatalf("begun %d times", *begun)
		}
		store.Apply(nodeUpdate("here", "10.42.0.0/24"))
		wantLines(t, log, "error detect_local is node_cidr, and Node here has no spec.podCIDRs any more of the family of [fd00::/64]")
		store.Apply(nodeUpdate("here", "10.42.0.0/24", "fd00:1::/64"))
		wantLines(t, log, "info no longer so: ")
		store.Apply(nodeUpdate("here"))
		wantLines(t, log, "no spec.podCIDRs any more of the family of [10.42.0.0/24 fd00:1::/64]")
		store.Apply(nodeUpdate("here", "10.42.1.0/24", "fd00:1::/64"))
		if wantLines(t, log, "info no longer so: "); *begun != 1 {
			t.Errorf("begun %d times", *begun)
		}
	})
}

// Clients are masqueraded by the last ranges that the Node had.
func TestPodCIDRsOfPlans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, backend := cluster.NewStore(), newMemory()
		start := nodeUpdate("here", "10.42.0.0/24", "fd00::/64")
		start.Synced, start.Services = true, []cluster.ServiceUpdate{service("a", "10.42.0.1")}
		store.Apply(start)
		run(t, Options{NodeName: "here", Plan: plan.Options{NodeCIDR: true}}, backend, store)
		for _, c := range []struct {
			given cluster.Update
			want  string
		}{
			{cluster.Update{}, "10.42.0.0/24"},
			{nodeUpdate("here", "fd00::/64"), "10.42.0.0/24"},
			{nodeUpdate("here"), "10.42.0.0/24"},
			{nodeUpdate("here", "10.42.7.0/24"), "10.42.7.0/24"},
			{cluster.Update{Nodes: []cluster.NodeUpdate{{Name: "here"}}}, "10.42.7.0/24"},
		} {
			store.Apply(c.given)
			synctest.Wait()
			backend.mu.Lock()
			got := backend.held[service("a").Name].Frontends[0].Masquerade.Outside.Range
			backend.mu.Unlock()
			if got.String() != c.want {
				t.Errorf("after %+v the range of pods is %v, want %s", c.given.Nodes, got, c.want)
			}
		}
	})
}

// NodePorts that lead nowhere are told when it has been so for a while, and once more when it
// is mended; and the kernel is not asked with each Update.
func TestNodePortsThatLeadNowhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		nowhere := func(n plan.Node) error {
			asked.Add(1)
			if len(n.Addresses) == 0 {
				return errors.New("NodePorts lead nowhere")
			}
			return nil
		}
		store := cluster.NewStore()
		_, log, _ := follow(t, NodeOptions{Name: "here", Nowhere: nowhere}, store)
		store.Apply(cluster.Update{Synced: true})
		for i := range 100 {
			store.Apply(services1(service("a", fmt.Sprint("10.42.0.", i))))
			synctest.Wait()
		}
		if told := log.take(); asked.Load() != 1 || len(told) > 0 {
			t.Errorf("asked %d times in 100 Updates, told %q", asked.Load(), told)
		}
		time.Sleep(nodeWait)
		synctest.Wait()
		if told := fmt.Sprint(log.take()); told != "[warning NodePorts lead nowhere]" {
			t.Errorf("after a while, told %s", told)
		}
		time.Sleep(nodeWait)
		store.Apply(nodes1(&cluster.Node{Name: "here", Addresses: addrs("192.0.2.1")}))
		synctest.Wait()
		if told := fmt.Sprint(log.take()); told != "[info no longer so: NodePorts lead nowhere]" || asked.Load() > 3 {
			t.Errorf("asked %d times, and when it is mended, told %s", asked.Load(), told)
		}
	})
}
