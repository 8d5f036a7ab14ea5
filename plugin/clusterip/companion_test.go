package clusterip

import (
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/caddy"
	_ "github.com/coredns/coredns/plugin/autopath"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/k8s_external"
	_ "github.com/coredns/coredns/plugin/metadata"
	_ "github.com/coredns/coredns/plugin/template"
	"github.com/miekg/dns"
)

const externalYAML = `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  type: LoadBalancer
  externalIPs: [192.0.2.10]
  ports: [{name: http, port: 80}, {name: https, port: 443}]
status:
  loadBalancer: {ingress: [{ip: "2001:db8::10"}, {ip: 192.0.2.11, ipMode: Proxy}]}
---
apiVersion: v1
kind: Service
metadata: {name: hosted, namespace: shop}
spec:
  type: LoadBalancer
  ports: [{port: 80}]
status:
  loadBalancer: {ingress: [{hostname: lb.example.net}]}
---
apiVersion: v1
kind: Service
metadata: {name: inside, namespace: shop}
spec:
  ports: [{name: http, port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec:
  clusterIP: None
  ports: [{name: sql, port: 5432}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, namespace: shop, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: sql, port: 5432}]
endpoints:
  - {addresses: [10.42.0.7], hostname: db-0, conditions: {ready: true}}
  - {addresses: [10.42.0.8], conditions: {ready: true}}
`

// startWith runs a server with a block and the manifests given, on an address
// of this machine, and returns how to ask it,
// and its TCP address.
func startWith(t *testing.T, host, block, manifests string) (ask func(name string, qtype uint16) *dns.Msg, tcp string) {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "all.yaml"), manifests)
	instance, err := caddy.Start(caddy.CaddyfileInput{
		ServerTypeName: "dns", Filepath: "Corefile",
		Contents: []byte(strings.NewReplacer("{host}", host, "{dir}", dir).Replace(block)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		instance.ShutdownCallbacks()
		instance.Stop()
	})
	udp := instance.Servers()[0].LocalAddr().String()
	tcp = instance.Servers()[0].Addr().String()
	return func(name string, qtype uint16) *dns.Msg {
		t.Helper()
		m, err := dns.Exchange(new(dns.Msg).SetQuestion(name, qtype), udp)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}, tcp
}

