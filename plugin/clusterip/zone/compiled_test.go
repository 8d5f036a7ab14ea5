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

// A large one is made by the change: the crowd that asks for it right afterwards would
// make it many times.
func TestLargeIsCompiledByTheChange(t *testing.T) {
	x := New([]string{"cluster.local."}, Options{TTL: 5})
	s := headlessOf(lazyLimit + 1)
	x.Apply(cluster.Update{Services: []cluster.ServiceUpdate{{Name: s.Name, Service: s}}})
	if x.primary.services.get(key(s.Name)).kept.Load() == nil {
		t.Error("the records are left to those who ask")
	}
}

// Questions that are not answered from what is kept, and that anybody may repeat, cost
// no more than their answer.
func TestQuestionsBelowAService(t *testing.T) {
	s := headlessOf(1000)
	for i := range s.Endpoints {
		s.Endpoints[i].Hostname = "web"
	}
	imported := headlessOf(1000)
	for i := range imported.Endpoints {
		imported.Endpoints[i].Slice = &cluster.EndpointSlice{Cluster: "east"}
	}
	x := New([]string{"cluster.local.", "clusterset.local."}, Options{TTL: 5, Multicluster: []string{"clusterset.local."}})
	x.Apply(cluster.Update{
		Services: []cluster.ServiceUpdate{{Name: s.Name, Service: s}},
		Imports:  []cluster.ServiceUpdate{{Name: s.Name, Service: imported}},
	})
	for _, c := range []struct {
		name    string
		qtype   uint16
		outcome Outcome
		answers int
	}{
		{"web.db.shop.svc.cluster.local.", dns.TypeMX, NoData, 0},
		{"web.db.shop.svc.cluster.local.", dns.TypeAAAA, NoData, 0},
		{"web.db.shop.svc.cluster.local.", dns.TypeA, Success, 1000},
		{"10-64-0-1.db.shop.svc.cluster.local.", dns.TypeA, NXDomain, 0},
		{"_http._tcp.db.shop.svc.cluster.local.", dns.TypeA, Success, 1000},
		{"http.tcp.db.shop.svc.cluster.local.", dns.TypeA, Success, 1000},
		{"http.tcp.db.shop.svc.cluster.local.", dns.TypeTXT, NoData, 0},
		{"http.udp.db.shop.svc.cluster.local.", dns.TypeA, NXDomain, 0},
		{"east.db.shop.svc.clusterset.local.", dns.TypeA, NoData, 0},
		{"west.db.shop.svc.clusterset.local.", dns.TypeA, NXDomain, 0},
		{"10-64-0-1.east.db.shop.svc.clusterset.local.", dns.TypeA, Success, 1},
	} {
		z := x.Match(c.name)
		if a := z.Lookup(c.name, c.qtype, 1); a.Outcome != c.outcome || len(a.Answer) != c.answers {
			t.Errorf("%s %s: outcome %d, %d records", c.name, dns.TypeToString[c.qtype], a.Outcome, len(a.Answer))
		}
		if n := testing.AllocsPerRun(10, func() { z.Lookup(c.name, c.qtype, 1) }); n > 16 {
			t.Errorf("%s %s takes %.0f allocations", c.name, dns.TypeToString[c.qtype], n)
		}
	}
}

// The Service that this server is an endpoint of may go while its name is looked up.
func TestNameServersServiceGoes(t *testing.T) {
	own := netip.MustParseAddr("10.64.0.0")
	x := New([]string{"cluster.local."}, Options{TTL: 5, Nameservers: []netip.Addr{own}})
	s := headlessOf(1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 20_000 {
			u := cluster.ServiceUpdate{Name: s.Name, Service: s}
			if i%2 > 0 {
				u.Service = nil
			}
			x.Apply(cluster.Update{Services: []cluster.ServiceUpdate{u}})
		}
	}()
	for {
		if a := x.zones[0].Lookup("ns.dns.cluster.local.", dns.TypeA, 1); len(a.Answer) != 1 {
			t.Errorf("the name server has %d addresses", len(a.Answer))
		}
		select {
		case <-done:
			return
		default:
		}
	}
}
