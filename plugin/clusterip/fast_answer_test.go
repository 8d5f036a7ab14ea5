package clusterip

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/plugin/clusterip/zone"
	"github.com/clusterip/clusterip/test/clustertest"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/coredns/coredns/request"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// fastAnswerer answers for a Handler that is alone in its server.
func fastAnswerer(h *Handler) *answerer {
	return &answerer{blocks: []block{{".", &lane{handler: h}}}}
}

// viaChain returns what the Handler behind CoreDNS's server answers, as it arrives.
func viaChain(t *testing.T, h *Handler, r *dns.Msg) *dns.Msg {
	t.Helper()
	w := dnstest.NewRecorder(&test.ResponseWriter{})
	if _, err := h.ServeDNS(t.Context(), request.NewScrubWriter(r, w), r); err != nil {
		t.Fatal(err)
	}
	if w.Msg == nil {
		return nil
	}
	return arrived(t, w.Msg)
}

// arrived is a message that was sent.
func arrived(t *testing.T, m *dns.Msg) *dns.Msg {
	t.Helper()
	packed, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return unpacked(t, packed)
}

func unpacked(t *testing.T, packed []byte) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	if err := m.Unpack(packed); err != nil {
		t.Fatalf("%v\n%x", err, packed)
	}
	return m
}

// compareFast sends a query both ways. It reports whether the fast path answered.
func compareFast(t *testing.T, h *Handler, a *answerer, query []byte) bool {
	t.Helper()
	before := string(query)
	out, ok := a.Answer([]byte("before"), query, netip.AddrPort{})
	if string(query) != before {
		t.Fatal("the query has changed")
	}
	if !ok {
		return false
	}
	if string(out[:6]) != "before" {
		t.Fatalf("the reply is not behind what the buffer held: %q", out)
	}
	r := new(dns.Msg)
	if err := r.Unpack(query); err != nil {
		t.Fatalf("the fast path answers %x, which the server does not take: %v", query, err)
	}
	if dns.DefaultMsgAcceptFunc(headerOf(query)) != dns.MsgAccept {
		t.Fatalf("the fast path answers %x, which the server does not accept", query)
	}
	fast, chain := unpacked(t, out[6:]), viaChain(t, h, r)
	if chain == nil {
		t.Fatalf("the fast path answers %v, the chain does not", fast)
	}
	if len(out)-6 > a.question.Size {
		t.Fatalf("the reply has %d octets, the client takes %d", len(out)-6, a.question.Size)
	}
	if strings.Contains(a.question.Name, "many-5000") {
		// Chance says which part of so long a list is answered.
		if len(chain.Answer) > 1 && len(fast.Answer) > 1 {
			chain.Answer, fast.Answer = nil, nil
		}
	}
	if diff := gocmp.Diff(chain.String(), fast.String()); diff != "" {
		t.Fatalf("query %x: -chain +fast:\n%s", query, diff)
	}
	return true
}

func headerOf(m []byte) dns.Header {
	at := func(i int) uint16 { return uint16(m[i])<<8 | uint16(m[i+1]) }
	return dns.Header{Id: at(0), Bits: at(2), Qdcount: at(4), Ancount: at(6), Nscount: at(8), Arcount: at(10)}
}

// fastWorld has Services of all kinds, and names of 1 to 5,000 endpoints.
func fastWorld(t testing.TB) *Handler {
	h := testHandler(func(o *Options) {
		o.Zones, o.Multicluster = append(o.Zones, "ip6.arpa.", "set."), []string{"set."}
		o.Pods, o.Zonal = zone.PodsInsecure, true
	})
	h.Next = next
	var all []*cluster.Service
	for _, n := range []int{1, 2, 10, 28, 29, 30, 60, 90, 101, 300, 5000} {
		s := clustertest.Service(fmt.Sprintf("crowd/many-%d", n))
		s.Kind = cluster.KindHeadless
		slice := &cluster.EndpointSlice{Ports: []cluster.EndpointPort{{Name: "http", Protocol: cluster.TCP, Port: 80}, {Name: "dns", Protocol: cluster.UDP, Port: 53}}}
		var endpoints []cluster.Endpoint
		for i := range n {
			e := cluster.Endpoint{Addr: netip.AddrFrom4([4]byte{10, byte(n), byte(i >> 8), byte(i)}), Slice: slice, Ready: true}
			if i%3 == 0 {
				e.Hostname = fmt.Sprintf("pod-%d", i)
			}
			if i%5 == 4 {
				e.Addr = netip.AddrFrom16([16]byte{0: 0xfd, 13: byte(n), 14: byte(i >> 8), 15: byte(i)})
			}
			endpoints = append(endpoints, e)
		}
		all = append(all, cluster.New(s, endpoints))
	}
	all = append(all, plainWorld()...)
	h.store.Apply(cluster.Update{Services: clustertest.Changed(all...)})
	for _, s := range all {
		// The fast path leaves the first question to larger ones to the chain.
		name := s.Name.Name + "." + s.Name.Namespace + ".svc.cluster.local."
		h.index.Match(name).Lookup(name, dns.TypeA, h.serial())
	}
	return h
}