// k8s_external finds what it wants in a block with clusterip.
func TestExternal(t *testing.T) {
	ask, address := startWith(t, "127.0.0.1", `.:0 {
		bind {host}
		clusterip cluster.local {
			manifests {dir}
		}
		k8s_external example.org in-addr.arpa {
			headless
		}
		transfer example.org {
			to *
		}
		template IN A lb.example.net {
			answer "{{ .Name }} 60 IN A 192.0.2.99"
		}
	}`, externalYAML)
	for _, c := range []struct {
		name  string
		qtype uint16
		want  string
	}{
		{"web.shop.example.org.", dns.TypeA, "NOERROR\nweb.shop.example.org. 5 IN A 192.0.2.10\nweb.shop.example.org. 5 IN A 192.0.2.11"},
		{"web.shop.example.org.", dns.TypeAAAA, "NOERROR\nweb.shop.example.org. 5 IN AAAA 2001:db8::10"},
		{"web.shop.example.org.", dns.TypeTXT, "NOERROR\nexample.org. SOA"},
		{"_http._tcp.web.shop.example.org.", dns.TypeSRV, "NOERROR\n_http._tcp.web.shop.example.org. 5 IN SRV 0 33 80 web.shop.example.org.\n" +
			"web.shop.example.org. 5 IN A 192.0.2.10\nweb.shop.example.org. 5 IN AAAA 2001:db8::10\nweb.shop.example.org. 5 IN A 192.0.2.11"},
		{"_http._tcp.web.shop.example.org.", dns.TypeAAAA, "NOERROR\n_http._tcp.web.shop.example.org. 5 IN AAAA 2001:db8::10"},
		{"https.tcp.web.shop.example.org.", dns.TypeSRV, "NOERROR\nhttps.tcp.web.shop.example.org. 5 IN SRV 0 33 443 web.shop.example.org.\n" +
			"web.shop.example.org. 5 IN A 192.0.2.10\nweb.shop.example.org. 5 IN AAAA 2001:db8::10\nweb.shop.example.org. 5 IN A 192.0.2.11"},
		{"_sql.tcp.db.shop.example.org.", dns.TypeA, "NOERROR\n_sql.tcp.db.shop.example.org. 5 IN A 10.42.0.7\n_sql.tcp.db.shop.example.org. 5 IN A 10.42.0.8"},
		{"_tcp.web.shop.example.org.", dns.TypeA, "NOERROR\nexample.org. SOA"},
		{"nothing.web.shop.example.org.", dns.TypeA, "NXDOMAIN\nexample.org. SOA"},
		{"_ftp._tcp.web.shop.example.org.", dns.TypeSRV, "NXDOMAIN\nexample.org. SOA"},
		{"hosted.shop.example.org.", dns.TypeA, "NOERROR\nhosted.shop.example.org. 5 IN CNAME lb.example.net.\nlb.example.net. 60 IN A 192.0.2.99"},
		{"inside.shop.example.org.", dns.TypeA, "NXDOMAIN\nexample.org. SOA"},
		{"shop.example.org.", dns.TypeA, "NOERROR\nexample.org. SOA"},
		{"nowhere.example.org.", dns.TypeA, "NXDOMAIN\nexample.org. SOA"},
		{"db.shop.example.org.", dns.TypeA, "NOERROR\ndb.shop.example.org. 5 IN A 10.42.0.7\ndb.shop.example.org. 5 IN A 10.42.0.8"},
		{"db-0.db.shop.example.org.", dns.TypeA, "NOERROR\ndb-0.db.shop.example.org. 5 IN A 10.42.0.7"},
		{"_sql._tcp.db.shop.example.org.", dns.TypeSRV, "NOERROR\n_sql._tcp.db.shop.example.org. 5 IN SRV 0 50 5432 db-0.db.shop.example.org.\n" +
			"_sql._tcp.db.shop.example.org. 5 IN SRV 0 50 5432 10-42-0-8.db.shop.example.org.\ndb-0.db.shop.example.org. 5 IN A 10.42.0.7\n10-42-0-8.db.shop.example.org. 5 IN A 10.42.0.8"},
		{"11.2.0.192.in-addr.arpa.", dns.TypePTR, "NOERROR\n11.2.0.192.in-addr.arpa. 5 IN PTR web.shop.example.org."},
		{"12.2.0.192.in-addr.arpa.", dns.TypePTR, "NXDOMAIN\nin-addr.arpa. SOA"},
		{"ns1.dns.example.org.", dns.TypeA, "NOERROR\nns1.dns.example.org. 5 IN A 127.0.0.1"},
		{"db.shop.svc.cluster.local.", dns.TypeTXT, "NOERROR\ncluster.local. SOA"}, // not in the way
	} {
		if got := text(ask(c.name, c.qtype)); got != c.want {
			t.Errorf("%s %s: got\n%s\nwant\n%s", c.name, dns.TypeToString[c.qtype], got, c.want)
		}
	}
	transferred := axfr(t, address, "example.org.")
	for _, want := range []string{
		"web.shop.example.org. 5 IN AAAA 2001:db8::10", "_https._tcp.web.shop.example.org. 5 IN SRV 0 100 443 web.shop.example.org.",
		"db-0.db.shop.example.org. 5 IN A 10.42.0.7", "_sql._tcp.db.shop.example.org. 5 IN SRV 0 50 5432 db-0.db.shop.example.org.",
	} {
		if !slices.Contains(transferred, want) {
			t.Errorf("the transfer has no %q; it has\n%s", want, strings.Join(transferred, "\n"))
		}
	}
}

