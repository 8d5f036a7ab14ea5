package clusterip

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clusterip/clusterip/test/clustertest"
	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

func TestMain(m *testing.M) {
	caddy.Quiet, dnsserver.Quiet = true, true
	dnsserver.Directives = slices.Insert(dnsserver.Directives, slices.Index(dnsserver.Directives, "kubernetes"), pluginName, "atend")
	dnsserver.Directives = slices.Insert(dnsserver.Directives, slices.Index(dnsserver.Directives, "errors"), "foreign")
	plugin.Register("foreign", func(c *caddy.Controller) error {
		c.Next()
		called := c.RemainingArgs()[0]
		dnsserver.GetConfig(c).AddPlugin(func(next plugin.Handler) plugin.Handler { return foreign{next, called} })
		return nil
	})
	plugin.Register("atend", func(c *caddy.Controller) error {
		atEndConfig = dnsserver.GetConfig(c)
		c.OnFinalShutdown(func() error { atEnd(); return nil })
		return nil
	})
	os.Exit(m.Run())
}

// atEnd is called by a directive as kernelnat is: when the process ends, as its setup asks.
var atEnd = func() {}

// atEndConfig is that of the server block which had the directive last.
var atEndConfig *dnsserver.Config

const serviceYAML = `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  clusterIP: %s
  ports: [{port: 80}]
`

// write replaces a file in one step, as the editors of manifests should.
func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func corefile(dir, options, plugins string) caddy.Input {
	return caddy.CaddyfileInput{
		ServerTypeName: "dns",
		Filepath:       "Corefile",
		Contents: fmt.Appendf(nil, `cluster.local:0 {
			bind 127.0.0.1
			%s
			clusterip {
				manifests %s
				%s
			}
		}`, plugins, dir, options),
	}
}

// eventually asks until the answer is right.
func eventually(t *testing.T, instance *caddy.Instance, want string) {
	t.Helper()
	clustertest.Eventually(t, 10*time.Second, "the answer", func() error {
		address := instance.Servers()[0].LocalAddr().String()
		m, err := dns.Exchange(new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA), address)
		if err != nil {
			t.Fatal(err)
		}
		if got := text(m); got != want {
			return fmt.Errorf("got\n%s\nwant\n%s", got, want)
		}
		return nil
	})
}

// The life of a server: it starts with the folder, follows it, survives a reload
// that works and one that does not, and leaves nothing behind.
func TestLifecycle(t *testing.T) {
	gauges := func() []float64 {
		return []float64{gauge(t, "objects", "services"), gauge(t, "objects", "namespaces"), gauge(t, "manifest_problems", "error")}
	}
	before := gauges()
	dir := t.TempDir()
	file := filepath.Join(dir, "web.yaml")
	write(t, file, fmt.Sprintf(serviceYAML, "10.43.0.10"))
	instance, err := caddy.Start(corefile(dir, "", ""))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, instance, "NOERROR\nweb.default.svc.cluster.local. 5 IN A 10.43.0.10")
	if got := gauges(); got[0] != before[0]+1 {
		t.Errorf("%v services are counted, want one more than %v", got[0], before[0])
	}

	write(t, file, fmt.Sprintf(serviceYAML, "10.43.0.11"))
	eventually(t, instance, "NOERROR\nweb.default.svc.cluster.local. 5 IN A 10.43.0.11")

	if instance, err = instance.Restart(corefile(dir, "ttl 30", "")); err != nil {
		t.Fatal(err)
	}
	eventually(t, instance, "NOERROR\nweb.default.svc.cluster.local. 30 IN A 10.43.0.11")

	if _, err := instance.Restart(corefile(dir, "nonsense", "")); err == nil {
		t.Fatal("a broken Corefile was taken")
	}
	write(t, file, fmt.Sprintf(serviceYAML, "10.43.0.12"))
	eventually(t, instance, "NOERROR\nweb.default.svc.cluster.local. 30 IN A 10.43.0.12")

	write(t, file, "not: [yaml")
	clustertest.Eventually(t, 10*time.Second, "the broken file among the problems", func() error {
		if n := gauges()[2]; n == before[2] {
			return fmt.Errorf("%v are counted, as before", n)
		}
		return nil
	})
	eventually(t, instance, "NOERROR\nweb.default.svc.cluster.local. 30 IN A 10.43.0.12")

	// The last good state of the broken file outlives a reload.
	if instance, err = instance.Restart(corefile(dir, "ttl 20", "")); err != nil {
		t.Fatal(err)
	}
	eventually(t, instance, "NOERROR\nweb.default.svc.cluster.local. 20 IN A 10.43.0.12")

	instance.ShutdownCallbacks()
	if err := instance.Stop(); err != nil {
		t.Fatal(err)
	}
	if after := gauges(); !slices.Equal(after, before) {
		t.Errorf("services, namespaces and errors counted are %v after shutdown and were %v before", after, before)
	}
}

