package names

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
)

// query is one question, and how it is asked.
type query struct {
	name  string
	qtype uint16
	tcp   bool
	size  uint16 // of EDNS; 0 for none
	do    bool
}

func (q query) String() string {
	text := fmt.Sprintf("%s %s", q.name, dns.TypeToString[q.qtype])
	if q.tcp {
		text += " +tcp"
	}
	if q.size > 0 {
		text += fmt.Sprintf(" +bufsize=%d", q.size)
	}
	if q.do {
		text += " +do"
	}
	return text
}

func (q query) message() *dns.Msg {
	m := new(dns.Msg).SetQuestion(q.name, q.qtype)
	m.RecursionDesired = true
	if q.size > 0 {
		m.SetEdns0(q.size, q.do)
	}
	return m
}

// Types that are asked for, the likely ones more often.
var types = []uint16{
	dns.TypeA, dns.TypeA, dns.TypeA, dns.TypeAAAA, dns.TypeAAAA, dns.TypeSRV, dns.TypeSRV, dns.TypePTR, dns.TypeTXT,
	dns.TypeCNAME, dns.TypeMX, dns.TypeNS, dns.TypeSOA, dns.TypeANY, dns.TypeHTTPS, dns.TypeDS,
}

// queries makes so many of the names, each name at least once with A, AAAA, SRV and
// PTR, and fixed names with every type.
func queries(r *rand.Rand, names []string, count int) []query {
	var out []query
	for _, name := range fixedNames {
		for _, qtype := range types {
			out = append(out, query{name: dns.Fqdn(name), qtype: qtype}, query{name: mixCase(r, dns.Fqdn(name)), qtype: qtype})
		}
	}
	for _, name := range names {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypePTR} {
			out = append(out, query{name: name, qtype: qtype})
		}
	}
	// Chance alone asks for them in few runs.
	out = append(out, query{name: "Cluster.Local.", qtype: dns.TypeNS}, query{name: "in-addr.arpa.", qtype: dns.TypeNS},
		query{name: "NS.dns.Cluster.Local.", qtype: dns.TypeA})
	for len(out) < count {
		q := query{name: names[r.IntN(len(names))], qtype: types[r.IntN(len(types))], tcp: chance(r, 1, 20)}
		if chance(r, 1, 4) {
			q.name = mixCase(r, q.name)
		}
		if chance(r, 2, 5) {
			q.size, q.do = []uint16{512, 1232, 4096}[r.IntN(3)], chance(r, 1, 3)
		}
		out = append(out, q)
	}
	return out
}

func mixCase(r *rand.Rand, name string) string {
	text := []byte(name)
	for i, c := range text {
		if c >= 'a' && c <= 'z' && chance(r, 1, 2) {
			text[i] = c - 'a' + 'A'
		}
	}
	return string(text)
}

// fixedNames are there whatever the objects are.
var fixedNames = []string{
	"cluster.local", "in-addr.arpa", "ip6.arpa", "svc.cluster.local", "pod.cluster.local", "dns.cluster.local", "ns.dns.cluster.local", "dns-version.cluster.local",
}

// nameSet has names that DNS can hold.
type nameSet map[string]bool

func (s nameSet) add(parts ...string) {
	name := dns.Fqdn(strings.Join(parts, "."))
	if _, ok := dns.IsDomainName(name); ok {
		s[name] = true
	}
}

// names returns the names that objects of the world have, those around them, and
// such as nobody has.
func (w *world) names() []string {
	set := make(nameSet)
	add := set.add
	const zone = "cluster.local"
	for _, text := range append(fixedNames, []string{
		"dns-version.svc." + zone, "x.ns.dns." + zone, "nobody." + zone, "any.any.svc." + zone, "*.*.svc." + zone, "10.in-addr.arpa",
		"43.10.in-addr.arpa", "1.2.3.in-addr.arpa", "x.in-addr.arpa", "1.2.3.4.5.in-addr.arpa", "local." + zone, "a.b.c.d.e.f.g." + zone,
	}...) {
		add(text)
	}
	for _, n := range namespaces {
		add(n.name, "svc", zone)
		add(n.name, "pod", zone)
		add("nobody", n.name, "svc", zone)
		add("*", n.name, "svc", zone)
		add(n.name, zone)
	}
	for _, s := range w.services {
		w.serviceNames(s, add)
	}
	for i := range 44 {
		for _, v6 := range []bool{false, true} {
			address := podAddress(i, v6)
			reverse, _ := dns.ReverseAddr(address)
			add(strings.TrimSuffix(reverse, "."))
			dashed := strings.NewReplacer(".", "-", ":", "-").Replace(address)
			add(dashed, namespaces[i%len(namespaces)].name, "pod", zone)
			add(dashed, "nobody", "pod", zone)
		}
	}
	for _, text := range []string{"1-2-3", "1-2-3-4-5", "10-42-0", "1-2-3-400", "fd00--1", "fd00-10-42--a", "--1", "x", "-"} {
		add(text, "shop", "pod", zone)
	}
	return slices.Sorted(maps.Keys(set))
}

func (w *world) serviceNames(s *corev1.Service, add func(parts ...string)) {
	below := s.Name + "." + s.Namespace + ".svc.cluster.local"
	add(below)
	for _, label := range []string{
		"nobody", "*", "any", "_tcp", "_http._tcp", "http._tcp", "_http.tcp", "_https._tcp", "_http._udp", "_dns._udp", "_sigtran._sctp", "_._tcp", "_nobody._tcp", "http.tcp", "_http._", "http._",
		"_._", "_", "tcp", "_._udp", "dns.udp",
		"_HTTP._TCP", "web-0", "web-1", "a.web-0", "web-0._http._tcp", "zone-a.pin._zone", "zone-b.pin._zone", "zone-a.prefer._zone", "zone-b.prefer._zone",
		"corp.example.com.pin._zone", "pin._zone", "_zone", "zone-a.near._zone", "x.y.z",
	} {
		add(label, below)
	}
	for _, slice := range w.slices {
		if slice.Namespace != s.Namespace || slice.Labels["kubernetes.io/service-name"] != s.Name {
			continue
		}
		for _, e := range slice.Endpoints {
			dashed := strings.NewReplacer(".", "-", ":", "-").Replace(e.Addresses[0])
			add(dashed, below)
			if e.TargetRef != nil {
				add(e.TargetRef.Name, below)
			}
		}
	}
	for _, ip := range s.Spec.ClusterIPs {
		if a, err := netip.ParseAddr(ip); err == nil {
			reverse, _ := dns.ReverseAddr(a.String())
			add(strings.TrimSuffix(reverse, "."))
			add(strings.SplitN(reverse, ".", 2)[1])
		}
	}
}