// plainWorld has Services of the usual shape, and some that lack it by a little.
func plainWorld() []*cluster.Service {
	one := &cluster.EndpointSlice{Ports: []cluster.EndpointPort{{Name: "http", Protocol: cluster.TCP, Port: 8080}}}
	two := &cluster.EndpointSlice{Ports: []cluster.EndpointPort{{Name: "http", Protocol: cluster.TCP, Port: 8080}, {Name: "http", Protocol: cluster.UDP, Port: 8080}}}
	endpoints := func(slice *cluster.EndpointSlice, ips ...string) (all []cluster.Endpoint) {
		for _, ip := range ips {
			all = append(all, cluster.Endpoint{Addr: netip.MustParseAddr(ip), Slice: slice, Ready: true})
		}
		return all
	}
	v4 := []string{"10.1.1.1", "10.1.1.10", "10.1.1.2", "10.1.1.100", "10.10.1.1"}
	dual := append(v4, "fd00::1", "fd00::1:2", "fd00::12", "fd00::")
	headless := map[string][]cluster.Endpoint{
		"v4": endpoints(one, v4...), "dual": endpoints(one, dual...), "v6": endpoints(one, dual[5:]...), "ports": endpoints(two, v4...),
		"slices": append(endpoints(one, v4...), endpoints(two, dual[5:]...)...), "none": nil,
		"hostnames": endpoints(one, dual...), "same-hostname": endpoints(one, v4...), "same-address": endpoints(one, "10.1.1.1", "10.1.1.1"),
		"no-port": endpoints(&cluster.EndpointSlice{}, v4...), "unnamed-port": endpoints(&cluster.EndpointSlice{Ports: []cluster.EndpointPort{{Protocol: cluster.TCP, Port: 1}}}, v4...),
		strings.Repeat("n", 63): endpoints(one, v4...), "weights": endpoints(one, v4...),
	}
	for i := range dual {
		headless["hostnames"][i].Hostname = fmt.Sprintf("pod-%d", 9-i)
	}
	headless["same-hostname"][1].Hostname, headless["same-hostname"][3].Hostname = "pod", "pod"
	headless["same-address"][0].Hostname, headless["same-address"][1].Hostname = "a", "b"
	var all []*cluster.Service
	for name, its := range headless {
		s := clustertest.Service("plain/" + name)
		s.Kind = cluster.KindHeadless
		if name == "weights" {
			its[1].Slice = &cluster.EndpointSlice{Ports: one.Ports, Weight: new(cluster.Weight(7))}
		}
		all = append(all, cluster.New(s, its))
	}
	for name, ips := range map[string][]string{"vip4": {"10.43.7.1"}, "vip6": {"fd00:43::1"}, "vip46": {"10.43.7.2", "fd00:43::2"}, "vip64": {"fd00:43::3", "10.43.7.3"}, "no-vip": nil} {
		for _, ports := range []string{"", "a", "b"} {
			s := clustertest.Service("plain/"+name+ports, ips...)
			s.Kind, s.Ports = cluster.KindClusterIP, []cluster.Port{{Name: "http", Protocol: cluster.TCP, Port: 80}, {Name: "dns", Protocol: cluster.UDP, Port: 53}, {Name: "http", Protocol: cluster.UDP, Port: 80}}[:len(ports)*3]
			if ports == "b" {
				s.Ports = s.Ports[:1]
			}
			all = append(all, cluster.New(s, endpoints(one, v4...)))
		}
	}
	return all
}

// TestFastAnswers compares the fast path with the chain for names of all kinds, types and
// sizes of reply.
func TestFastAnswers(t *testing.T) {
	h := fastWorld(t)
	a := fastAnswerer(h)
	var names []string
	for _, s := range h.index.Services() {
		base := s.Name.Name + "." + s.Name.Namespace + ".svc.cluster.local."
		names = append(names, base, strings.ToUpper(base), "_http._tcp."+base, "_http._udp."+base, "_dns._udp."+base, "_tcp."+base, "http.tcp."+base, "nothing."+base, "a._zone."+base, "a.prefer._zone."+base)
		for i := range s.Endpoints {
			if e := &s.Endpoints[i]; i < 20 {
				names = append(names, h.index.Hostname(e)+"."+base)
			}
		}
	}
	names = append(names, "cluster.local.", "svc.cluster.local.", "crowd.svc.cluster.local.", "nobody.svc.cluster.local.", "dns-version.cluster.local.", "ns.dns.cluster.local.",
		"10-42-0-7.default.pod.cluster.local.", "2001-db8--1.default.pod.cluster.local.", "1.0.60.10.in-addr.arpa.", "0.60.10.in-addr.arpa.", "10.0.43.10.in-addr.arpa.", "9.9.9.10.in-addr.arpa.",
		"4.0.0.0.c.3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.", "ip6.arpa.", "pod-0.many-10.crowd.svc.set.", "example.com.")
	answered := 0
	for _, name := range names {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypePTR, dns.TypeSOA, dns.TypeNS, dns.TypeTXT, dns.TypeCNAME, dns.TypeANY, dns.TypeDS, dns.TypeMX, 65} {
			for _, size := range []uint16{0, 512, 1000, 1232, 1410, 4096, 16383, 16384, 65535} {
				r := new(dns.Msg).SetQuestion(name, qtype)
				if size > 0 {
					r.SetEdns0(size, size == 1232)
				}
				query, err := r.Pack()
				if err != nil {
					t.Fatal(err)
				}
				if compareFast(t, h, a, query) {
					answered++
				}
			}
		}
	}
	if all := len(names) * 12 * 9; answered < all*2/3 {
		t.Errorf("the fast path answered %d of %d", answered, all)
	}
}

