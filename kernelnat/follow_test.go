package kernelnat

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

var serviceCIDRs = []netip.Prefix{netip.MustParsePrefix("10.43.0.0/16"), netip.MustParsePrefix("fd00:10:43::/112")}

// wantRefused waits for the loop and compares what the kernel refuses.
func wantRefused(t *testing.T, m *memory, want string) {
	t.Helper()
	synctest.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	var words []string
	for _, r := range m.ranges {
		words = append(words, r.CIDR.String())
		for _, e := range r.Exempt {
			words = append(words, "-"+e.String())
		}
		if r.Open {
			words = append(words, "open")
		}
	}
	if got := strings.Join(words, " "); got != want {
		t.Errorf("the kernel refuses %q, want %q", got, want)
	}
}

// What is known of ranges costs one small write when it changes, and is counted: an
// address is exempt until nobody has it any more.
func TestRangesAreFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, backend := cluster.NewStore(), newMemory()
		store.Apply(cluster.Update{Synced: true, ServiceCIDRs: serviceCIDRs, Services: []cluster.ServiceUpdate{service("a", "10.42.0.1")}})
		run(t, Options{}, backend, store)
		wantRefused(t, backend, "10.43.0.0/16")
		wantCalls(t, backend, "sync 1")
		for _, step := range []struct {
			name   string
			update cluster.Update
			want   string
			calls  []string
		}{
			{"an endpoint in it", services1(service("a", "10.42.0.1", "10.43.9.9")), "10.43.0.0/16 -10.43.9.9/32", []string{"apply 1", "refuse 1"}},
			{"the same of another", services1(service("b", "10.43.9.9")), "10.43.0.0/16 -10.43.9.9/32", []string{"apply 1"}},
			{"one of them gone", services1(gone("a")), "10.43.0.0/16 -10.43.9.9/32", []string{"apply 1"}},
			{"both gone", services1(gone("b")), "10.43.0.0/16", []string{"apply 1", "refuse 1"}},
			{"a Node in it", nodes1(&cluster.Node{Name: "n", Addresses: addrs("10.43.7.7"), PodCIDRs: cidrs("10.43.8.0/24")}),
				"10.43.0.0/16 -10.43.7.7/32 -10.43.8.0/24", []string{"refuse 1"}},
			{"the same Node", nodes1(&cluster.Node{Name: "n", Zone: "z", Addresses: addrs("10.43.7.7"), PodCIDRs: cidrs("10.43.8.0/24")}),
				"10.43.0.0/16 -10.43.7.7/32 -10.43.8.0/24", nil},
			{"an endpoint in what is exempt", services1(service("a", "10.43.8.1")), "10.43.0.0/16 -10.43.7.7/32 -10.43.8.0/24", []string{"apply 1"}},
			{"no such Node any more", cluster.Update{Nodes: []cluster.NodeUpdate{{Name: "n"}}}, "10.43.0.0/16 -10.43.8.1/32", []string{"refuse 1"}},
			{"the API server", cluster.Update{Origins: addrs("10.43.0.99", "198.51.100.7")}, "10.43.0.0/16 -10.43.0.99/32 -10.43.8.1/32", []string{"refuse 1"}},
			{"at a ClusterIP", cluster.Update{Origins: []netip.Addr{vipOf("a")}}, "10.43.0.0/16 -10.43.8.1/32", []string{"refuse 1"}},
			{"a second range", cluster.Update{ServiceCIDRs: cidrs("10.43.0.0/16", "10.44.0.0/16")}, "10.43.0.0/16 -10.43.8.1/32 10.44.0.0/16", []string{"refuse 2"}},
			{"no ranges", cluster.Update{ServiceCIDRs: cidrs()}, "", []string{"refuse 0"}},
			{"ranges again", cluster.Update{ServiceCIDRs: serviceCIDRs}, "10.43.0.0/16 -10.43.8.1/32", []string{"refuse 1"}},
			{"out of touch", cluster.Update{Unsure: true}, "", []string{"refuse 0"}},
			{"something meanwhile", withUnsure(services1(service("c", "10.42.0.9"))), "", []string{"apply 1"}},
			{"in touch", cluster.Update{}, "10.43.0.0/16 -10.43.8.1/32", []string{"refuse 1"}},
			{"a range around the pods", cluster.Update{ServiceCIDRs: cidrs("0.0.0.0/0")}, "0.0.0.0/0 open", []string{"refuse 1"}},
		} {
			store.Apply(step.update)
			synctest.Wait()
			if got := backend.takeCalls(); !reflect.DeepEqual(got, step.calls) {
				t.Errorf("%s: backend calls %q, want %q", step.name, got, step.calls)
			}
			wantRefused(t, backend, step.want)
		}
		if backend.misuse != nil {
			t.Error(backend.misuse)
		}
	})
}

