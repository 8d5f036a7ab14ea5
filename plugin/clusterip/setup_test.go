package clusterip

import (
	"bytes"
	"fmt"
	golog "log"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/cluster/manifest"
	"github.com/clusterip/clusterip/test/clustertest"
	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

func TestMain(m *testing.M) {
	caddy.Quiet, dnsserver.Quiet = true, true
	dnsserver.Directives = slices.Insert(dnsserver.Directives, slices.Index(dnsserver.Directives, "kubernetes"), pluginName)
	os.Exit(m.Run())
}

const serviceYAML = `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  clusterIP: %s
  ports: [{port: 80}]
`

// write replaces a file in one step, as the editors of manifests should.
func write(t *testing.T, path, content string) {
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
	gauges := []prometheus.Gauge{
		objects.WithLabelValues("services"), objects.WithLabelValues("namespaces"), manifestProblems.WithLabelValues("error"),
	}
	before := values(t, gauges)
	dir := t.TempDir()
	file := filepath.Join(dir, "web.yaml")
	write(t, file, fmt.Sprintf(serviceYAML, "10.43.0.10"))
	instance, err := caddy.Start(corefile(dir, "", ""))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, instance, "NOERROR\nweb.default.svc.cluster.local. 5 IN A 10.43.0.10")
	if got := values(t, gauges); got[0] != before[0]+1 {
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
		if n := values(t, gauges)[2]; n == before[2] {
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
	if after := values(t, gauges); !slices.Equal(after, before) {
		t.Errorf("services, namespaces and errors counted are %v after shutdown and were %v before", after, before)
	}
}

// While health is a lameduck, names follow what changes.
func TestLameduck(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "web.yaml")
	write(t, file, fmt.Sprintf(serviceYAML, "10.43.0.10"))
	const lameduck = 3 * time.Second
	instance, err := caddy.Start(corefile(dir, "", fmt.Sprintf("health 127.0.0.1:0 {\nlameduck %s\n}", lameduck)))
	if err != nil {
		t.Fatal(err)
	}
	defer instance.Stop()
	begun, ended := time.Now(), make(chan struct{})
	go func() {
		defer close(ended)
		instance.ShutdownCallbacks()
	}()
	time.Sleep(lameduck / 10) // for what does not wait for it
	write(t, file, fmt.Sprintf(serviceYAML, "10.43.0.11"))
	eventually(t, instance, "NOERROR\nweb.default.svc.cluster.local. 5 IN A 10.43.0.11")
	<-ended
	if took := time.Since(begun); took < lameduck {
		t.Errorf("the server ended after %s, before the lameduck", took)
	}
	if len(feeds.byKey) != 0 {
		t.Errorf("left behind: %v", feeds.byKey)
	}
}

// Server blocks that read one folder share its source; one that reads another
// does not.
func TestServerBlocksShareASource(t *testing.T) {
	own := new(server)
	dir, other := t.TempDir(), t.TempDir()
	serveFrom := func(dir string, ttl uint32) *feed {
		t.Helper()
		o := Options{Zones: []string{"cluster.local."}, TTL: ttl, Manifest: manifest.Options{Dir: dir}}
		_, f, err := serve(own, o, nil)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	first := serveFrom(dir, 5)
	if again := serveFrom(dir+"/", 30); again != first {
		t.Error("one folder is read by two sources")
	}
	if serveFrom(other, 5) == first {
		t.Error("two folders have one source")
	}
	leave(func(s *server) bool { return s == own })
	if len(feeds.byKey) != 0 {
		t.Errorf("left behind: %v", feeds.byKey)
	}
}

// Two sources of one server must not keep one state file: each would overwrite what
// the other remembers. The server of a reload may read the folder in another way.
func TestStateFileHasOneSource(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	link := filepath.Join(other, "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(dir, ".clusterip-state.json")
	first := manifest.Options{Dir: dir, ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.43.0.0/16")}}
	changed := first
	changed.ServiceCIDRs = []netip.Prefix{netip.MustParsePrefix("10.44.0.0/16")}
	old, own := new(server), new(server)
	defer leave(func(*server) bool { return true })
	for _, step := range []struct {
		name  string
		who   *server
		o     manifest.Options
		taken bool
	}{
		{"the first", old, first, true},
		{"the default written out", old, manifest.Options{Dir: dir, State: state, ServiceCIDRs: first.ServiceCIDRs}, true},
		{"other CIDRs", old, changed, false},
		{"another folder", old, manifest.Options{Dir: other, State: state}, false},
		{"through a link", old, manifest.Options{Dir: link, ServiceCIDRs: changed.ServiceCIDRs}, false},
		{"a state of its own", old, manifest.Options{Dir: dir, State: filepath.Join(other, "state.json"), ServiceCIDRs: changed.ServiceCIDRs}, true},
		{"other CIDRs after a reload", own, changed, true},
	} {
		_, _, err := serve(step.who, Options{Zones: []string{"cluster.local."}, Manifest: step.o}, nil)
		if (err == nil) != step.taken {
			t.Errorf("%s: error %v", step.name, err)
		}
		if err != nil && !strings.Contains(err.Error(), "is kept by two clusterip directives") {
			t.Errorf("%s: the error is %v", step.name, err)
		}
	}
}

func values(t *testing.T, gauges []prometheus.Gauge) []float64 {
	t.Helper()
	out := make([]float64, len(gauges))
	for i, gauge := range gauges {
		out[i] = value(t, gauge)
	}
	return out
}

func value(t *testing.T, gauge prometheus.Metric) float64 {
	t.Helper()
	var m dto.Metric
	if err := gauge.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetGauge().GetValue()
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

// Each problem is logged once as long as it lasts, and when it is mended, and
// counted while it does.
func TestProblems(t *testing.T) {
	var p problems
	var logged bytes.Buffer
	golog.SetOutput(&logged)
	defer golog.SetOutput(os.Stderr)
	fault := manifest.Problem{File: "a.yaml", Line: 3, Object: "Service default/web", Err: os.ErrInvalid}
	notice := manifest.Problem{File: "b.yaml", Err: os.ErrInvalid, Severity: manifest.Notice}
	errors, notices := manifestProblems.WithLabelValues("error"), manifestProblems.WithLabelValues("notice")
	for _, step := range []struct {
		report          []manifest.Problem
		errors, notices float64
		logged          []string
	}{
		{[]manifest.Problem{fault, notice}, 1, 1, []string{fault.Error(), notice.Error()}},
		{[]manifest.Problem{fault, fault}, 1, 0, []string{"no longer so: " + notice.Error()}},
		{[]manifest.Problem{notice}, 0, 1, []string{notice.Error(), "no longer so: " + fault.Error()}},
		{nil, 0, 0, nil},
	} {
		logged.Reset()
		p.report(step.report)
		lines := strings.Split(strings.TrimSuffix(logged.String(), "\n"), "\n")
		for i, want := range step.logged {
			if len(lines) != len(step.logged) || !strings.HasSuffix(lines[i], " "+want) {
				t.Errorf("%v: logged is %q, want %q", step.report, lines, step.logged)
				break
			}
		}
		if e, n := value(t, errors), value(t, notices); e != step.errors || n != step.notices {
			t.Errorf("%v: %v errors and %v notices are counted", step.report, e, n)
		}
	}
}

func TestCounted(t *testing.T) {
	c := newCounted()
	before := make(map[string]float64)
	for _, kind := range []string{"services", "imports", "endpoints", "namespaces", "pods"} {
		before[kind] = value(t, objects.WithLabelValues(kind))
	}
	const name = "default/web"
	endpoints := func(n int) []cluster.ServiceUpdate {
		all := make([]cluster.Endpoint, n)
		for i := range all {
			all[i].Addr = netip.AddrFrom4([4]byte{10, 42, 0, byte(i)})
		}
		return clustertest.Changed(cluster.New(clustertest.Service(name), all))
	}
	for _, step := range []struct {
		update                               cluster.Update
		services, imports, endpoints, others float64
	}{
		{cluster.Update{Services: endpoints(3)}, 1, 0, 3, 0},
		{cluster.Update{Services: endpoints(2)}, 1, 0, 2, 0},
		{cluster.Update{Imports: endpoints(4)}, 1, 1, 6, 0},
		{cluster.Update{
			Namespaces: []cluster.NamespaceUpdate{{Name: "default", Exists: true}},
			Pods:       []cluster.PodUpdate{{Name: cluster.PodName{Name: "p"}, Pod: &cluster.Pod{}}},
		}, 1, 1, 6, 1},
		{cluster.Update{
			Services:   clustertest.Gone(name),
			Imports:    clustertest.Gone(name),
			Namespaces: []cluster.NamespaceUpdate{{Name: "default"}},
			Pods:       []cluster.PodUpdate{{Name: cluster.PodName{Name: "p"}}},
		}, 0, 0, 0, 0},
	} {
		c.apply(step.update)
		for kind, want := range map[string]float64{
			"services": step.services, "imports": step.imports, "endpoints": step.endpoints, "namespaces": step.others, "pods": step.others,
		} {
			if got := value(t, objects.WithLabelValues(kind)) - before[kind]; got != want {
				t.Errorf("%v %s are counted, want %v", got, kind, want)
			}
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
