package zone_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/plugin/clusterip/zone"
	"github.com/miekg/dns"
)

func service(namespace, name string, kind cluster.Kind) cluster.Service {
	return cluster.Service{Name: cluster.ServiceName{Namespace: namespace, Name: name}, Kind: kind}
}

func update(services ...*cluster.Service) cluster.Update {
	var u cluster.Update
	for _, s := range services {
		u.Services = append(u.Services, cluster.ServiceUpdate{Name: s.Name, Service: s})
	}
	return u
}

// example has a Service of each kind.
func example() cluster.Update {
	web := service("default", "web", cluster.KindClusterIP)
	web.ClusterIPs = []netip.Addr{netip.MustParseAddr("10.43.0.10"), netip.MustParseAddr("fd00:43::10")}
	web.Ports = []cluster.Port{{Name: "http", Protocol: cluster.TCP, Port: 80}}
	pets := service("default", "pets", cluster.KindHeadless)
	peers := &cluster.EndpointSlice{Ports: []cluster.EndpointPort{{Name: "peer", Protocol: cluster.TCP, Port: 7000}}}
	out := service("default", "out", cluster.KindExternalName)
	out.ExternalName = "www.example.com"
	return update(
		cluster.New(web, []cluster.Endpoint{{Addr: netip.MustParseAddr("10.42.0.7"), Ready: true}}),
		cluster.New(pets, []cluster.Endpoint{
			{Addr: netip.MustParseAddr("10.42.0.8"), Hostname: "pet-0", Slice: peers, Topology: &cluster.Topology{Zone: "zone-a"}, Ready: true},
			{Addr: netip.MustParseAddr("10.42.0.9"), Hostname: "pet-1", Slice: peers, Ready: true},
		}),
		cluster.New(out),
	)
}

// look answers as text: the outcome, and the records of all sections.
func look(x *zone.Index, name string, qtype uint16) string {
	a := x.Match(zone.Lower(name)).Lookup(zone.Lower(name), qtype, serial)
	if zone.Lower(name) != name {
		a = a.InCaseOf(name)
	}
	var b strings.Builder
	fmt.Fprintln(&b, map[zone.Outcome]string{zone.Success: "success", zone.NoData: "nodata", zone.NXDomain: "nxdomain"}[a.Outcome])
	for _, rr := range slices.Concat(a.Answer, a.Authority, a.Extra) {
		fmt.Fprintln(&b, strings.ReplaceAll(rr.String(), "\t", " "))
	}
	return b.String()
}

const soa = "cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 7 7200 1800 86400 5\n"

// The zones above in-addr.arpa and ip6.arpa have the reverse names as well.
func TestReverseInForwardZone(t *testing.T) {
	for origin, target := range map[string]string{".": "web.default.svc.", "arpa.": "web.default.svc.arpa."} {
		x := zone.New([]string{origin}, zone.Options{TTL: 5})
		x.Apply(example())
		for _, c := range []struct {
			name  string
			qtype uint16
			want  string
		}{
			{"10.0.43.10.in-addr.arpa.", dns.TypePTR, "success\n10.0.43.10.in-addr.arpa. 5 IN PTR " + target},
			{reverseName(netip.MustParseAddr("fd00:43::10")), dns.TypePTR, "success\n"},
			{"10.0.43.10.in-addr.arpa.", dns.TypeA, "nodata\n" + origin + " 5 IN SOA"},
			{"43.10.in-addr.arpa.", dns.TypePTR, "nodata\n"},
			{"in-addr.arpa.", dns.TypePTR, "nodata\n"},
			{"ip6.arpa.", dns.TypeNS, "nodata\n"},
			{"arpa.", dns.TypeA, "nodata\n"},
			{"11.0.43.10.in-addr.arpa.", dns.TypePTR, "nxdomain\n"},
			{"x.arpa.", dns.TypePTR, "nxdomain\n"},
			{target, dns.TypeA, "success\n"},
		} {
			if got := look(x, c.name, c.qtype); !strings.HasPrefix(got, c.want) {
				t.Errorf("zone %s: %s %s: got\n%s\nwant\n%s", origin, c.name, dns.TypeToString[c.qtype], got, c.want)
			}
		}
	}
}

