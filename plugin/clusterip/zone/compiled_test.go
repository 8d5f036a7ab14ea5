package zone

import (
	"net/netip"
	"sync"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/miekg/dns"
)

// headlessOf is a headless Service with one port and some endpoints.
func headlessOf(endpoints int) *cluster.Service {
	slice := &cluster.EndpointSlice{Ports: []cluster.EndpointPort{{Name: "http", Protocol: cluster.TCP, Port: 8080}}}
	var all []cluster.Endpoint
	for i := range endpoints {
		all = append(all, cluster.Endpoint{Addr: netip.AddrFrom4([4]byte{10, 64, byte(i >> 8), byte(i)}), Slice: slice, Ready: true})
	}
	return cluster.New(cluster.Service{Name: cluster.ServiceName{Namespace: "shop", Name: "db"}, Kind: cluster.KindHeadless}, all)
}

// Records are made for the first who asks, and who asks at the same time gets the
// same; a change and a transfer keep none.
func TestCompiledWhenAskedFor(t *testing.T) {
	x := New([]string{"cluster.local."}, Options{TTL: 5})
	s := headlessOf(lazyLimit)
	x.Apply(cluster.Update{Services: []cluster.ServiceUpdate{{Name: s.Name, Service: s}}})
	records := x.primary.services.get(key(s.Name))
	if n := len(records.sets()); n != 2+1+2*lazyLimit {
		t.Errorf("the Service has %d RRsets, want A, SRV, its port's SRV, and A and SRV of %d endpoints", n, lazyLimit)
	}
	if records.kept.Load() != nil {
		t.Error("a change or a transfer has kept records that nobody asked for")
	}

	const askers = 8
	var answers [askers]Answer
	var asking sync.WaitGroup
	for i := range askers {
		asking.Go(func() { answers[i] = x.zones[0].Lookup("db.shop.svc.cluster.local.", dns.TypeA, 1) })
	}
	asking.Wait()
	for _, a := range answers {
		if len(a.Answer) != lazyLimit || &a.Answer[0] != &answers[0].Answer[0] {
			t.Fatalf("%d addresses, want %d, the same for all who asked", len(a.Answer), lazyLimit)
		}
	}
}

// A change costs the same however many names it changes, up to a limit.
func TestChangeMakesNoRecords(t *testing.T) {
	allocations := func(endpoints int) float64 {
		x := New([]string{"cluster.local."}, Options{TTL: 5})
		s := headlessOf(endpoints)
		u := cluster.Update{Services: []cluster.ServiceUpdate{{Name: s.Name, Service: s}}}
		x.Apply(u)
		return testing.AllocsPerRun(10, func() { x.Apply(u) })
	}
	if few, many := allocations(10), allocations(lazyLimit); many > few+20 {
		t.Errorf("a change takes %.0f allocations with %d endpoints and %.0f with 10", many, lazyLimit, few)
	}
}
