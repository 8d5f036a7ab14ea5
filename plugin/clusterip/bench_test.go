package clusterip

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/test/clustertest"
	"github.com/miekg/dns"
)

// large is 10,000 Services of 10 endpoints each, every fifth headless.
func large() cluster.Update {
	var all []*cluster.Service
	for i := range 10_000 {
		all = append(all, largeService(i, 80))
	}
	return cluster.Update{Synced: true, Services: clustertest.Changed(all...)}
}

func largeService(i int, port uint16) *cluster.Service {
	s := cluster.Service{
		Name:  cluster.ServiceName{Namespace: fmt.Sprintf("ns-%d", i%100), Name: fmt.Sprintf("service-%d", i)},
		Kind:  cluster.KindHeadless,
		Ports: []cluster.Port{{Name: "http", Protocol: cluster.TCP, Port: port}},
	}
	if i%5 > 0 {
		s.Kind = cluster.KindClusterIP
		s.ClusterIPs = []netip.Addr{netip.AddrFrom4([4]byte{10, 43, byte(i >> 8), byte(i)})}
	}
	shared := &cluster.EndpointSlice{Ports: []cluster.EndpointPort{{Name: "http", Protocol: cluster.TCP, Port: 8080}}}
	var endpoints []cluster.Endpoint
	for j := range 10 {
		n := i*10 + j
		endpoints = append(endpoints, cluster.Endpoint{
			Addr: netip.AddrFrom4([4]byte{10, byte(64 + n>>16), byte(n >> 8), byte(n)}), Slice: shared, Ready: true,
		})
	}
	return cluster.New(s, endpoints)
}

func BenchmarkServeDNS(b *testing.B) {
	h := New(Options{Zones: []string{"cluster.local.", "in-addr.arpa."}, TTL: 5}, cluster.NewStore(), nil)
	h.store.Apply(large())
	for name, qtype := range map[string]uint16{
		"service-4711.ns-11.svc.cluster.local.":            dns.TypeA,
		"_http._tcp.service-4710.ns-10.svc.cluster.local.": dns.TypeSRV,
		"www.example.com.ns-11.svc.cluster.local.":         dns.TypeA,
		"Service-4711.NS-11.svc.cluster.local.":            dns.TypeA,
		"10-64-1-1.service-25.ns-25.svc.cluster.local.":    dns.TypeA,
		"103.18.43.10.in-addr.arpa.":                       dns.TypePTR,
	} {
		b.Run(name, func(b *testing.B) {
			r := new(dns.Msg).SetQuestion(name, qtype)
			w, ctx := new(silent), b.Context()
			b.ReportAllocs()
			for b.Loop() {
				h.ServeDNS(ctx, w, r)
			}
		})
	}
}

// BenchmarkApply changes one Service among 10,000: its port, or the address of one of
// its endpoints.
func BenchmarkApply(b *testing.B) {
	h := New(Options{Zones: []string{"cluster.local.", "in-addr.arpa."}, TTL: 5}, cluster.NewStore(), nil)
	h.store.Apply(large())
	for name, changed := range map[string]func(n uint16) *cluster.Service{
		"port": func(n uint16) *cluster.Service { return largeService(4711, n) },
		"move": func(n uint16) *cluster.Service { return moved(largeService(4711, 80), n) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for n := uint16(0); b.Loop(); n++ {
				s := changed(n)
				h.store.Apply(cluster.Update{Services: clustertest.Changed(s)})
			}
		})
	}
}

// moved returns the Service with its last endpoint at one of 96 addresses that no other
// has, in a network with 160 that others have.
func moved(s *cluster.Service, n uint16) *cluster.Service {
	endpoints := slices.Clone(s.Endpoints)
	endpoints[len(endpoints)-1].Addr = netip.AddrFrom4([4]byte{10, 65, 134, byte(160 + n%96)})
	return cluster.New(*s, endpoints)
}

// BenchmarkLoad reads all 10,000 Services at once and reports what they hold.
func BenchmarkLoad(b *testing.B) {
	u := large()
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		h := New(Options{Zones: []string{"cluster.local.", "in-addr.arpa."}, TTL: 5}, cluster.NewStore(), nil)
		h.store.Apply(u)
		runtime.GC()
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(h)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MB")
	}
}
