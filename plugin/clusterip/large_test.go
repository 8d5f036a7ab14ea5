package clusterip

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster/manifest"
	"github.com/clusterip/clusterip/plugin/clusterip/zone"
	"github.com/miekg/dns"
)

func serviceWith(spec string) string {
	return "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n" + spec
}

func repeated(n int, line func(i int) string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(line(i))
	}
	return b.String()
}

func address(i int) string { return fmt.Sprintf("10.%d.%d.%d", 1+i>>16, i>>8&255, i&255) }

// largeObjects are objects of which one part is there so many times.
var largeObjects = map[string]func(n int) string{
	"ports": func(n int) string {
		return serviceWith("  ports:\n" + repeated(n, func(i int) string { return fmt.Sprintf("  - {name: p%d, port: %d}\n", i, i%65535+1) }))
	},
	"ports same": func(n int) string {
		return serviceWith("  ports:\n" + repeated(n, func(i int) string { return fmt.Sprintf("  - {name: p, port: %d}\n", 1) }))
	},
	"targets bad": func(n int) string {
		return serviceWith("  ports:\n" + repeated(n, func(i int) string { return fmt.Sprintf("  - {name: p%d, port: %d, targetPort: _}\n", i, i%65535+1) }))
	},
	"nodeports": func(n int) string {
		return serviceWith("  type: NodePort\n  ports:\n" + repeated(n, func(i int) string { return fmt.Sprintf("  - {name: p%d, port: %d, nodePort: 5}\n", i, i%65535+1) }))
	},
	"unknown fields": func(n int) string {
		return serviceWith("  ports:\n" + repeated(n, func(i int) string { return fmt.Sprintf("  - {name: p%d, port: %d, x%d: 1}\n", i, i%65535+1, i) }))
	},
	"externalIPs": func(n int) string {
		return serviceWith("  ports: [{port: 80}]\n  externalIPs:\n" + repeated(n, func(i int) string { return "  - " + address(i) + "\n" }))
	},
	"externalIPs bad": func(n int) string {
		return serviceWith("  ports: [{port: 80}]\n  externalIPs:\n" + repeated(n, func(i int) string { return "  - x" + address(i) + "\n" }))
	},
	"ranges": func(n int) string {
		return serviceWith("  type: LoadBalancer\n  ports: [{port: 80}]\n  loadBalancerSourceRanges:\n" + repeated(n, func(i int) string { return "  - " + address(i) + "/32\n" }) + "status:\n  loadBalancer:\n    ingress:\n" + repeated(n, func(i int) string { return "    - {ip: " + address(i) + "}\n" }))
	},
	"hostnames": func(n int) string {
		return serviceWith("  type: LoadBalancer\n  ports: [{port: 80}]\nstatus:\n  loadBalancer:\n    ingress:\n" + repeated(n, func(i int) string { return fmt.Sprintf("    - {hostname: a%d.example.com}\n", i) }))
	},
	"selector": func(n int) string {
		return serviceWith("  ports: [{port: 80}]\n  selector:\n" + repeated(n, func(i int) string { return fmt.Sprintf("    a%d: b\n", i) }))
	},
	"selector json": func(n int) string {
		return `{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"},"spec":{"ports":[{"port":80}],"selector":{` + repeated(n, func(i int) string { return fmt.Sprintf(`"a%d":"b",`, i) }) + `"z":"y"}}}`
	},
	"families": func(n int) string {
		return serviceWith("  ports: [{port: 80}]\n  ipFamilies:\n" + repeated(n, func(i int) string { return "  - IPv4\n" }))
	},
	"clusterIPs": func(n int) string {
		return serviceWith("  ports: [{port: 80}]\n  clusterIPs:\n" + repeated(n, func(i int) string { return "  - " + address(i) + "\n" }))
	},
	"ownerrefs": func(n int) string {
		return "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  finalizers:\n" + repeated(n, func(i int) string { return fmt.Sprintf("  - a%d\n", i) }) + "spec: {ports: [{port: 80}]}"
	},
	"long name": func(n int) string {
		return "apiVersion: v1\nkind: Service\nmetadata: {name: " + strings.Repeat("a", n*10) + "}\nspec: {ports: [{port: 0},{port: 0},{port: 0}]}"
	},
	"slice": func(n int) string {
		return serviceWith("  clusterIP: None\n  ports: [{port: 80}]\n") + "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, labels: {kubernetes.io/service-name: a}}\naddressType: IPv4\nports: [{port: 80}]\nendpoints:\n" + repeated(n, func(i int) string {
			return fmt.Sprintf("- {addresses: [%s], hostname: h%d, nodeName: n%d, zone: z%d, hints: {forZones: [{name: z%d}]}}\n", address(i), i, i, i, i)
		})
	},
	"slice addresses": func(n int) string {
		return serviceWith("  clusterIP: None\n  ports: [{port: 80}]\n") + "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, labels: {kubernetes.io/service-name: a}}\naddressType: IPv4\nports: [{port: 80}]\nendpoints:\n- addresses:\n" + repeated(n, func(i int) string { return "  - " + address(i) + "\n" })
	},
	"slice ports": func(n int) string {
		return serviceWith("  ports:\n"+repeated(n, func(i int) string { return fmt.Sprintf("  - {name: p%d, port: %d}\n", i, i%65535+1) })) + "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, labels: {kubernetes.io/service-name: a}}\naddressType: IPv4\nendpoints: [{addresses: [10.9.9.9]}]\nports:\n" + repeated(n, func(i int) string { return fmt.Sprintf("- {name: p%d, port: %d}\n", i, i%65535+1) })
	},
	"slice ports x endpoints": func(n int) string {
		return serviceWith("  clusterIP: None\n  ports:\n"+repeated(n, func(i int) string { return fmt.Sprintf("  - {name: p%d, port: %d}\n", i, i%65535+1) })) + "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, labels: {kubernetes.io/service-name: a}}\naddressType: IPv4\nports:\n" + repeated(n, func(i int) string { return fmt.Sprintf("- {name: p%d, port: %d}\n", i, i%65535+1) }) + "endpoints:\n" + repeated(n, func(i int) string { return "- {addresses: [" + address(i) + "]}\n" })
	},
	"hints": func(n int) string {
		return serviceWith("  ports: [{port: 80}]\n") + "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, labels: {kubernetes.io/service-name: a}}\naddressType: IPv4\nports: [{port: 80}]\nendpoints:\n" + repeated(2, func(int) string {
			return "- addresses: [10.9.9.9]\n  hints:\n    forZones:\n" + repeated(n, func(i int) string { return fmt.Sprintf("    - {name: z%d}\n", i) })
		})
	},
	"subsets": func(n int) string {
		return serviceWith("  clusterIP: None\n") + "---\napiVersion: v1\nkind: Endpoints\nmetadata: {name: a}\nsubsets:\n" + repeated(n, func(i int) string {
			return fmt.Sprintf("- {addresses: [{ip: %s}], ports: [{name: p%d, port: %d}]}\n", address(i), i, i%65535+1)
		})
	},
	"subset one large": func(n int) string {
		return serviceWith("  clusterIP: None\n") + "---\napiVersion: v1\nkind: Endpoints\nmetadata: {name: a}\nsubsets:\n- addresses: [{ip: 9.9.9.9}]\n  ports:\n" + repeated(n, func(i int) string { return fmt.Sprintf("  - {name: p%d, port: %d}\n", i, i%65535+1) }) + "- ports: [{port: 80}]\n  addresses:\n" + repeated(n, func(i int) string { return "  - {ip: " + address(i) + "}\n" })
	},
	"same address": func(n int) string {
		return serviceWith("  clusterIP: None\n") + "---\napiVersion: v1\nkind: Endpoints\nmetadata: {name: a}\nsubsets:\n- ports: [{port: 80}]\n  addresses:\n" + repeated(n, func(i int) string { return fmt.Sprintf("  - {ip: 10.9.9.9, hostname: h%d}\n", i) })
	},
	"podIPs": func(n int) string {
		return serviceWith("  ports: [{port: 80}]\n  selector: {a: b}\n") + "---\napiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {a: b}}\nstatus:\n  podIPs:\n" + repeated(n, func(i int) string { return "  - {ip: " + address(i%7) + "}\n" })
	},
	"pod ports": func(n int) string {
		return serviceWith("  selector: {a: b}\n  ports:\n"+repeated(n, func(i int) string {
			return fmt.Sprintf("  - {name: p%d, port: %d, targetPort: p%d}\n", i, i%65535+1, i)
		})) + "---\napiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {a: b}}\nspec:\n  containers:\n  - name: c\n    ports:\n" + repeated(n, func(i int) string { return fmt.Sprintf("    - {name: p%d, containerPort: %d}\n", i, i%65535+1) }) + "status: {podIPs: [{ip: 10.9.9.9}], conditions: [{type: Ready, status: 'True'}]}"
	},
	"pods x ports": func(n int) string {
		return serviceWith("  selector: {a: b}\n  ports:\n"+repeated(n, func(i int) string { return fmt.Sprintf("  - {name: p%d, port: %d}\n", i, i%65535+1) })) + repeated(n, func(i int) string {
			return "---\napiVersion: v1\nkind: Pod\nmetadata: {name: p" + fmt.Sprint(i) + ", labels: {a: b}}\nstatus: {podIPs: [{ip: " + address(i) + "}], conditions: [{type: Ready, status: 'True'}]}\n"
		})
	},
	"node": func(n int) string {
		return "apiVersion: v1\nkind: Node\nmetadata: {name: n}\nspec:\n  podCIDRs:\n" + repeated(n, func(i int) string { return "  - " + address(i) + "/32\n" }) + "  taints:\n" + repeated(n, func(i int) string { return "  - {key: a}\n" })
	},
	"list": func(n int) string {
		return "apiVersion: v1\nkind: List\nitems:\n" + repeated(n, func(i int) string {
			return fmt.Sprintf("- {apiVersion: v1, kind: Namespace, metadata: {name: n%d}}\n", i)
		})
	},
	"list broken": func(n int) string {
		return "apiVersion: v1\nkind: List\nitems:\n" + repeated(n, func(i int) string { return fmt.Sprintf("- {metadata: {name: n%d}}\n", i) })
	},
	"broken docs": func(n int) string { return repeated(n, func(i int) string { return fmt.Sprintf("---\n{ # %d\n", i) }) },
}

