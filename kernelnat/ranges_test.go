package kernelnat

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

var clusterIPRange = []netip.Prefix{netip.MustParsePrefix("10.43.0.0/16")}

// Who is found in the range of ClusterIPs is left out at once, by one small write, and
// no change of a Service's endpoints has everything written.
func TestWhoIsInTheRangeIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, backend := cluster.NewStore(), newMemory()
		store.Apply(cluster.Update{Synced: true, ServiceCIDRs: clusterIPRange, Services: []cluster.ServiceUpdate{service("a", "10.42.0.1")}})
		var told []string
		routes := []cluster.Occupied{}
		run(t, Options{
			SyncPeriod: 30 * time.Second,
			Plan:       plan.Options{ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.42.0.0/16")}},
			Routes:     func(cluster.Family, []netip.Prefix) ([]cluster.Occupied, error) { return routes, nil },
			Overlaps:   func(r netip.Prefix, text string) { told = append(told, text) },
		}, backend, store)
		wantCalls(t, backend, "sync 1")
		wantRefused := func(want string) {
			t.Helper()
			synctest.Wait()
			backend.mu.Lock()
			defer backend.mu.Unlock()
			if got := fmt.Sprint(backend.refused); got != want {
				t.Errorf("refused %s, want %s", got, want)
			}
		}
		wantRefused("[{10.43.0.0/16 []}]")

		store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{service("b", "10.43.200.7", "10.42.0.2")}})
		wantCalls(t, backend, "apply 1", "refuse [{10.43.0.0/16 [10.43.200.7/32]}]")
		store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{gone("b")}})
		wantCalls(t, backend, "apply 1", "refuse [{10.43.0.0/16 []}]")

		store.Apply(cluster.Update{Occupied: occupiedBy("10.43.0.1/32", "the API server")})
		wantCalls(t, backend, "refuse [{10.43.0.0/16 [10.43.0.1/32]}]")
		store.Apply(cluster.Update{Nodes: []cluster.NodeUpdate{{Name: "worker", Node: &cluster.Node{Name: "worker", Addresses: []netip.Addr{netip.MustParseAddr("10.43.0.2")}}}}})
		wantCalls(t, backend, "refuse [{10.43.0.0/16 [10.43.0.1/32 10.43.0.2/32]}]")
		routes = occupiedBy("10.43.64.0/18", "a network of this node")
		time.Sleep(31 * time.Second)
		wantCalls(t, backend, "refuse [{10.43.0.0/16 [10.43.0.1/32 10.43.0.2/32 10.43.64.0/18]}]")

		other := service("c")
		s := *other.Service
		s.Proxy, s.ClusterIPs = cluster.NamedProxy("other"), []netip.Addr{netip.MustParseAddr("10.43.9.9")}
		other.Service = &s
		store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{other}})
		wantCalls(t, backend, "refuse [{10.43.0.0/16 [10.43.0.1/32 10.43.0.2/32 10.43.9.9/32 10.43.64.0/18]}]")

		// Nobody can tell any more whether the range is right.
		store.Apply(cluster.Update{Detached: true})
		wantCalls(t, backend, "refuse []")
		store.Apply(cluster.Update{})
		wantCalls(t, backend, "refuse [{10.43.0.0/16 [10.43.0.1/32 10.43.0.2/32 10.43.9.9/32 10.43.64.0/18]}]")

		store.Apply(cluster.Update{ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.42.128.0/17")}})
		wantCalls(t, backend, "refuse []")
		if len(told) != 5 {
			t.Errorf("told %q, want each overlap once", told)
		}
	})
}

func occupiedBy(prefix, by string) []cluster.Occupied {
	return []cluster.Occupied{{Prefix: netip.MustParsePrefix(prefix), By: by}}
}

// A mistaken range takes no load balancer address away, and one that is right does.
func TestMistakenRangeTakesNoAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, backend := cluster.NewStore(), newMemory()
		u := service("a", "10.42.0.1")
		s := *u.Service
		s.External.LoadBalancerIPs = []netip.Addr{netip.MustParseAddr("203.0.113.7")}
		u.Service = &s
		store.Apply(cluster.Update{Synced: true, Services: []cluster.ServiceUpdate{u}})
		run(t, Options{}, backend, store)
		has := func(ranges string, want int) {
			t.Helper()
			store.Apply(cluster.Update{ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix(ranges)}, Occupied: occupiedBy("203.0.112.0/22", "a network")})
			synctest.Wait()
			backend.mu.Lock()
			defer backend.mu.Unlock()
			if n := len(backend.held[u.Name].Ports[0].External.LoadBalancers); n != want {
				t.Errorf("with %s the Service has %d load balancer addresses, want %d", ranges, n, want)
			}
		}
		has("10.43.0.0/16", 1)
		has("0.0.0.0/0", 1)
		has("203.0.113.0/24", 1)
		has("203.0.0.0/16", 0)
	})
}

// More addresses than can be told apart end the refusal; it costs a change what its
// Service has.
func TestManyEndpointsInTheRange(t *testing.T) {
	o := newOccupants(Options{Family: cluster.IPv4})
	o.setRanges(clusterIPRange)
	for i := range 200 {
		u := service(fmt.Sprint("s", i), fmt.Sprintf("10.43.1.%d", i), "10.43.2.1")
		o.set(u.Name, u.Service)
		refused, _ := plan.Refuse(o.ranges, o.all())
		if want := i+2 <= maxAddresses; len(refused) == 1 != want {
			t.Fatalf("%d addresses: refused %v", i+2, refused)
		}
	}
	for i := range 200 {
		o.set(service(fmt.Sprint("s", i)).Name, nil)
	}
	if len(o.count)+len(o.services) != 0 || o.inRange[clusterIPRange[0]] != 0 {
		t.Errorf("left: %v", o)
	}
}
