package clusterip

import (
	"fmt"
	"maps"
	"net/netip"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/plugin/clusterip/zone"
	"github.com/clusterip/clusterip/test/clustertest"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// missed are the series of what answers lack, by namespace, "" for those without endpoints.
func missed(t *testing.T) map[string]float64 {
	t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]float64)
	for _, f := range families {
		switch f.GetName() {
		case "coredns_clusterip_answers_without_endpoints_total":
			all[""] = f.Metric[0].Counter.GetValue()
		case "coredns_clusterip_missing_services_total":
			for _, m := range f.Metric {
				all[m.Label[0].GetValue()] = m.Counter.GetValue()
			}
		}
	}
	return all
}

// more is what there is now beyond what there was.
func more(before, now map[string]float64) map[string]float64 {
	all := make(map[string]float64)
	for series, n := range now {
		if n -= before[series]; n != 0 {
			all[series] = n
		}
	}
	return all
}

func lackingHandler() *Handler {
	h := testHandler(func(o *Options) {
		o.Pods, o.Multicluster, o.Zones = zone.PodsVerified, []string{"set."}, append(o.Zones, "set.")
	})
	empty := func(name string, kind cluster.Kind, ips ...string) *cluster.Service {
		s := clustertest.Service(name, ips...)
		s.Kind = kind
		return cluster.New(s, []cluster.Endpoint{{Addr: netip.MustParseAddr("10.42.9.9")}}) // not ready
	}
	remembered := clustertest.Service("default/remembered", "10.43.0.13")
	remembered.Remembered = true
	pod := func(namespace, name, ip string) cluster.PodUpdate {
		p := cluster.PodName{Namespace: namespace, Name: name}
		return cluster.PodUpdate{Name: p, Pod: &cluster.Pod{Name: p, IPs: clustertest.Addrs(ip)}}
	}
	h.store.Apply(cluster.Update{
		Services: clustertest.Changed(
			empty("default/idle", cluster.KindClusterIP, "10.43.0.11"), empty("default/none", cluster.KindHeadless), &remembered,
			alias("to-idle", "idle.default.svc.cluster.local"), alias("to-nowhere", "nowhere.default.svc.cluster.local"),
		),
		Imports: clustertest.Changed(empty("default/imported", cluster.KindClusterIP, "10.43.0.12")),
		Pods: []cluster.PodUpdate{
			pod("shop", "client", "10.42.1.1"),
			pod("shop", "agent", "192.0.2.10"), pod("kube-system", "proxy", "192.0.2.10"),
			pod("shop", "one", "192.0.2.11"), pod("shop", "two", "192.0.2.11"),
		},
	})
	return h
}

