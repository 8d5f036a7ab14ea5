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
func crowded(many int) *Index {
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
		headless("same", lazyLimit, func(_ int, e *cluster.Endpoint) { e.Hostname, e.Slice = "same", nil }),
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

// crowdedQuestions are about what crowded has. Those that clients ask all day are answered
// at once, whatever there is. The others take a walk through a long list, or make one.
var crowdedQuestions = []struct {
	name    string
	qtype   uint16
	later   bool
	outcome Outcome
}{
	{"db.shop.svc.cluster.local.", dns.TypeA, false, Success},
	{"db.shop.svc.cluster.local.", dns.TypeSRV, false, Success},
	{"_http._tcp.db.shop.svc.cluster.local.", dns.TypeSRV, false, Success},
	{"_http._tcp.db.shop.svc.cluster.local.", dns.TypeA, false, Success},
	{"10-64-1-1.db.shop.svc.cluster.local.", dns.TypeA, false, Success},
	{"10-64-1-1.db.shop.svc.cluster.local.", dns.TypeSRV, false, Success},
	{"www.example.com.db.shop.svc.cluster.local.", dns.TypeA, false, NXDomain},
	{"www.com.db.shop.svc.cluster.local.", dns.TypeA, false, NXDomain},
	{"http.tcp.db.shop.svc.cluster.local.", dns.TypeSRV, true, Success},

	{"a.pin._zone.few.shop.svc.cluster.local.", dns.TypeSRV, false, Success},
	{"c.prefer._zone.few.shop.svc.cluster.local.", dns.TypeSRV, false, Success},
	{"http.tcp.few.shop.svc.cluster.local.", dns.TypeSRV, true, Success},
	{"_http._tcp.some.shop.svc.cluster.local.", dns.TypeSRV, false, Success},
	{"_rare._tcp.some.shop.svc.cluster.local.", dns.TypeA, true, Success},
	{"rare.tcp.some.shop.svc.cluster.local.", dns.TypeSRV, true, Success},

	{"one.one.shop.svc.cluster.local.", dns.TypeA, true, Success},
	{"one.one.shop.svc.cluster.local.", dns.TypeSRV, true, Success},
	{"one.one.shop.svc.cluster.local.", dns.TypeMX, true, NoData},
	{"same.same.shop.svc.cluster.local.", dns.TypeA, false, Success},
	{"same.same.shop.svc.cluster.local.", dns.TypeSRV, true, NoData},
	{"h777.at.shop.svc.cluster.local.", dns.TypeA, false, Success},
	{"1.0.65.10.in-addr.arpa.", dns.TypePTR, true, Success},
	{"1.0.66.10.in-addr.arpa.", dns.TypePTR, true, Success},
	{"1.0.66.10.in-addr.arpa.", dns.TypeA, true, NoData},

	{"behind.shop.svc.cluster.local.", dns.TypeA, false, Success},
	{"_http._tcp.behind.shop.svc.cluster.local.", dns.TypeSRV, false, Success},
	{"http.tcp.behind.shop.svc.cluster.local.", dns.TypeSRV, false, Success},
	{"10-64-1-1.behind.shop.svc.cluster.local.", dns.TypeA, false, Success},
	{"2.0.43.10.in-addr.arpa.", dns.TypePTR, false, Success},

	{"web.shop.svc.cluster.local.", dns.TypeA, false, Success},
	{"web.shop.svc.cluster.local.", dns.TypeSRV, false, Success},
	{"_p7._tcp.web.shop.svc.cluster.local.", dns.TypeSRV, false, Success},
	{"www.com.web.shop.svc.cluster.local.", dns.TypeA, true, NXDomain},
	{"p7.tcp.web.shop.svc.cluster.local.", dns.TypeSRV, true, Success},
	{"10-64-0-0.ports.shop.svc.cluster.local.", dns.TypeA, false, Success},
	{"10-64-0-0.ports.shop.svc.cluster.local.", dns.TypeSRV, true, Success},
	{"www.com.ports.shop.svc.cluster.local.", dns.TypeA, true, NXDomain},

	{"cluster.local.", dns.TypeNS, true, Success},
	{"ns.dns.cluster.local.", dns.TypeA, true, Success},
}

// TestFindIsQuick has questions that took milliseconds on a thread that reads queries. It
// counts bytes, since a list that is made is allocated. That no long list is walked through
// is in the table alone.
func TestFindIsQuick(t *testing.T) {
	x := crowded(5000)
	for _, c := range crowdedQuestions {
		z := x.Match(c.name)
		if a := z.Lookup(c.name, c.qtype, 1); a.Outcome != c.outcome {
			t.Errorf("%s %s: outcome %d, want %d", c.name, dns.TypeToString[c.qtype], a.Outcome, c.outcome)
		}
		var h Hit
		const times = 10
		if n := allocatedBy(func() {
			for range times {
				h = z.Find(c.name, c.qtype)
			}
		}) / times; n > 1<<14 {
			t.Errorf("%s %s allocates %d bytes", c.name, dns.TypeToString[c.qtype], n)
		}
		switch {
		case (h.later != nil) != c.later:
			t.Errorf("%s %s is left to Lookup: %v, want %v", c.name, dns.TypeToString[c.qtype], h.later != nil, c.later)
		case !c.later && h.Outcome != c.outcome:
			t.Errorf("%s %s: Find has outcome %d, want %d", c.name, dns.TypeToString[c.qtype], h.Outcome, c.outcome)
		case c.later && h.AppendWire(new(wire.Reply), 1, false):
			t.Errorf("%s %s is left to Lookup and has octets", c.name, dns.TypeToString[c.qtype])
		}
	}
}

// The records of more than a few endpoints or ports are made by Lookup, whatever is asked
// for first, and are there for Find from then on. Plain answers need none.
func TestFindCompilesFew(t *testing.T) {
	for n, large := range map[int]bool{quickLimit: false, quickLimit + 1: true, lazyLimit: true, lazyLimit + 1: false} {
		for name, plain := range map[string]bool{
			"db.shop.svc.cluster.local.": true, "web.shop.svc.cluster.local.": true,
			"_http._tcp.db.shop.svc.cluster.local.": false, "10-64-0-1.db.shop.svc.cluster.local.": false, "www.db.shop.svc.cluster.local.": false,
		} {
			later := large && !plain
			z := indexOf([]*cluster.Service{headlessOf(n), manyPorts(n)}, nil, false).local[0]
			if h := z.Find(name, dns.TypeA); (h.later != nil) != later {
				t.Errorf("%d endpoints or ports, %s: the first question is left to Lookup: %v, want %v", n, name, h.later != nil, later)
			}
			want := z.Lookup(name, dns.TypeA, 1).Outcome
			if h := z.Find(name, dns.TypeA); h.later != nil || h.Outcome != want {
				t.Errorf("%d endpoints or ports, %s: the second question has outcome %d, want %d", n, name, h.Outcome, want)
			}
		}
	}
}

// BenchmarkCrowded is what a question takes until it is answered or left to the plugin
// chain.
func BenchmarkCrowded(b *testing.B) {
	x := crowded(20_000)
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
			z.Lookup(c.name, c.qtype, 1) // compiles
			for b.Loop() {
				reply.Begin(out, query, &q)
				z.Find(q.Name, q.Type).AppendWire(&reply, 1, true)
			}
		})
	}
}
