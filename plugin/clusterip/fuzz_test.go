package clusterip

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/plugin/clusterip/zone"
	"github.com/clusterip/clusterip/test/clustertest"
	"github.com/coredns/coredns/plugin/metadata"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
)

// FuzzServeDNS sends whatever unpacks as a query.
func FuzzServeDNS(f *testing.F) {
	for _, name := range []string{
		".", "cluster.local.", "Web.Default.svc.cluster.LOCAL.", "_http._tcp.web.default.svc.cluster.local.",
		"near.default.svc.cluster.local.", "ping.default.svc.cluster.local.", "far.default.svc.cluster.local.",
		"10-42-0-7.default.pod.cluster.local.", "--1.default.pod.cluster.local.", "ns.dns.cluster.local.",
		"10.0.43.10.in-addr.arpa.", "43.10.in-addr.arpa.", `a\.b.svc.cluster.local.`, `\000\255.svc.cluster.local.`,
		"a.pin._zone.pets.default.svc.cluster.local.", "X.y.prefer._zone.pets.default.svc.cluster.local.", "_zone.pets.default.svc.cluster.local.",
		"http.tcp.web.default.svc.cluster.local.", "_._.near.default.svc.cluster.local.", "_.web.default.svc.cluster.local.",
		`x\..pets.default.svc.set.`, "pet-0.east.pets.default.svc.set.", "default.svc.set.",
	} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeSRV, dns.TypeANY, dns.TypeSOA, 0, 65535} {
			packed, err := new(dns.Msg).SetQuestion(name, qtype).Pack()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(packed)
		}
	}
	h := testHandler(func(o *Options) {
		o.Zones, o.Multicluster = append(o.Zones, "set."), []string{"set."}
		o.Pods, o.Zonal, o.IgnoreEmpty = zone.PodsInsecure, true, true
	})
	h.Next = next
	pets := clustertest.Service("default/pets")
	for _, in := range []string{"", "east"} {
		e := cluster.Endpoint{Addr: netip.MustParseAddr("10.42.0.9"), Hostname: "pet-0", Slice: &cluster.EndpointSlice{Cluster: in}, Topology: &cluster.Topology{Zone: "a"}, Ready: true}
		u := clustertest.Changed(cluster.New(pets, []cluster.Endpoint{e}))
		if in == "" {
			h.store.Apply(cluster.Update{Services: u})
		} else {
			h.store.Apply(cluster.Update{Imports: u})
		}
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		r := new(dns.Msg)
		// The server passes on no message without exactly one question.
		if r.Unpack(packet) != nil || len(r.Question) != 1 {
			t.Skip()
		}
		w := dnstest.NewRecorder(&test.ResponseWriter{})
		state := request.Request{W: w, Req: r}
		h.Metadata(metadata.ContextWithMetadata(t.Context()), state)
		h.AutoPath(state)
		if _, err := h.ServeDNS(t.Context(), w, r); err != nil {
			t.Fatal(err)
		}
		if w.Msg != nil {
			checkReply(t, r, w.Msg)
		}
	})
}

// checkReply demands what holds for every reply: the question is echoed, every
// owner in the answer is the question or what a CNAME before it leads to, an
// answer without records has a SOA, and it can be sent.
func checkReply(t *testing.T, r, m *dns.Msg) {
	t.Helper()
	if len(m.Question) != 1 || m.Question[0] != r.Question[0] || m.Id != r.Id || !m.Response {
		t.Fatalf("reply does not fit the query %v:\n%v", r, m)
	}
	owner := r.Question[0].Name
	for _, rr := range m.Answer {
		if !strings.EqualFold(rr.Header().Name, owner) {
			t.Fatalf("%s is neither the question nor led to:\n%v", rr.Header().Name, m)
		}
		if alias, ok := rr.(*dns.CNAME); ok {
			owner = alias.Target
		}
	}
	if len(m.Answer) == 0 && (len(m.Ns) != 1 || m.Ns[0].Header().Rrtype != dns.TypeSOA) {
		t.Fatalf("negative answer without a SOA:\n%v", m)
	}
	if _, err := m.Pack(); err != nil {
		t.Fatalf("%v cannot be sent: %v", m, err)
	}
}
