package zone

import (
	"fmt"
	"math/rand"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/miekg/dns"
)

// indexOf serves Services in cluster.local, and imports in clusterset.local.
func indexOf(services, imports []*cluster.Service, podNames bool) *Index {
	x := New([]string{"cluster.local.", "clusterset.local.", "in-addr.arpa."},
		Options{TTL: 5, Multicluster: []string{"clusterset.local."}, EndpointPodNames: podNames})
	var u cluster.Update
	for _, s := range services {
		u.Services = append(u.Services, cluster.ServiceUpdate{Name: s.Name, Service: s})
	}
	for _, s := range imports {
		u.Imports = append(u.Imports, cluster.ServiceUpdate{Name: s.Name, Service: s})
	}
	x.Apply(u)
	return x
}

// manyPorts is a Service with so many ports.
func manyPorts(n int) *cluster.Service {
	s := cluster.Service{Name: cluster.ServiceName{Namespace: "shop", Name: "web"}, Kind: cluster.KindClusterIP, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.43.0.1")}}
	for i := range n {
		s.Ports = append(s.Ports, cluster.Port{Name: fmt.Sprintf("p%d", i), Protocol: cluster.TCP, Port: uint16(i + 1)})
	}
	return cluster.New(s)
}

// manyNames is a headless Service with so many endpoints of one name.
func manyNames(n int) *cluster.Service {
	s := headlessOf(n)
	for i := range s.Endpoints {
		s.Endpoints[i].Hostname = "one"
	}
	return s
}

// However large a Service, a question costs what fits into a message, and a message
// that lacks something says so.
func TestAnswersAreBounded(t *testing.T) {
	atOne := headlessOf(20_000)
	for i := range atOne.Endpoints {
		atOne.Endpoints[i].Addr, atOne.Endpoints[i].Hostname = netip.MustParseAddr("10.64.0.0"), fmt.Sprint("h", i)
	}
	atOne.Name.Name = "at"
	one := manyNames(20_000)
	one.Name.Name = "one"
	x := indexOf([]*cluster.Service{manyPorts(65_535), headlessOf(20_000), one, atOne}, nil, false)
	for _, c := range []struct {
		name  string
		qtype uint16
	}{
		{"web.shop.svc.cluster.local.", dns.TypeSRV},
		{"web.shop.svc.cluster.local.", dns.TypeANY},
		{"db.shop.svc.cluster.local.", dns.TypeA},
		{"one.shop.svc.cluster.local.", dns.TypeSRV},
		{"one.one.shop.svc.cluster.local.", dns.TypeA},
		{"0.0.64.10.in-addr.arpa.", dns.TypePTR},
	} {
		z := x.Match(c.name)
		m := new(dns.Msg).SetQuestion(c.name, c.qtype)
		a := z.Lookup(c.name, c.qtype, 1)
		m.Answer, m.Extra = a.Answer, a.Extra
		if n := len(a.Answer); n == 0 || n > MaxRecords || cap(a.Answer) != n || len(a.Extra) > MaxRecords || cap(a.Extra) != len(a.Extra) {
			t.Errorf("%s %s: %d records of capacity %d, and %d more", c.name, dns.TypeToString[c.qtype], n, cap(a.Answer), len(a.Extra))
		}
		if m.Truncate(dns.MaxMsgSize); len(a.Answer) == MaxRecords && !m.Truncated {
			t.Errorf("%s %s: nothing says that there are more records", c.name, dns.TypeToString[c.qtype])
		}
		if packed, err := m.Pack(); err != nil || len(packed) > dns.MaxMsgSize {
			t.Errorf("%s %s: %d octets, %v", c.name, dns.TypeToString[c.qtype], len(packed), err)
		}
		allocated := allocatedBy(func() {
			for range 10 {
				z.Lookup(c.name, c.qtype, 1)
			}
		})
		if most := uint64(10 * 3 * MaxRecords * 100); allocated > most {
			t.Errorf("10 questions for %s %s allocate %d bytes", c.name, dns.TypeToString[c.qtype], allocated)
		}
	}
}

// All endpoints of a Service that is too large for an answer have their turn.
func TestEveryEndpointHasItsTurn(t *testing.T) {
	const n = 3*MaxRecords + 17
	x := indexOf([]*cluster.Service{headlessOf(n)}, nil, false)
	seen := map[string]bool{}
	for range 400 {
		for _, rr := range x.local[0].Lookup("db.shop.svc.cluster.local.", dns.TypeA, 1).Answer {
			seen[rr.(*dns.A).A.String()] = true
		}
	}
	if len(seen) != n {
		t.Errorf("of %d endpoints %d are ever told", n, len(seen))
	}
	sent := 0
	for set := range x.local[0].Snapshot().Records() {
		for _, rr := range set {
			if rr.Header().Rrtype == dns.TypeA && strings.HasPrefix(rr.Header().Name, "db.") {
				sent++
			}
		}
	}
	if sent != n {
		t.Errorf("a transfer has %d of %d addresses", sent, n)
	}
}

// Names of endpoints are found among many as they are when all are looked at.
func TestNamesAmongMany(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	random := func(clusters []string) *cluster.Service {
		s := cluster.Service{Name: cluster.ServiceName{Namespace: "shop", Name: "db"}, Kind: cluster.KindHeadless}
		var all []cluster.Endpoint
		for range 3 * lazyLimit {
			e := cluster.Endpoint{Addr: netip.AddrFrom4([4]byte{10, 0, byte(rng.Intn(2)), byte(rng.Intn(90))}), Ready: true}
			if rng.Intn(3) == 0 {
				e.Addr = netip.MustParseAddr(fmt.Sprintf("fd00::%x", rng.Intn(40)))
			}
			switch rng.Intn(4) {
			case 0:
				e.Hostname = fmt.Sprint("h", rng.Intn(9))
			case 1:
				e.Hostname = "10-0-0-7"
			case 2:
				e.PodName = []string{"pod", "east", "no.label"}[rng.Intn(3)]
			}
			e.Slice = &cluster.EndpointSlice{Cluster: clusters[rng.Intn(len(clusters))]}
			all = append(all, e)
		}
		return cluster.New(s, all)
	}
	names := []string{"h1", "h8", "pod", "east", "west", "10-0-0-7", "10-0-1-12", "fd00--7", "fd00--0007", "", "a.b.c", "_tcp", "h1.east", "10-0-0-7.west", "pod.east", "fd00--7.east", "x.pin._zone"}
	for _, clusters := range [][]string{{""}, {"", "east", "west"}} {
		for _, podNames := range []bool{false, true} {
			service := random(clusters)
			x := indexOf([]*cluster.Service{service}, []*cluster.Service{service}, podNames)
			for _, z := range []*Zone{x.local[0], x.imported[0]} {
				r := z.services.get("db.shop")
				for _, name := range names {
					asked := newHost(name, podNames)
					want, got := related(r.usable, asked), related(r.candidates(asked, MaxRecords), asked)
					if !slices.Equal(want, got) {
						t.Errorf("%v, pod names %t: %q is of %v, want %v", clusters, podNames, name, got, want)
					}
				}
			}
		}
	}
}

// related are the endpoints that have a name, and whether any is below it.
func related(endpoints []cluster.Endpoint, asked host) []string {
	var all []string
	below := false
	for i := range endpoints {
		switch e := &endpoints[i]; asked.of(e) {
		case itself:
			all = append(all, e.Addr.String())
		case parent:
			below = true
		}
	}
	return append(all, fmt.Sprint(below))
}

// A Service that is too large for an answer, with this server among its endpoints, is no
// change as long as it does not change.
func TestLargeServiceOfTheNameServer(t *testing.T) {
	s := headlessOf(3 * MaxRecords)
	x := New([]string{"cluster.local."}, Options{TTL: 5, Nameservers: []netip.Addr{s.Endpoints[0].Addr}})
	x.Apply(cluster.Update{Services: []cluster.ServiceUpdate{{Name: s.Name, Service: s}}})
	x.Track()
	for range 20 {
		if changes := x.Apply(cluster.Update{}); len(changes) > 0 {
			t.Fatalf("%d records went and %d came", len(changes[0].Gone()), len(changes[0].Come()))
		}
	}
	if n := len(x.zones[0].Lookup("ns.dns.cluster.local.", dns.TypeA, 1).Answer); n != MaxRecords {
		t.Errorf("the name server has %d addresses", n)
	}
}
