package clusterip

import (
	"net/netip"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/plugin/clusterip/zone"
	"github.com/clusterip/clusterip/test/clustertest"
	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin/autopath"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/coredns/coredns/request"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// TestFastSearch compares what clients with a search path are answered by the fast path and by
// the autopath plugin.
func TestFastSearch(t *testing.T) {
	instance, err := caddy.Start(corefile(t.TempDir(), "pods verified\nfastpath off", "autopath @clusterip\natend"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		instance.ShutdownCallbacks()
		instance.Stop()
	}()
	h := atEndConfig.Handler(pluginName).(*Handler)
	l, why := newLane(h, atEndConfig)
	if why != "" {
		t.Fatal(why)
	}
	plugged := atEndConfig.Handler("autopath").(*autopath.AutoPath)
	name := cluster.PodName{Namespace: "default", Name: "p"}
	headless := clustertest.Service("other/db")
	port := &cluster.EndpointSlice{Ports: []cluster.EndpointPort{{Name: "sql", Protocol: cluster.TCP, Port: 5432}}}
	h.store.Apply(cluster.Update{
		Synced: true,
		Pods:   []cluster.PodUpdate{{Name: name, Pod: &cluster.Pod{Name: name, IPs: []netip.Addr{netip.MustParseAddr("10.42.0.7")}}}},
		Services: clustertest.Changed(
			cluster.New(clustertest.Service("default/web", "10.43.0.10"), nil), cluster.New(clustertest.Service("other/web", "10.43.0.11", "fd00::11"), nil),
			cluster.New(headless, []cluster.Endpoint{{Addr: netip.MustParseAddr("10.42.0.8"), Hostname: "db-0", Slice: port, Ready: true}, {Addr: netip.MustParseAddr("10.42.0.9"), Slice: port, Ready: true}}),
		),
	})
	a := &answerer{blocks: []block{{".", l}}}
	found := 0
	for _, client := range []string{"10.42.0.7", "10.42.0.8"} {
		for _, base := range []string{"web.", "web.other.", "db.other.", "_sql._tcp.db.other.", "db-0.db.other.", "nothing.other.", "other.svc.", "web.other.svc.", "www.example.com.", ""} {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeSOA} {
				r := new(dns.Msg).SetQuestion(base+"default.svc.cluster.local.", qtype)
				if qtype == dns.TypeSRV {
					r.SetEdns0(4096, false)
				}
				query, err := r.Pack()
				if err != nil {
					t.Fatal(err)
				}
				out, ok := a.Answer(nil, query, netip.AddrPortFrom(netip.MustParseAddr(client), 1000))
				if !ok {
					if base == "web.other." || base == "web." {
						t.Errorf("%s %d of %s is left to the chain", base, qtype, client)
					}
					continue
				}
				w := dnstest.NewRecorder(&test.ResponseWriter{RemoteIP: client})
				if _, err := plugged.ServeDNS(t.Context(), request.NewScrubWriter(r, w), r); err != nil {
					t.Fatal(err)
				}
				fast := unpacked(t, out)
				if diff := gocmp.Diff(arrived(t, w.Msg).String(), fast.String()); diff != "" {
					t.Errorf("-autopath +fast path, for %s:\n%s", client, diff)
				}
				if len(fast.Answer) > 0 && fast.Answer[0].Header().Rrtype == dns.TypeCNAME {
					found++
				}
			}
		}
	}
	if found < 5 {
		t.Errorf("%d names were found further on in the search path", found)
	}
	if l.handler.options.Pods != zone.PodsVerified {
		t.Fatal("pods are not verified")
	}
}