func withUnsure(u cluster.Update) cluster.Update {
	u.Unsure = true
	return u
}

func services1(s cluster.ServiceUpdate) cluster.Update {
	return cluster.Update{Services: []cluster.ServiceUpdate{s}}
}

func nodes1(n *cluster.Node) cluster.Update {
	return cluster.Update{Nodes: []cluster.NodeUpdate{{Name: n.Name, Node: n}}}
}

func addrs(texts ...string) (out []netip.Addr) {
	for _, text := range texts {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

func cidrs(texts ...string) []netip.Prefix {
	out := []netip.Prefix{}
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

// What one Service says of ranges is bounded: with more endpoints in them than may be
// exempt nothing is refused, and afterwards it is again.
func TestManyEndpointsInARange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, backend := cluster.NewStore(), newMemory()
		store.Apply(cluster.Update{Synced: true, ServiceCIDRs: serviceCIDRs})
		run(t, Options{}, backend, store)
		var many []string
		for i := range plan.MaxExempt + 1 {
			many = append(many, fmt.Sprintf("10.43.%d.1", i))
		}
		store.Apply(services1(service("a", many...)))
		wantRefused(t, backend, "10.43.0.0/16 open")
		store.Apply(services1(service("a", many[0])))
		wantRefused(t, backend, "10.43.0.0/16 -10.43.0.1/32")
	})
}

// A ClusterIP that another proxy serves is not refused; cluster_cidr is not either; and
// with no_such_service off nothing is.
func TestRangesByOptions(t *testing.T) {
	other := service("other")
	other.Service.Proxy = cluster.NamedProxy("theirs")
	for _, tt := range []struct {
		options Options
		want    string
	}{
		{Options{}, "10.43.0.0/16 -10.43.0.198/32"},
		{Options{Plan: plan.Options{Proxy: cluster.NamedProxy("theirs")}}, "10.43.0.0/16"},
		{Options{Plan: plan.Options{ClusterCIDRs: cidrs("10.43.128.0/17")}}, "10.43.0.0/16 -10.43.0.198/32 -10.43.128.0/17"},
		{Options{Plan: plan.Options{ClusterCIDRs: cidrs("10.0.0.0/8")}}, "10.43.0.0/16 open"},
		{Options{KeepUnknown: true}, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			store, backend := cluster.NewStore(), newMemory()
			store.Apply(cluster.Update{Synced: true, ServiceCIDRs: serviceCIDRs, Services: []cluster.ServiceUpdate{other}})
			run(t, tt.options, backend, store)
			wantRefused(t, backend, tt.want)
		})
	}
}

// Each kind of overlap is told when it begins, and not again with every change, nor
// when it comes and goes.
func TestOverlapsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, backend := cluster.NewStore(), newMemory()
		var mu sync.Mutex
		var told []string
		store.Apply(cluster.Update{Synced: true, ServiceCIDRs: serviceCIDRs})
		run(t, Options{Overlaps: func(o plan.Overlap) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, o.What)
		}}, backend, store)
		for i := range 50 {
			store.Apply(services1(service("a", fmt.Sprintf("10.43.1.%d", i))))
			synctest.Wait()
			store.Apply(services1(service("a")))
			synctest.Wait()
		}
		store.Apply(nodes1(&cluster.Node{Name: "n", Addresses: addrs("10.43.7.7")}))
		time.Sleep(2 * tellAgain)
		store.Apply(services1(service("a", "10.43.1.1")))
		store.Apply(nodes1(&cluster.Node{Name: "n", Addresses: addrs("10.43.7.8")}))
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if want := []string{"endpoints of Services", "addresses of Nodes", "endpoints of Services"}; !reflect.DeepEqual(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	})
}

