package zone

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/plugin/clusterip/wire"
	"github.com/miekg/dns"
)

// crowded has what users of an API server can make large: Services with many endpoints,
// many ports, many endpoints of one name, at one address or on the address of this server,
// and many Services at one address.
func crowded() *Index {
	const many = 20_000
	tcp := func(name string, port uint16) cluster.EndpointPort {
		return cluster.EndpointPort{Name: name, Protocol: cluster.TCP, Port: port}
	}
	headless := func(name string, n int, change func(i int, e *cluster.Endpoint)) *cluster.Service {
		s := headlessOf(n)
		endpoints := s.Endpoints
		for i := range endpoints {
			change(i, &endpoints[i])
		}
		return cluster.New(cluster.Service{Name: cluster.ServiceName{Namespace: "shop", Name: name}, Kind: cluster.KindHeadless}, endpoints)
	}
	two := &cluster.EndpointSlice{Ports: []cluster.EndpointPort{tcp("http", 80), tcp("rare", 81)}}
	all := &cluster.EndpointSlice{}
	for i := range many {
		all.Ports = append(all.Ports, tcp(fmt.Sprint("p", i), uint16(i)))
	}
	zones := []*cluster.Topology{{Zone: "a"}, {Zone: "b"}}
	services := []*cluster.Service{
		headlessOf(many),
		headless("few", lazyLimit, func(i int, e *cluster.Endpoint) { e.Topology = zones[i%2] }),
		headless("some", many, func(i int, e *cluster.Endpoint) {
			if i%2 == 0 {
				e.Slice = two
			}
		}),
		headless("one", many, func(i int, e *cluster.Endpoint) { e.Hostname = "one" }),
		headless("at", many, func(i int, e *cluster.Endpoint) {
			e.Addr, e.Hostname = netip.MustParseAddr("10.65.0.1"), fmt.Sprint("h", i)
		}),
		headless("ports", 2, func(i int, e *cluster.Endpoint) { e.Slice = all }),
		manyPorts(many),
	}
	behind := cluster.Service{Name: cluster.ServiceName{Namespace: "shop", Name: "behind"}, Kind: cluster.KindClusterIP, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.43.0.2")}}
	behind.Ports = []cluster.Port{{Name: "http", Protocol: cluster.TCP, Port: 80}}
	services = append(services, cluster.New(behind, headlessOf(many).Endpoints))
	for i := range many / 2 {
		name := cluster.ServiceName{Namespace: "crowd", Name: fmt.Sprint("s", i)}
		services = append(services, cluster.New(cluster.Service{Name: name, Kind: cluster.KindHeadless}, []cluster.Endpoint{{Addr: netip.MustParseAddr("10.66.0.1"), Ready: true}}))
	}
	x := New([]string{"cluster.local.", "in-addr.arpa."}, Options{TTL: 5, Zonal: true, Nameservers: []netip.Addr{netip.MustParseAddr("10.64.0.1")}})
	var u cluster.Update
	for _, s := range services {
		u.Services = append(u.Services, cluster.ServiceUpdate{Name: s.Name, Service: s})
	}
	x.Apply(u)
	return x
}

// crowdedQuestions are about what crowded has.
var crowdedQuestions = []struct {
	name  string
	qtype uint16
	later bool // it is left to Lookup
}{
	// What clients ask.
	{"db.shop.svc.cluster.local.", dns.TypeA, false},
	{"db.shop.svc.cluster.local.", dns.TypeSRV, false},
	{"_http._tcp.db.shop.svc.cluster.local.", dns.TypeSRV, false},
	{"_http._tcp.db.shop.svc.cluster.local.", dns.TypeA, false},
	{"10-64-1-1.db.shop.svc.cluster.local.", dns.TypeA, false},
	{"10-64-1-1.db.shop.svc.cluster.local.", dns.TypeSRV, false},
	{"www.example.com.db.shop.svc.cluster.local.", dns.TypeA, false},
	{"www.com.db.shop.svc.cluster.local.", dns.TypeA, false},
	{"h777.at.shop.svc.cluster.local.", dns.TypeA, false},
	{"a.prefer._zone.db.shop.svc.cluster.local.", dns.TypeA, false},
	{"http.tcp.few.shop.svc.cluster.local.", dns.TypeSRV, false},
	{"a.pin._zone.few.shop.svc.cluster.local.", dns.TypeSRV, false},
	{"behind.shop.svc.cluster.local.", dns.TypeA, false},
	{"_http._tcp.behind.shop.svc.cluster.local.", dns.TypeSRV, false},
	{"http.tcp.behind.shop.svc.cluster.local.", dns.TypeSRV, false},
	{"10-64-1-1.behind.shop.svc.cluster.local.", dns.TypeA, false},
	{"web.shop.svc.cluster.local.", dns.TypeA, false},
	{"web.shop.svc.cluster.local.", dns.TypeSRV, false},
	{"_p7._tcp.web.shop.svc.cluster.local.", dns.TypeSRV, false},
	{"1.0.43.10.in-addr.arpa.", dns.TypePTR, false},
	// What takes a walk through a long list, or makes one.
	{"http.tcp.db.shop.svc.cluster.local.", dns.TypeSRV, true},
	{"_http._tcp.some.shop.svc.cluster.local.", dns.TypeSRV, false},
	{"_rare._tcp.some.shop.svc.cluster.local.", dns.TypeA, true},
	{"rare.tcp.some.shop.svc.cluster.local.", dns.TypeSRV, true},
	{"one.one.shop.svc.cluster.local.", dns.TypeA, true},
	{"one.one.shop.svc.cluster.local.", dns.TypeSRV, true},
	{"10-64-0-0.ports.shop.svc.cluster.local.", dns.TypeA, false},
	{"10-64-0-0.ports.shop.svc.cluster.local.", dns.TypeSRV, true},
	{"www.com.ports.shop.svc.cluster.local.", dns.TypeA, true},
	{"www.com.web.shop.svc.cluster.local.", dns.TypeA, true},
	{"p7.tcp.web.shop.svc.cluster.local.", dns.TypeSRV, true},
	{"1.0.65.10.in-addr.arpa.", dns.TypePTR, true},
	{"1.0.66.10.in-addr.arpa.", dns.TypePTR, true},
	{"1.0.66.10.in-addr.arpa.", dns.TypeA, true},
	{"cluster.local.", dns.TypeNS, true},
	{"ns.dns.cluster.local.", dns.TypeA, true},
}

// BenchmarkCrowded is what a question takes until it is answered or left to the plugin
// chain.
func BenchmarkCrowded(b *testing.B) {
	x := crowded()
	var reply wire.Reply
	for _, c := range crowdedQuestions {
		b.Run(fmt.Sprint(c.name, dns.TypeToString[c.qtype]), func(b *testing.B) {
			query, err := new(dns.Msg).SetQuestion(c.name, c.qtype).SetEdns0(16383, false).Pack()
			if err != nil {
				b.Fatal(err)
			}
			var q wire.Question
			q.Parse(query)
			out := make([]byte, 0, 1<<14)
			z := x.Match(q.Name)
			for b.Loop() {
				reply.Begin(out, query, &q)
				z.Find(q.Name, q.Type).AppendWire(&reply, 1, true)
			}
		})
	}
}
