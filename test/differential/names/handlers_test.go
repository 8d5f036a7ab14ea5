package names

import (
	"fmt"
	"net"
	"slices"
	"testing"

	_ "github.com/clusterip/clusterip/plugin/clusterip" // one side
	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/kubernetes" // the other side
	"github.com/miekg/dns"
)

// found has the handlers that the directive "found" of a server block was beside.
// It is the way to get at them: CoreDNS builds and starts the server.
var found = make(map[string]plugin.Handler)

func init() {
	at := slices.Index(dnsserver.Directives, "kubernetes")
	dnsserver.Directives = slices.Insert(dnsserver.Directives, at, "clusterip", "found")
	plugin.Register("found", func(c *caddy.Controller) error {
		config := dnsserver.GetConfig(c)
		for c.Next() {
			c.NextArg()
			name := c.Val()
			c.OnStartup(func() error {
				found[name] = config.Handler(name)
				return nil
			})
		}
		return nil
	})
}

const handlersBlock = `cluster.local:%[1]s in-addr.arpa:%[1]s ip6.arpa:%[1]s {
	bind 127.0.0.1
	%[2]s cluster.local in-addr.arpa ip6.arpa {
		kubeconfig %[3]s
		startup_timeout 1m
	}
	found %[2]s
}
`

// handlers returns those of both plugins, made of a Corefile as CoreDNS makes them
// and filled from an API server.
func handlers(t *testing.T, kubeconfig string) (ours, stock plugin.Handler) {
	t.Helper()
	ports := freePorts(t, 2)
	corefile := fmt.Sprintf(handlersBlock, ports[0], "clusterip", kubeconfig) + fmt.Sprintf(handlersBlock, ports[1], "kubernetes", kubeconfig)
	caddy.Quiet, dnsserver.Quiet = true, true
	server, err := caddy.Start(caddy.CaddyfileInput{Filepath: "Corefile", Contents: []byte(corefile), ServerTypeName: "dns"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.ShutdownCallbacks()
		server.Stop()
	})
	return found["clusterip"], found["kubernetes"]
}

// crowdQuestion is asked of both sides.
type crowdQuestion struct {
	what           string
	name           string
	qtype          uint16
	rcode, answers int
}

func crowdQuestions() []crowdQuestion {
	const virtual, headless = 1, 0 // Services of the crowd
	reverse := func(ip fmt.Stringer) string {
		name, _ := dns.ReverseAddr(ip.String())
		return name
	}
	return []crowdQuestion{
		{"A of a ClusterIP", crowdFQDN("", virtual), dns.TypeA, dns.RcodeSuccess, 1},
		{"A of a headless Service", crowdFQDN("", headless), dns.TypeA, dns.RcodeSuccess, endpointsEach},
		{"A of an endpoint", crowdFQDN("10-64-0-1.", headless), dns.TypeA, dns.RcodeSuccess, 1},
		{"SRV of a ClusterIP", crowdFQDN("_http._tcp.", virtual), dns.TypeSRV, dns.RcodeSuccess, 1},
		{"SRV of a headless Service", crowdFQDN("_http._tcp.", headless), dns.TypeSRV, dns.RcodeSuccess, endpointsEach},
		{"PTR of a ClusterIP", reverse(crowdClusterIP(virtual)), dns.TypePTR, dns.RcodeSuccess, 1},
		{"PTR of an endpoint", reverse(crowdEndpoint(1)), dns.TypePTR, dns.RcodeSuccess, 1},
		{"NXDOMAIN", "www.example.com.ns-1.svc.cluster.local.", dns.TypeA, dns.RcodeNameError, 0},
	}
}

// measure asks a handler again and again.
func (q crowdQuestion) measure(t *testing.T, h plugin.Handler) testing.BenchmarkResult {
	t.Helper()
	r, w := new(dns.Msg).SetQuestion(q.name, q.qtype), new(last)
	if _, err := h.ServeDNS(t.Context(), w, r); err != nil || w.m == nil || w.m.Rcode != q.rcode || len(w.m.Answer) != q.answers {
		t.Fatalf("%s: want rcode %d and %d records from %s, got %v, %v", q.name, q.rcode, q.answers, h.Name(), w.m, err)
	}
	return testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			h.ServeDNS(b.Context(), w, r)
		}
	})
}

// last is a client that keeps the last reply. It implements dns.ResponseWriter.
type last struct {
	dns.ResponseWriter
	m *dns.Msg
}

func (l *last) WriteMsg(m *dns.Msg) error {
	l.m = m
	return nil
}

func (*last) RemoteAddr() net.Addr { return &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 53} }

func (*last) LocalAddr() net.Addr { return &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 53} }