func TestLookup(t *testing.T) {
	x := zone.New([]string{"cluster.local.", "10.in-addr.arpa."}, zone.Options{TTL: 5, Nameservers: []netip.Addr{netip.MustParseAddr("192.0.2.53")}})
	x.Apply(example())
	for _, c := range []struct {
		name  string
		qtype uint16
		want  string
	}{
		{"cluster.local.", dns.TypeSOA, "success\n" + soa},
		{"cluster.local.", dns.TypeA, "nodata\n" + soa},
		{"cluster.local.", dns.TypeNS, "success\ncluster.local. 5 IN NS ns.dns.cluster.local.\nns.dns.cluster.local. 5 IN A 192.0.2.53\n"},
		{"ns.dns.cluster.local.", dns.TypeA, "success\nns.dns.cluster.local. 5 IN A 192.0.2.53\n"},
		{"ns.dns.cluster.local.", dns.TypeAAAA, "nodata\n" + soa},
		{"10.in-addr.arpa.", dns.TypeNS, "success\n10.in-addr.arpa. 5 IN NS ns.dns.cluster.local.\nns.dns.cluster.local. 5 IN A 192.0.2.53\n"},
		{"dns-version.cluster.local.", dns.TypeTXT, "success\ndns-version.cluster.local. 28800 IN TXT \"1.1.0\"\n"},
		{"web.default.svc.cluster.local.", dns.TypeA, "success\nweb.default.svc.cluster.local. 5 IN A 10.43.0.10\n"},
		{"_http._tcp.web.default.svc.cluster.local.", dns.TypeA, "success\n_http._tcp.web.default.svc.cluster.local. 5 IN A 10.43.0.10\n"},
		{"_http._tcp.web.default.svc.cluster.local.", dns.TypeTXT, "nodata\n" + soa},
		{"HTTP.tcp.web.default.svc.cluster.local.", dns.TypeAAAA, "success\nHTTP.tcp.web.default.svc.cluster.local. 5 IN AAAA fd00:43::10\n"},
		{"http._tcp.web.default.svc.cluster.local.", dns.TypeSRV, `success
http._tcp.web.default.svc.cluster.local. 5 IN SRV 0 50 80 web.default.svc.cluster.local.
web.default.svc.cluster.local. 5 IN A 10.43.0.10
web.default.svc.cluster.local. 5 IN AAAA fd00:43::10
`},
		{"_peer.tcp.pets.default.svc.cluster.local.", dns.TypeA, "success\n_peer.tcp.pets.default.svc.cluster.local. 5 IN A 10.42.0.8\n_peer.tcp.pets.default.svc.cluster.local. 5 IN A 10.42.0.9\n"},
		{"_._tcp.pets.default.svc.cluster.local.", dns.TypeSRV, `success
_._tcp.pets.default.svc.cluster.local. 5 IN SRV 0 50 7000 pet-0.pets.default.svc.cluster.local.
_._tcp.pets.default.svc.cluster.local. 5 IN SRV 0 50 7000 pet-1.pets.default.svc.cluster.local.
pet-0.pets.default.svc.cluster.local. 5 IN A 10.42.0.8
pet-1.pets.default.svc.cluster.local. 5 IN A 10.42.0.9
`},
		{"tcp.pets.default.svc.cluster.local.", dns.TypeA, "nodata\n" + soa},
		{"udp.pets.default.svc.cluster.local.", dns.TypeA, "nxdomain\n" + soa},
		{"http.tcp.pets.default.svc.cluster.local.", dns.TypeA, "nxdomain\n" + soa},
		{"x.http.tcp.web.default.svc.cluster.local.", dns.TypeA, "nxdomain\n" + soa},
		{"_http._tcp.out.default.svc.cluster.local.", dns.TypeA, "nxdomain\n" + soa},
		{"_http._tcp.web.default.svc.cluster.local.", dns.TypeSRV, `success
_http._tcp.web.default.svc.cluster.local. 5 IN SRV 0 50 80 web.default.svc.cluster.local.
web.default.svc.cluster.local. 5 IN A 10.43.0.10
web.default.svc.cluster.local. 5 IN AAAA fd00:43::10
`},
		{"out.default.svc.cluster.local.", dns.TypeMX, "success\nout.default.svc.cluster.local. 5 IN CNAME www.example.com.\n"},
		{"x.out.default.svc.cluster.local.", dns.TypeA, "nxdomain\n" + soa},
		{"10.43.10.in-addr.arpa.", dns.TypePTR, "nxdomain\n10.in-addr.arpa. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 7 7200 1800 86400 5\n"},
		{"10.0.43.10.in-addr.arpa.", dns.TypePTR, "success\n10.0.43.10.in-addr.arpa. 5 IN PTR web.default.svc.cluster.local.\n"},
		// RFC 8482: one set for ANY.
		{"web.default.svc.cluster.local.", dns.TypeANY, "success\nweb.default.svc.cluster.local. 5 IN A 10.43.0.10\n"},
		{"out.default.svc.cluster.local.", dns.TypeANY, "success\nout.default.svc.cluster.local. 5 IN CNAME www.example.com.\n"},
		{"svc.cluster.local.", dns.TypeANY, "nodata\n" + soa},
		// A dot inside a label parts nothing.
		{`web\.default.svc.cluster.local.`, dns.TypeA, "nxdomain\n" + soa},
		{`default\.svc.cluster.local.`, dns.TypeA, "nxdomain\n" + soa},
		// RFC 4343: owner names in the letter case of the question.
		{"WEB.Default.svc.CLUSTER.local.", dns.TypeA, "success\nWEB.Default.svc.CLUSTER.local. 5 IN A 10.43.0.10\n"},
		{"nope.CLUSTER.local.", dns.TypeA, "nxdomain\n" + strings.Replace(soa, "cluster", "CLUSTER", 1)},
		{"10.0.43.10.IN-addr.arpa.", dns.TypePTR, "success\n10.0.43.10.IN-addr.arpa. 5 IN PTR web.default.svc.cluster.local.\n"},
	} {
		t.Run(c.name+" "+dns.TypeToString[c.qtype], func(t *testing.T) {
			if got := look(x, c.name, c.qtype); got != c.want {
				t.Errorf("got\n%swant\n%s", got, c.want)
			}
		})
	}
}