// FuzzFastAnswer compares the fast path with the chain for whatever comes.
func FuzzFastAnswer(f *testing.F) {
	for _, name := range []string{"many-10.crowd.svc.cluster.local.", "_http._tcp.many-60.crowd.svc.cluster.local.", "Web.Default.svc.cluster.LOCAL.", "10.0.43.10.in-addr.arpa.", "1.0.60.10.in-addr.arpa."} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypePTR, dns.TypeANY} {
			r := new(dns.Msg).SetQuestion(name, qtype)
			packed, _ := r.Pack()
			f.Add(packed)
			r.SetEdns0(1232, true)
			opt := r.IsEdns0()
			opt.Option = append(opt.Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0123456789abcdef"}, &dns.EDNS0_NSID{Code: dns.EDNS0NSID})
			packed, _ = r.Pack()
			f.Add(packed)
		}
	}
	h := fastWorld(f)
	a := fastAnswerer(h)
	f.Fuzz(func(t *testing.T, packet []byte) { compareFast(t, h, a, packet) })
}

func BenchmarkFastAnswer(b *testing.B) {
	h := New(Options{Zones: []string{"cluster.local.", "in-addr.arpa."}, TTL: 5}, cluster.NewStore(), nil)
	h.store.Apply(large())
	a := fastAnswerer(h)
	out := make([]byte, 0, 4096)
	for _, q := range fastQuestions {
		b.Run(q.what, func(b *testing.B) {
			query, _ := new(dns.Msg).SetQuestion(q.name, q.qtype).Pack()
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := a.Answer(out, query, netip.AddrPort{}); !ok {
					b.Fatal("left to the chain")
				}
			}
		})
	}
}

// fastQuestions are about what large has.
var fastQuestions = []struct {
	what, name string
	qtype      uint16
}{
	{"ClusterIP A", "service-4711.ns-11.svc.cluster.local.", dns.TypeA},
	{"ClusterIP AAAA", "service-4711.ns-11.svc.cluster.local.", dns.TypeAAAA},
	{"ClusterIP SRV", "_http._tcp.service-4711.ns-11.svc.cluster.local.", dns.TypeSRV},
	{"headless A", "service-4710.ns-10.svc.cluster.local.", dns.TypeA},
	{"headless SRV", "_http._tcp.service-4710.ns-10.svc.cluster.local.", dns.TypeSRV},
	{"endpoint A", "10-64-0-251.service-25.ns-25.svc.cluster.local.", dns.TypeA},
	{"NXDOMAIN", "www.example.com.ns-11.svc.cluster.local.", dns.TypeA},
	{"no such Service", "nope.ns-11.svc.cluster.local.", dns.TypeA},
	{"letter case", "Service-4711.NS-11.svc.cluster.local.", dns.TypeA},
	{"PTR of ClusterIP", "103.18.43.10.in-addr.arpa.", dns.TypePTR},
	{"PTR of endpoint", "251.0.64.10.in-addr.arpa.", dns.TypePTR},
}

// TestFastAnswerAllocates demands that nothing is allocated for a query.
func TestFastAnswerAllocates(t *testing.T) {
	h := New(Options{Zones: []string{"cluster.local.", "in-addr.arpa."}, TTL: 5}, cluster.NewStore(), nil)
	h.store.Apply(large())
	a := fastAnswerer(h)
	out := make([]byte, 0, 4096)
	for _, q := range fastQuestions {
		query, _ := new(dns.Msg).SetQuestion(q.name, q.qtype).SetEdns0(1232, false).Pack()
		if n := testing.AllocsPerRun(100, func() {
			if _, ok := a.Answer(out, query, netip.AddrPort{}); !ok {
				t.Fatalf("%s is left to the chain", q.what)
			}
		}); n > 0 {
			t.Errorf("%s: %v allocations", q.what, n)
		}
	}
}
