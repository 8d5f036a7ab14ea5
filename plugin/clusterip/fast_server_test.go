package clusterip

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clusterip/clusterip/test/clustertest"
	"github.com/clusterip/clusterip/test/kubetest"
	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

const fastYAML = `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {clusterIP: 10.43.0.10, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: default}
spec: {clusterIP: None, ports: [{name: sql, port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, namespace: default, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: sql, port: 5432, protocol: TCP}]
endpoints:
- {addresses: [10.42.0.7], hostname: db-0}
- {addresses: [10.42.0.8], hostname: db-1}
---
apiVersion: v1
kind: Service
metadata: {name: alias, namespace: default}
spec: {type: ExternalName, externalName: web.default.svc.cluster.local}
`

// bothWays starts a server with two server blocks that have the same plugins, one with and
// one without a fast path.
func bothWays(t testing.TB, plugins string) (withFast, without string) {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "all.yaml"), fastYAML)
	var text strings.Builder
	var addresses []string
	for _, mode := range []string{"on", "off"} {
		port := kubetest.FreePort(t) // never one twice: metrics of this process have the counts of all
		addresses = append(addresses, fmt.Sprintf("127.0.0.1:%s", port))
		fmt.Fprintf(&text, ".:%s {\nbind 127.0.0.1\n%s\nclusterip cluster.local in-addr.arpa {\nmanifests %s\npods insecure\nfallthrough in-addr.arpa\nfastpath %s\n}\n}\n", port, plugins, dir, mode)
	}
	instance, err := caddy.Start(caddy.CaddyfileInput{ServerTypeName: "dns", Filepath: "Corefile", Contents: []byte(text.String())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		instance.ShutdownCallbacks()
		instance.Stop()
	})
	return addresses[0], addresses[1]
}

// fastQueries are questions for fastYAML, of which the chain answers some.
func fastQueries() []*dns.Msg {
	var all []*dns.Msg
	for _, name := range []string{"web.default.svc.cluster.local.", "db.default.svc.cluster.local.", "DB-0.db.Default.svc.cluster.local.", "_sql._tcp.db.default.svc.cluster.local.",
		"alias.default.svc.cluster.local.", "nobody.default.svc.cluster.local.", "cluster.local.", "10-1-2-3.default.pod.cluster.local.", "10.0.43.10.in-addr.arpa.", "9.9.9.9.in-addr.arpa.", "example.com."} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypePTR, dns.TypeTXT, dns.TypeSOA, 65} {
			r := new(dns.Msg).SetQuestion(name, qtype)
			all = append(all, r, r.Copy().SetEdns0(1232, true))
		}
	}
	return all
}

// seriesOf returns all series of metrics of a server, by labels, but for how long things
// took. Where the server's address is a label, it is left out.
func seriesOf(t *testing.T, server string) map[string]float64 {
	t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.Metric {
			name, here := f.GetName(), false
			for _, l := range m.Label {
				if l.GetValue() == "dns://"+server {
					here = true
				} else {
					name += fmt.Sprintf(" %s=%q", l.GetName(), l.GetValue())
				}
			}
			switch h := m.Histogram; {
			case !here:
			case h == nil:
				all[name] = m.Counter.GetValue() + m.Gauge.GetValue()
			case strings.HasPrefix(name, "coredns_dns_request_duration"):
				all[name] = float64(h.GetSampleCount())
			default:
				all[name+" count"], all[name+" sum"] = float64(h.GetSampleCount()), h.GetSampleSum()
				for _, b := range h.Bucket {
					all[fmt.Sprintf("%s below %v", name, b.GetUpperBound())] = float64(b.GetCumulativeCount())
				}
			}
		}
	}
	return all
}