// A ClusterIP that exists is taken by nobody, in a range or not, whoever came first. An
// address in a range is taken by nobody, unless the range holds what is no Service's.
func TestClusterIPsComeFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, backend := cluster.NewStore(), newMemory()
		external := func(ip string) cluster.ServiceUpdate {
			u := service("lb", "10.42.0.1")
			u.Service.ClusterIPs, u.Service.External.IPs = addrs("10.43.0.8"), addrs(ip)
			return u
		}
		granted := func(want int) {
			t.Helper()
			synctest.Wait()
			backend.mu.Lock()
			defer backend.mu.Unlock()
			lb := backend.held[cluster.ServiceName{Namespace: "testing", Name: "lb"}]
			if got := len(lb.Frontends) - 1; got != want {
				t.Errorf("it has %d external addresses, want %d", got, want)
			}
		}
		store.Apply(cluster.Update{Synced: true, Services: []cluster.ServiceUpdate{external(vipOf("dns").String())}})
		run(t, Options{}, backend, store)
		granted(1)
		store.Apply(services1(service("dns", "10.42.0.2")))
		granted(0)
		store.Apply(services1(gone("dns")))
		granted(1)
		portless := service("dns")
		portless.Service.Ports = nil
		for range 2 {
			store.Apply(services1(portless))
			granted(0)
		}
		store.Apply(services1(gone("dns")))
		granted(1)
		store.Apply(cluster.Update{ServiceCIDRs: serviceCIDRs})
		granted(0)
		t.Log("a range by mistake")
		store.Apply(services1(external("203.0.113.7")))
		granted(1)
		store.Apply(cluster.Update{ServiceCIDRs: cidrs("10.43.0.0/16", "203.0.0.0/16"), Nodes: nodes1(&cluster.Node{Name: "n", Addresses: addrs("203.0.1.1")}).Nodes})
		granted(1)
		store.Apply(cluster.Update{ServiceCIDRs: cidrs("0.0.0.0/0")})
		granted(1)
	})
}

// Flows of Services that have gone unseen are forgotten when it is known which Services
// there are and what else is in the ranges, and not before.
func TestSweepWaitsUntilItIsSure(t *testing.T) {
	store, backend := cluster.NewStore(), newMemory()
	c := New(Options{Family: cluster.IPv4}, backend, testLog{t})
	defer store.Subscribe(c.enqueue)()
	for _, step := range []struct {
		update  cluster.Update
		unswept bool
	}{
		{cluster.Update{Synced: true, Unsure: true, Incomplete: true, ServiceCIDRs: cidrs("198.18.0.0/16"), Services: []cluster.ServiceUpdate{service("a", "10.42.0.1")}}, true},
		{cluster.Update{Incomplete: true}, true},
		{cluster.Update{Unsure: true}, true},
		{cluster.Update{}, false},
		{cluster.Update{Unsure: true}, false},
	} {
		store.Apply(step.update)
		changes, state, _ := c.takeChanges()
		if _, err := c.write(t.Context(), true, changes, state); err != nil {
			t.Fatal(err)
		}
		c.sweep(state)
		if c.unswept != step.unswept {
			t.Errorf("after %+v: unswept is %t", step.update, c.unswept)
		}
	}
	backend.fail = func() error { return errors.New("no") }
	c.dirty = true
	if err := c.sync(t.Context()); err == nil || !c.unswept {
		t.Errorf("after a failure (%v) unswept is %t", err, c.unswept)
	}
}