func TestMatch(t *testing.T) {
	x := zone.New([]string{"local.", "cluster.local.", "in-addr.arpa.", "10.in-addr.arpa."}, zone.Options{})
	for name, want := range map[string]string{
		"cluster.local.":        "cluster.local.",
		"a.cluster.local.":      "cluster.local.",
		"acluster.local.":       "local.",
		`a\.cluster.local.`:     "local.",
		`a\\.cluster.local.`:    "cluster.local.",
		"1.10.in-addr.arpa.":    "10.in-addr.arpa.",
		"1.110.in-addr.arpa.":   "in-addr.arpa.",
		"example.com.":          "",
		".":                     "",
		"cluster.local.example": "",
	} {
		got := ""
		if z := x.Match(name); z != nil {
			got = z.Origin()
		}
		if got != want {
			t.Errorf("Match(%s) = %q, want %q", name, got, want)
		}
	}
}

// The root zone has no label of its own to cut off.
func TestRootZone(t *testing.T) {
	x := zone.New([]string{"."}, zone.Options{TTL: 5})
	x.Apply(example())
	want := "success\nweb.default.svc. 5 IN A 10.43.0.10\n"
	if got := look(x, "web.default.svc.", dns.TypeA); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := look(x, ".", dns.TypeSOA); !strings.HasPrefix(got, "success\n. 5 IN SOA ns.dns. ") {
		t.Errorf("SOA of the root: %s", got)
	}
}

// The server's own addresses give way to those of the Service it is part of.
func TestNameserverIsTheService(t *testing.T) {
	x := zone.New([]string{origin}, zone.Options{Nameservers: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("10.42.0.7")}})
	x.Apply(example())
	want := "success\nns.dns.cluster.local. 0 IN A 10.43.0.10\n"
	if got := look(x, "ns.dns.cluster.local.", dns.TypeA); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// Letter case in the label of a Node does not count; a label of the query that no