// TestFastServer asks the same with and without a fast path, over sockets: the answers and
// all metrics must be the same.
func TestFastServer(t *testing.T) {
	for what, plugins := range map[string]string{
		"alone":     "prometheus 127.0.0.1:0",
		"kubeadm":   "errors\nprometheus 127.0.0.1:0\ncache 30\nloop\nreload\nloadbalance",
		"k3s":       "errors\nhosts {\n192.0.2.1 host.example.com\n192.0.2.2 db.default.svc.cluster.local\nttl 60\nfallthrough\n}\nprometheus 127.0.0.1:0\ncache 30\nloop\nreload\nloadbalance",
		"OpenShift": "bufsize 1232\nerrors\nlog . {\nclass error\n}\nprometheus 127.0.0.1:0\ncache 900 {\ndenial 9984 30\n}\nreload",
		"acl":       "prometheus 127.0.0.1:0\nacl {\nblock type SRV net *\nallow net 127.0.0.0/8\nblock\n}",
		"others":    "prometheus 127.0.0.1:0\nany\nmetadata\nhealth 127.0.0.1:0\nready 127.0.0.1:0\nautopath @clusterip",
	} {
		t.Run(what, func(t *testing.T) {
			withFast, without := bothWays(t, plugins)
			before := counterOf(t, "coredns_clusterip_fastpath_answers_total")
			queries := fastQueries()
			for _, r := range queries {
				var replies []*dns.Msg
				for _, server := range []string{withFast, without} {
					m, _, err := new(dns.Client).Exchange(r.Copy(), server)
					if err != nil {
						t.Fatalf("%s: %v", server, err)
					}
					for _, section := range [][]dns.RR{m.Answer, m.Extra} {
						slices.SortStableFunc(section, func(a, b dns.RR) int { return strings.Compare(a.String(), b.String()) })
					}
					for _, rr := range slices.Concat(m.Answer, m.Ns, m.Extra) {
						if strings.Contains(plugins, "cache") && rr.Header().Rrtype != dns.TypeOPT {
							rr.Header().Ttl = 0 // may be lower from the cache
						}
					}
					replies = append(replies, m)
				}
				if diff := gocmp.Diff(replies[1].String(), replies[0].String()); diff != "" {
					t.Errorf("-without +with a fast path:\n%s", diff)
				}
			}
			if n := counterOf(t, "coredns_clusterip_fastpath_answers_total") - before; int(n) < len(queries)/3 {
				t.Errorf("the fast path answered %v of %d queries", n, len(queries))
			}
			clustertest.Eventually(t, 10*time.Second, "the metrics", func() error {
				want, got := seriesOf(t, without), seriesOf(t, withFast)
				const on = "coredns_clusterip_fastpath_on"
				if _, is := want[on]; is || got[on] != 1 {
					t.Errorf("%s is %v with a fast path, and %v without", on, got[on], want[on])
				}
				delete(want, on)
				delete(got, on)
				for _, all := range []map[string]float64{want, got} {
					maps.DeleteFunc(all, func(name string, _ float64) bool {
						// The plugin loop asks each server once, a random name of 36 to 38 digits.
						return strings.HasPrefix(name, "coredns_cache_") || strings.Contains(plugins, "loop") && strings.HasSuffix(name, " sum")
					})
				}
				if diff := gocmp.Diff(want, got); diff != "" {
					return fmt.Errorf("-without +with a fast path:\n%s", diff)
				}
				return nil
			})
		})
	}
}

func counterOf(t *testing.T, name string) float64 {
	t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.Metric[0].Counter.GetValue()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// TestServerBlocksElsewhere has a CoreDNS that keeps the server blocks of a server in another
// form, or does not keep them.
func TestServerBlocksElsewhere(t *testing.T) {
	for _, server := range []any{&struct{ zones map[string]*dnsserver.Config }{}, &struct{ sites []string }{}} {
		if _, err := zonesOf(server); err == nil || !strings.Contains(err.Error(), "does not show the server blocks") {
			t.Errorf("%T: %v", server, err)
		}
	}
	off := Off{Where: "dns://:53", Why: "CoreDNS does not show them"}
	if want := "fastpath: off for dns://:53, where the plugin chain answers: CoreDNS does not show them"; off.String() != want {
		t.Errorf("%q, want %q", off, want)
	}
}

// TestFastOn has servers that do not start, since they can have no fast path.
func TestFastOn(t *testing.T) {
	_, err := caddy.Start(corefile(t.TempDir(), "fastpath on", "log"))
	want := "plugin/clusterip: Corefile:6 - Error during parsing: fastpath on is not possible for cluster.local.: the plugin log is in front of it and logs more than class error: write class error into its block, or take it out. Or write fastpath auto"
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