// served reads a folder that is one file and makes the records of it, as a start and a
// change do where zones are transferred, and returns what that allocates and takes.
func served(t testing.TB, text string) (bytes uint64, took time.Duration) {
	t.Helper()
	options := manifest.Options{Dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(options.Dir, "a.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	u, problems, err := manifest.Load(options)
	if err != nil || strings.Contains(fmt.Sprint(problems), "the file cannot be read") {
		t.Fatal(err, "or the file is too large")
	}
	x := zone.New([]string{"cluster.local.", "in-addr.arpa."}, zone.Options{TTL: 5, Zonal: true})
	x.Track()
	x.Apply(u)
	took = time.Since(start)
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc, took
}

// An object with ten times as many parts costs about ten times as much.
func TestLargeObjects(t *testing.T) {
	for name, text := range largeObjects {
		t.Run(name, func(t *testing.T) {
			few, _ := served(t, text(300))
			many, _ := served(t, text(3000))
			if many > 16*few {
				t.Errorf("300 parts allocate %d bytes, 3,000 %d", few, many)
			}
		})
	}
}

// Work that allocates nothing shows in time alone.
func TestLargeObjectsTakeTime(t *testing.T) {
	for name, n := range map[string]int{"ports": 65_535, "externalIPs": 400_000, "ranges": 130_000, "pod ports": 50_000} {
		t.Run(name, func(t *testing.T) {
			_, few := served(t, largeObjects[name](n/10))
			_, many := served(t, largeObjects[name](n))
			if many > 2*time.Second && many > 30*few {
				t.Errorf("%d parts take %v, %d %v", n/10, few, n, many)
			}
		})
	}
}

func BenchmarkPorts6553(b *testing.B)  { benchmarkLarge(b, "ports", 6_553) }
func BenchmarkPorts65535(b *testing.B) { benchmarkLarge(b, "ports", 65_535) }

func BenchmarkExternalIPs40000(b *testing.B)  { benchmarkLarge(b, "externalIPs", 40_000) }
func BenchmarkExternalIPs400000(b *testing.B) { benchmarkLarge(b, "externalIPs", 400_000) }

func benchmarkLarge(b *testing.B, name string, n int) {
	text := largeObjects[name](n)
	for b.Loop() {
		served(b, text)
	}
}

// A Service with many addresses and many ports has all of them outside, and a question
// for what does not fit into a message costs no more than that.
func TestExternalOfLargeServices(t *testing.T) {
	ports := "  ports:\n" + repeated(100, func(i int) string { return fmt.Sprintf("  - {name: p%d, port: %d}\n", i, i+1) })
	large := func(name string, ips int) string {
		return "---\napiVersion: v1\nkind: Service\nmetadata: {name: " + name + ", namespace: shop}\nspec:\n" + ports +
			"  externalIPs:\n" + repeated(ips, func(i int) string { return "  - " + address(i) + "\n" })
	}
	_, tcp := startWith(t, "127.0.0.1", `.:0 {
		bind {host}
		clusterip cluster.local {
			manifests {dir}
		}
		k8s_external example.org {
			headless
		}
		transfer example.org {
			to *
		}
	}`, large("some", 60)+large("many", 20_000))
	client := &dns.Client{Net: "tcp"}
	for _, c := range []struct {
		name    string
		qtype   uint16
		answers int
		extra   int
		cut     bool
	}{
		{"some.shop.example.org.", dns.TypeA, 60, 0, false},
		{"some.shop.example.org.", dns.TypeSRV, 100, 60, false},
		{"_p7._tcp.some.shop.example.org.", dns.TypeSRV, 1, 60, false},
		{"_tcp.some.shop.example.org.", dns.TypeSRV, 0, 0, false},
		{"_p7._tcp.many.shop.example.org.", dns.TypeA, -1, 0, true},
		{"_p7._tcp.many.shop.example.org.", dns.TypeSRV, 1, -1, true},
		{"many.shop.example.org.", dns.TypeA, -1, 0, true},
	} {
		m, _, err := client.Exchange(new(dns.Msg).SetQuestion(c.name, c.qtype), tcp)
		if err != nil {
			t.Fatal(err)
		}
		if m.Rcode != dns.RcodeSuccess || c.answers >= 0 && len(m.Answer) != c.answers || c.extra >= 0 && len(m.Extra) != c.extra || m.Truncated != c.cut {
			t.Errorf("%s %s: %s, %d answers, %d more, truncated=%t", c.name, dns.TypeToString[c.qtype], dns.RcodeToString[m.Rcode], len(m.Answer), len(m.Extra), m.Truncated)
		}
	}
	count := map[string]int{}
	for _, line := range axfr(t, tcp, "example.org.") {
		fields := strings.Fields(line)
		name, _, _ := strings.Cut(strings.TrimSuffix(fields[0], ".shop.example.org."), ".shop")
		count[name+" "+fields[3]]++
	}
	if count["_p7._tcp.many SRV"] != 1 || count["_p99._tcp.many SRV"] != 1 || count["many A"] < 20_000 || count["many A"] > 20_100 || count["some A"] < 60 {
		t.Errorf("a transfer has %d addresses of one Service, %d of another", count["many A"], count["some A"])
	}
}