// What an answer lacks is counted alike whoever gives it, and nothing that a search path makes.
func TestLacksAreCounted(t *testing.T) {
	h := lackingHandler()
	for _, c := range []struct {
		name, from string
		qtype      uint16
		want       string // the series that grows
		chain      bool   // only the chain answers
	}{
		{name: "web.default.svc.cluster.local.", want: "nothing"},
		{name: "idle.default.svc.cluster.local."},
		{name: "Idle.default.svc.cluster.local."},
		{name: "idle.default.svc.cluster.local.", qtype: dns.TypeAAAA},
		{name: "none.default.svc.cluster.local."},
		{name: "10-42-9-9.none.default.svc.cluster.local."},
		{name: "remembered.default.svc.cluster.local.", want: "nothing"},
		{name: "imported.default.svc.set.", want: "nothing"},
		{name: "to-idle.default.svc.cluster.local.", chain: true},
		{name: "to-nowhere.default.svc.cluster.local.", want: "shop", from: "10.42.1.1", chain: true},
		{name: "far.default.svc.cluster.local.", want: "nothing", chain: true},
		{name: "nope.default.svc.cluster.local.", want: "shop", from: "10.42.1.1"},
		{name: "nope.default.svc.cluster.local.", want: "shop", from: "::ffff:10.42.1.1"},
		{name: "nope.default.svc.cluster.local.", want: "shop", from: "192.0.2.11"},
		{name: "nope.default.svc.cluster.local.", want: "unknown", from: "192.0.2.10"},
		{name: "nope.default.svc.cluster.local.", want: "unknown", from: "10.42.1.99"},
		{name: "www.example.com.default.svc.cluster.local.", want: "nothing", from: "10.42.1.1"},
		{name: "example.com.svc.cluster.local.", want: "nothing", from: "10.42.1.1"},
		{name: "web.default.default.svc.cluster.local.", want: "nothing", from: "10.42.1.1"},
		{name: "default.svc.cluster.local.", want: "nothing"},
		{name: "nope.svc.cluster.local.", want: "nothing"},
	} {
		t.Run(fmt.Sprintf("%s %s from %s", c.name, dns.TypeToString[max(c.qtype, dns.TypeA)], c.from), func(t *testing.T) {
			want := map[string]float64{c.want: 1}
			if c.want == "nothing" {
				clear(want)
			}
			r := new(dns.Msg).SetQuestion(c.name, max(c.qtype, dns.TypeA))
			if c.from == "" {
				c.from = "192.0.2.1"
			}
			before := missed(t)
			if _, err := h.ServeDNS(t.Context(), dnstest.NewRecorder(&test.ResponseWriter{RemoteIP: c.from}), r); err != nil {
				t.Fatal(err)
			}
			if diff := gocmp.Diff(want, more(before, missed(t))); diff != "" {
				t.Errorf("the chain: -want +got:\n%s", diff)
			}
			query, _ := r.Pack()
			a := fastAnswerer(h)
			before = missed(t)
			if _, ok := a.Answer(nil, query, netip.AddrPortFrom(netip.MustParseAddr(c.from), 1024)); ok == c.chain {
				t.Fatalf("the fast path answers: %v", ok)
			}
			a.Flush(0)
			if c.chain {
				clear(want)
			}
			if diff := gocmp.Diff(want, more(before, missed(t))); diff != "" {
				t.Errorf("the fast path: -want +got:\n%s", diff)
			}
		})
	}
}

// Without endpoints in the source none is missed.
func TestNoEndpointsLackNone(t *testing.T) {
	h := testHandler(func(o *Options) { o.API.NoEndpoints = true })
	s := clustertest.Service("default/idle", "10.43.0.11")
	h.store.Apply(cluster.Update{Services: clustertest.Changed(&s)})
	before := missed(t)
	viaChain(t, h, new(dns.Msg).SetQuestion("idle.default.svc.cluster.local.", dns.TypeA))
	if diff := more(before, missed(t)); len(diff) > 0 {
		t.Errorf("counted: %v", diff)
	}
}

// Series are few, however many namespaces there are, and none of them is counted twice.
func TestClientNamespacesAreFew(t *testing.T) {
	var c clientNamespaces
	before := missed(t)
	for range 2 {
		for i := range 3 * maxClientNamespaces {
			c.counter([]*cluster.Pod{{Name: cluster.PodName{Namespace: fmt.Sprintf("few-%d", i)}}}).Inc()
		}
		c.counter(nil).Inc()
	}
	got := more(before, missed(t))
	if got[otherNamespaces] != 4*maxClientNamespaces || got[unknownNamespace] != 2 {
		t.Errorf("other: %v, unknown: %v", got[otherNamespaces], got[unknownNamespace])
	}
	maps.DeleteFunc(got, func(series string, _ float64) bool { return series == otherNamespaces || series == unknownNamespace })
	if len(got) != maxClientNamespaces {
		t.Errorf("%d namespaces have series of their own", len(got))
	}
}

// A miss allocates nothing once its client's namespace is known.
func TestMissAllocates(t *testing.T) {
	h := lackingHandler()
	a := fastAnswerer(h)
	query, _ := new(dns.Msg).SetQuestion("nope.default.svc.cluster.local.", dns.TypeA).Pack()
	out, from := make([]byte, 0, 4096), netip.MustParseAddrPort("10.42.1.1:1024")
	if n := testing.AllocsPerRun(100, func() {
		a.Answer(out, query, from)
		a.Flush(0)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