// endpoint has is a zone without endpoints.
func TestZonal(t *testing.T) {
	x := zone.New([]string{origin}, zone.Options{TTL: 5, Zonal: true})
	s := service("default", "db", cluster.KindHeadless)
	sql := &cluster.EndpointSlice{Ports: []cluster.EndpointPort{{Name: "sql", Protocol: cluster.TCP, Port: 5432}}}
	in := func(zone string) *cluster.Topology { return &cluster.Topology{Zone: zone} }
	x.Apply(example())
	x.Apply(update(cluster.New(s, []cluster.Endpoint{
		{Addr: netip.MustParseAddr("10.42.0.8"), Hostname: "db-0", Slice: sql, Topology: in("EU.north-1a"), Ready: true},
		{Addr: netip.MustParseAddr("10.42.0.9"), Hostname: "db-1", Slice: sql, Topology: in("b"), Ready: true},
		// Not usable as long as another one is ready, wherever that is.
		{Addr: netip.MustParseAddr("10.42.0.10"), Hostname: "db-2", Slice: sql, Topology: in("c"), Serving: true, Terminating: true},
		{Addr: netip.MustParseAddr("10.42.0.11"), Hostname: "db-3", Slice: sql, Topology: in("d..d"), Ready: true},
	})))
	const db = ".db.default.svc.cluster.local."
	for _, c := range []struct {
		name  string
		qtype uint16
		want  string
	}{
		{"Eu.North-1a.pin._zone" + db, dns.TypeA, "success\nEu.North-1a.pin._zone" + db + " 5 IN A 10.42.0.8\n"},
		{"b.prefer._zone" + db, dns.TypeSRV, "success\nb.prefer._zone" + db + " 5 IN SRV 0 100 5432 db-1" + db + "\ndb-1" + db + " 5 IN A 10.42.0.9\n"},
		{"b.pin._zone" + db, dns.TypeTXT, "nodata\n" + soa},
		{"c.pin._zone" + db, dns.TypeA, "nodata\n" + soa},
		{"C.prefer._zone" + db, dns.TypeA, "success\nC.prefer._zone" + db + " 5 IN A 10.42.0.8\nC.prefer._zone" + db + " 5 IN A 10.42.0.9\nC.prefer._zone" + db + " 5 IN A 10.42.0.11\n"},
		{"c.prefer._zone" + db, dns.TypeMX, "nodata\n" + soa},
		{"pin._zone" + db, dns.TypeA, "nodata\n" + soa},
		{"b.near._zone" + db, dns.TypeA, "nxdomain\n" + soa},
		{"b.pin._zone.web.default.svc.cluster.local.", dns.TypeA, "nxdomain\n" + soa},
		{"b.pin._zone.out.default.svc.cluster.local.", dns.TypeA, "nxdomain\n" + soa},
		{"b.pin._zone.nope.default.svc.cluster.local.", dns.TypeA, "nxdomain\n" + soa},
	} {
		if got := look(x, c.name, c.qtype); got != c.want {
			t.Errorf("%s %s: got\n%swant\n%s", c.name, dns.TypeToString[c.qtype], got, c.want)
		}
	}
}

func TestLongNamesAreLeftOut(t *testing.T) {
	long := strings.Repeat("p", 63)
	s := service("default", "web", cluster.KindHeadless)
	x := zone.New([]string{origin}, zone.Options{})
	x.Apply(update(cluster.New(s, []cluster.Endpoint{{
		Addr: netip.MustParseAddr("10.42.0.8"), Ready: true,
		Slice: &cluster.EndpointSlice{Ports: []cluster.EndpointPort{
			{Name: long, Protocol: cluster.TCP, Port: 1}, {Name: "dotted.port", Protocol: cluster.TCP, Port: 2},
			{Name: long[1:], Protocol: cluster.TCP, Port: 3},
		}},
	}})))
	for name, want := range map[string]string{
		"_" + long[1:] + "._tcp": "success",
		long + "._tcp":           "success", // as in CoreDNS
		"_dotted.port._tcp":      "nxdomain",
	} {
		if got, _, _ := strings.Cut(look(x, name+".web.default.svc."+origin, dns.TypeSRV), "\n"); got != want {
			t.Errorf("SRV of port %s: %s, want %s", name, got, want)
		}
	}
}

// Plugins make names of what clients ask, and do not look how long they get.
func TestLongQuestion(t *testing.T) {
	long := strings.Repeat(strings.Repeat("z", 62)+".", 3) + strings.Repeat("y", 40) + "."
	web := service("default", "web", cluster.KindClusterIP)
	web.ClusterIPs, web.Ports = []netip.Addr{netip.MustParseAddr("10.43.0.9")}, []cluster.Port{{Name: "https", Protocol: cluster.TCP, Port: 443}}
	x := zone.New([]string{long}, zone.Options{})
	x.Apply(update(cluster.New(web)))
	name := "_https._tcp.web.default.svc." + long
	for _, qtype := range []uint16{dns.TypeA, dns.TypeSRV, dns.TypeANY} {
		if a := x.Match(name).Lookup(name, qtype, serial); a.Outcome != zone.NXDomain {
			t.Errorf("%s of a name of %d characters: %+v", dns.TypeToString[qtype], len(name), a)
		}
	}
}