// While health is a lameduck, names follow what changes. Then kernelnat has flows to us
// forgotten, and after that the server waits for the last queries.
func TestLameduck(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "web.yaml")
	write(t, file, fmt.Sprintf(serviceYAML, "10.43.0.10"))
	before := gauge(t, "objects", "services")
	const lameduck = 3 * time.Second
	instance, err := caddy.Start(corefile(dir, "", fmt.Sprintf("health 127.0.0.1:0 {\nlameduck %s\n}\natend", lameduck)))
	if err != nil {
		t.Fatal(err)
	}
	defer instance.Stop()
	begun, ended := time.Now(), make(chan struct{})
	var called time.Duration
	atEnd = func() {
		called = time.Since(begun)
		if got := gauge(t, "objects", "services"); got != before+1 {
			t.Errorf("nothing is followed any more: %v services are counted and %v were before", got, before)
		}
	}
	go func() {
		defer close(ended)
		instance.ShutdownCallbacks()
	}()
	time.Sleep(lameduck / 10) // for what does not wait for it
	write(t, file, fmt.Sprintf(serviceYAML, "10.43.0.11"))
	eventually(t, instance, "NOERROR\nweb.default.svc.cluster.local. 5 IN A 10.43.0.11")
	<-ended
	if took := time.Since(begun); called < lameduck || took < called+quiet {
		t.Errorf("the server ended after %s, flows were forgotten after %s, and the lameduck is %s", took, called, lameduck)
	}
	if got := gauge(t, "objects", "services"); got != before {
		t.Errorf("left behind: %v services are counted and %v were before", got, before)
	}
}

// gauge returns a gauge of the feeds, 0 if there is none with the label.
func gauge(t *testing.T, name, label string) float64 {
	t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.Metric {
			if family.GetName() == "coredns_clusterip_"+name && m.Label[0].GetValue() == label {
				return m.GetGauge().GetValue()
			}
		}
	}
	return 0
}

// Queries and changes at once, through the plugins that rewrite answers: the race
// detector sees whether any of them writes to shared records.
func TestConcurrentQueries(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "web.yaml")
	write(t, file, fmt.Sprintf(serviceYAML, "10.43.0.10"))
	instance, err := caddy.Start(corefile(dir, "", "loadbalance\ncache 1"))
	if err != nil {
		t.Fatal(err)
	}
	defer instance.Stop()
	defer instance.ShutdownCallbacks()
	address := instance.Servers()[0].LocalAddr().String()
	failures := make(chan error)
	for i := range 4 {
		go func() {
			client := dns.Client{Timeout: 5 * time.Second}
			for n := range 200 {
				name := []string{"web.default.svc.cluster.local.", "WEB.default.svc.cluster.local.", "nope.cluster.local."}[(i+n)%3]
				r := new(dns.Msg).SetQuestion(name, dns.TypeA)
				r.SetEdns0(1232, n%2 == 0)
				if _, _, err := client.Exchange(r, address); err != nil {
					failures <- err
					return
				}
			}
			failures <- nil
		}()
	}
	for i := range 4 {
		write(t, file, fmt.Sprintf(serviceYAML, fmt.Sprintf("10.43.0.%d", 20+i)))
		if err := <-failures; err != nil {
			t.Error(err)
		}
	}
}

func TestOwnAddresses(t *testing.T) {
	for _, c := range []struct{ hosts, want string }{
		{"192.0.2.1", "192.0.2.1"},
		{"127.0.0.1", "127.0.0.1"},
		{"127.0.0.1 192.0.2.1 2001:db8::1", "192.0.2.1 2001:db8::1"},
		{"fe80::1%eth0 ::ffff:192.0.2.1", "192.0.2.1"},
	} {
		var got []string
		for _, ip := range ownAddresses(strings.Fields(c.hosts)) {
			got = append(got, ip.String())
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: got %v, want %s", c.hosts, got, c.want)
		}
	}
	// Every machine has at least a loopback address.
	for _, host := range []string{"", "0.0.0.0", "::"} {
		if len(ownAddresses([]string{host})) == 0 {
			t.Errorf("%q has no addresses", host)
		}
	}
}