// A transfer has all but what DNS cannot hold, and nothing else of it is answered.
func TestExternalWithLongLabels(t *testing.T) {
	long := strings.Repeat("p", 63)
	manifests := strings.NewReplacer("name: http,", "name: "+long+",", "name: sql,", "name: "+long+",",
		"{hostname: lb.example.net}", "{hostname: "+long+"p.example.net}, {hostname: lb.example.net}").Replace(externalYAML)
	ask, address := startWith(t, "127.0.0.1", `.:0 {
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
		template IN A lb.example.net {
			answer "{{ .Name }} 60 IN A 192.0.2.99"
		}
	}`, manifests)
	transferred := axfr(t, address, "example.org.")
	for _, want := range []string{
		"web.shop.example.org. 5 IN A 192.0.2.10", "_https._tcp.web.shop.example.org. 5 IN SRV 0 100 443 web.shop.example.org.",
		"db-0.db.shop.example.org. 5 IN A 10.42.0.7", "hosted.shop.example.org. 5 IN CNAME lb.example.net.",
	} {
		if !slices.Contains(transferred, want) {
			t.Errorf("the transfer has no %q; it has\n%s", want, strings.Join(transferred, "\n"))
		}
	}
	if all := strings.Join(transferred, "\n"); strings.Contains(all, long) {
		t.Errorf("the transfer has a label that is too long:\n%s", all)
	}
	want := "NOERROR\nhosted.shop.example.org. 5 IN CNAME lb.example.net.\nlb.example.net. 60 IN A 192.0.2.99"
	if got := text(ask("hosted.shop.example.org.", dns.TypeA)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// longOrigin is a server whose k8s_external has a zone with a long name. Names in that zone
// are written without it in all that is compared.
type longOrigin struct {
	origin      string
	ask         func(name string, qtype uint16) *dns.Msg
	transferred string // lines
}

// The longest labels that an endpoint and a Service can have.
var longHostname, longService = strings.Repeat("h", 63), strings.Repeat("s", 63)

func startLongOrigin(t *testing.T, origin string) *longOrigin {
	t.Helper()
	manifests := strings.NewReplacer("hostname: db-0", "hostname: "+longHostname, "name: hosted", "name: "+longService, "hostname: lb.example.net", "ip: 192.0.2.77").Replace(externalYAML)
	ask, address := startWith(t, "127.0.0.1", strings.ReplaceAll(`.:0 {
		bind {host}
		clusterip cluster.local {
			manifests {dir}
		}
		k8s_external {origin} in-addr.arpa {
			headless
		}
		transfer {origin} {
			to *
		}
	}`, "{origin}", origin), manifests)
	l := &longOrigin{origin: origin, ask: ask}
	l.transferred = l.short(strings.Join(axfr(t, address, origin), "\n"))
	return l
}

func (l *longOrigin) short(text string) string { return strings.ReplaceAll(text, l.origin, "") }

func (l *longOrigin) answers(t *testing.T, name string, qtype uint16, want string) {
	t.Helper()
	if got := l.short(text(l.ask(name, qtype))); got != want {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

// Where the zone's own name is so long that names of endpoints and ports do not fit,
// the others are answered and transferred all the same.
func TestExternalWithALongOrigin(t *testing.T) {
	label := strings.Repeat("o", 63) + "."
	for _, c := range []struct {
		origin  string
		queries map[string]string // by name; of A, or SRV where the name has a port
		has     []string
		lacks   string
	}{
		{
			origin: label + label + label + "example.", // 200 characters
			queries: map[string]string{
				"db.shop.":            "NOERROR\ndb.shop. 5 IN A 10.42.0.7\ndb.shop. 5 IN A 10.42.0.8",
				"_sql._tcp.db.shop.":  "NOERROR\n_sql._tcp.db.shop. 5 IN SRV 0 50 5432 10-42-0-8.db.shop.\n10-42-0-8.db.shop. 5 IN A 10.42.0.8",
				"_http._tcp.db.shop.": "NXDOMAIN\n SOA",
			},
			has:   []string{"db.shop. 5 IN A 10.42.0.7", "db.shop. 5 IN A 10.42.0.8", "_sql._tcp.db.shop. 5 IN SRV 0 100 5432 10-42-0-8.db.shop.", "_http._tcp.web.shop. 5 IN SRV 0 100 80 web.shop."},
			lacks: longHostname,
		},
		{
			origin:  label + label + label + strings.Repeat("o", 46) + ".", // 238 characters
			queries: map[string]string{"db.shop.": "NOERROR\ndb.shop. 5 IN A 10.42.0.7\ndb.shop. 5 IN A 10.42.0.8"},
			has:     []string{"db.shop. 5 IN A 10.42.0.7", "web.shop. 5 IN A 192.0.2.10"},
			lacks:   "_http._tcp",
		},
	} {
		t.Run(fmt.Sprintf("%d characters", len(c.origin)), func(t *testing.T) {
			l := startLongOrigin(t, c.origin)
			for name, want := range c.queries {
				qtype := dns.TypeA
				if strings.HasPrefix(name, "_") {
					qtype = dns.TypeSRV
				}
				l.answers(t, name+c.origin, qtype, want)
			}
			l.answers(t, "77.2.0.192.in-addr.arpa.", dns.TypePTR, "NXDOMAIN\nin-addr.arpa. SOA")
			l.answers(t, "10.2.0.192.in-addr.arpa.", dns.TypePTR, "NOERROR\n10.2.0.192.in-addr.arpa. 5 IN PTR web.shop.")
			for _, want := range c.has {
				if !strings.Contains("\n"+l.transferred+"\n", "\n"+want+"\n") {
					t.Errorf("the transfer has no %q; it has\n%s", want, l.transferred)
				}
			}
			for _, lacks := range []string{c.lacks, longService} {
				if strings.Contains(l.transferred, lacks) {
					t.Errorf("the transfer has %q:\n%s", lacks, l.transferred)
				}
			}
		})
	}
}

// An error names the plugin that is in the Corefile.
func TestNothingNext(t *testing.T) {
	_, err := (&companion{}).ServeDNS(t.Context(), nil, nil)
	if want := "plugin/clusterip: no next plugin found"; err == nil || err.Error() != want {
		t.Errorf("got error %v, want %s", err, want)
	}
}

func axfr(t *testing.T, address, origin string) []string {
	t.Helper()
	envelopes, err := new(dns.Transfer).In(new(dns.Msg).SetAxfr(origin), address)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for e := range envelopes {
		if e.Error != nil {
			t.Fatal(e.Error)
		}
		for _, rr := range e.RR {
			all = append(all, strings.ReplaceAll(rr.String(), "\t", " "))
		}
	}
	return all
}

// The path is completed for pods, by the names of old Corefiles and of new ones,
// and metadata has the labels that it always had.
func TestAutoPathAndMetadataInACorefile(t *testing.T) {
	host := reachable(t)
	pod := fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop, labels: {app: shopper}}
status: {podIPs: [{ip: %q}]}
---
%s`, host, fmt.Sprintf(serviceYAML, "10.43.0.10"))
	for _, name := range []string{"clusterip", "kubernetes"} {
		ask, _ := startWith(t, host, `.:0 {
			bind {host}
			metadata
			template IN TXT who.test {
				answer "{{ .Name }} 60 IN TXT {{ .Meta \"kubernetes/client-namespace\" }}-{{ .Meta \"kubernetes/client-label/app\" }}"
			}
			autopath cluster.local @`+name+`
			hosts {
				192.0.2.80 www.example.com
				fallthrough
			}
			clusterip cluster.local {
				manifests {dir}
				pods verified
			}
		}`, pod)
		for question, want := range map[string]string{
			"www.example.com.shop.svc.cluster.local.":    "NOERROR\nwww.example.com.shop.svc.cluster.local. 3600 IN CNAME www.example.com.\nwww.example.com. 3600 IN A 192.0.2.80",
			"web.default.shop.svc.cluster.local.":        "NOERROR\nweb.default.shop.svc.cluster.local. 5 IN CNAME web.default.svc.cluster.local.\nweb.default.svc.cluster.local. 5 IN A 10.43.0.10",
			"www.example.com.default.svc.cluster.local.": "NXDOMAIN\ncluster.local. SOA",
		} {
			if got := text(ask(question, dns.TypeA)); got != want {
				t.Errorf("autopath @%s: %s: got\n%s\nwant\n%s", name, question, got, want)
			}
		}
		if got, want := text(ask("who.test.", dns.TypeTXT)), "NOERROR\nwho.test. 60 IN TXT \"shop-shopper\""; got != want {
			t.Errorf("metadata: got\n%s\nwant\n%s", got, want)
		}
	}
}

// reachable returns an address of this machine that a pod could have.
func reachable(t *testing.T) string {
	t.Helper()
	for _, ip := range ownAddresses([]string{"0.0.0.0"}) {
		if ip.Is4() && !ip.IsLoopback() {
			if conn, err := net.ListenPacket("udp", ip.String()+":0"); err == nil {
				conn.Close()
				return ip.String()
			}
		}
	}
	t.Skip("this machine has only loopback addresses, which pods cannot have")
	return ""
}