// A Service whose alias DNS cannot hold exists, and does no harm to transfers.
func TestUnusableAliases(t *testing.T) {
	label := strings.Repeat("a", 63)
	longest := strings.Join([]string{label, label, label, label[:61]}, ".")
	for target, want := range map[string]string{
		"192.0.2.1":                 "nxdomain", // as in CoreDNS
		label + "a.example.com":     "nodata",
		longest + "a":               "nodata",
		longest:                     "success",
		label + ".example.com":      "success",
		"WWW." + label + ".example": "success",
	} {
		s := service("default", "out", cluster.KindExternalName)
		s.ExternalName = target
		x := zone.New([]string{origin}, zone.Options{})
		x.Apply(update(cluster.New(s)))
		if got, _, _ := strings.Cut(look(x, "out.default.svc."+origin, dns.TypeA), "\n"); got != want {
			t.Errorf("an alias of %s: %s, want %s", target, got, want)
		}
		carried(t, x.Zones()[0])
	}
}

// A zone name can be so long that nothing fits in front of it.
func TestLongZone(t *testing.T) {
	long := strings.Repeat(strings.Repeat("z", 62)+".", 3) + strings.Repeat("y", 40) + "."
	x := zone.New([]string{long}, zone.Options{})
	x.Apply(example())
	for _, z := range []string{"pet-0.pets.default.svc.", "pets.default.svc.", "_peer._tcp.pets.default.svc."} {
		a := x.Match(z+long).Lookup(z+long, dns.TypeANY, serial)
		for _, rr := range slices.Concat(a.Answer, a.Extra) {
			if _, err := dns.PackRR(rr, make([]byte, 1024), 0, nil, false); err != nil {
				t.Errorf("%s cannot be sent: %v", rr, err)
			}
		}
	}
}

func TestNoForwardZonePanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("New took a list without a forward zone")
		}
	}()
	zone.New([]string{"10.in-addr.arpa."}, zone.Options{})
}

// What is compiled costs nothing. What is made when somebody asks for it costs its
// record, and the name of an endpoint if that is not in the question.
func TestAllocs(t *testing.T) {
	x := zone.New([]string{origin, "in-addr.arpa."}, zone.Options{TTL: 5, Zonal: true})
	u := example()
	u.Namespaces = []cluster.NamespaceUpdate{{Name: "empty", Exists: true}}
	x.Apply(u)
	for _, c := range []struct {
		name  string
		qtype uint16
		want  float64
	}{
		{"web.default.svc.cluster.local.", dns.TypeA, 0},
		{"web.default.svc.cluster.local.", dns.TypeMX, 0},
		{"_peer._tcp.pets.default.svc.cluster.local.", dns.TypeSRV, 0},
		{"pet-0.pets.default.svc.cluster.local.", dns.TypeA, 1},
		{"zone-a.pin._zone.pets.default.svc.cluster.local.", dns.TypeSRV, 0},
		{"nope.pin._zone.pets.default.svc.cluster.local.", dns.TypeA, 0},
		{"out.default.svc.cluster.local.", dns.TypeA, 0},
		{"www.example.com.default.svc.cluster.local.", dns.TypeA, 0},
		{"empty.svc.cluster.local.", dns.TypeA, 0},
		{"10-42-0-7.web.default.svc.cluster.local.", dns.TypeA, 1},
		{"10.0.43.10.in-addr.arpa.", dns.TypePTR, 1},
		{"8.0.42.10.in-addr.arpa.", dns.TypePTR, 1},
		{"7.0.42.10.in-addr.arpa.", dns.TypePTR, 2},
		{"43.10.in-addr.arpa.", dns.TypePTR, 0},
		{"cluster.local.", dns.TypeSOA, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			allocs := testing.AllocsPerRun(100, func() {
				name := zone.Lower(c.name)
				x.Match(name).Lookup(name, c.qtype, serial)
			})
			if allocs != c.want {
				t.Errorf("%v allocations, want %v", allocs, c.want)
			}
		})
	}
}
