package kubernetes

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/clusterip/clusterip/test/kubetest"
	corev1 "k8s.io/api/core/v1"
)

// While the API server is away, answers go on; what changes meanwhile shows when it
// is back.
func TestOutage(t *testing.T) { eachEtcd(t, testOutage) }

func testOutage(t *testing.T, a *apiServer, _ kubetest.Etcd) {
	a.namespace("shop")
	a.create(service("stays", "10.43.0.5"))
	a.create(service("goes", "10.43.0.6"))
	line := a.NewLine()
	p := start(t, "kubeconfig "+a.KubeconfigThrough(line), "stale_after 1s")
	p.answers("goes.shop.svc.cluster.local", "A", "NOERROR 10.43.0.6")
	asking := p.keepAsking("stays.shop.svc.cluster.local", "10.43.0.5")

	t.Log("cut off")
	line.Cut()
	p.logs("connect: connection refused")
	p.readiness("503")
	a.delete("goes")
	a.create(service("comes", "10.43.0.7"))
	if got := p.dig("goes.shop.svc.cluster.local", "A"); got != "NOERROR 10.43.0.6" {
		t.Errorf("got %q while nothing can be known", got)
	}
	line.Mend()
	p.answers("goes.shop.svc.cluster.local", "A", "NXDOMAIN")
	p.answers("comes.shop.svc.cluster.local", "A", "NOERROR 10.43.0.7")
	p.readiness("200")

	t.Log("crashed, and back without the history that a watch could go on from")
	a.KillAPIServer()
	a.StartServers()
	a.delete("comes")
	p.answers("comes.shop.svc.cluster.local", "A", "NXDOMAIN")
	p.stop(asking)
}

// Of several API servers one is enough.
func TestSeveralAPIServers(t *testing.T) {
	a := startAPIServer(t)
	a.namespace("shop")
	a.create(service("web", "10.43.0.5"))
	first, second := a.NewLine(), a.NewLine()
	first.Cut()
	cert, key, ca := a.Certificate()
	p := start(t, "endpoint "+first.URL()+" "+second.URL(), fmt.Sprintf("tls %s %s %s", cert, key, ca))
	p.answers("web.shop.svc.cluster.local", "A", "NOERROR 10.43.0.5")
	for i, lines := range [][2]*kubetest.Line{{first, second}, {second, first}} {
		lines[0].Mend()
		lines[1].Cut()
		name, ip := fmt.Sprint("late-", i), fmt.Sprint("10.43.0.", 6+i)
		a.create(service(name, ip))
		p.answers(name+".shop.svc.cluster.local", "A", "NOERROR "+ip)
	}
	if strings.Contains(p.Log(), "[ERROR]") {
		t.Error("something is said to be wrong")
	}
	first.Cut()
	second.Cut()
	p.logs("connect: connection refused")
}

// A server that says nothing more is noticed by its not answering HTTP/2 pings, which
// client-go sends after 30 seconds of silence; here after one.
func TestHang(t *testing.T) { eachEtcd(t, testHang) }

func testHang(t *testing.T, a *apiServer, _ kubetest.Etcd) {
	t.Setenv("HTTP2_READ_IDLE_TIMEOUT_SECONDS", "1")
	t.Setenv("HTTP2_PING_TIMEOUT_SECONDS", "1")
	a.namespace("shop")
	a.create(service("web", "10.43.0.5"))
	p := start(t, "kubeconfig "+a.Kubeconfig(), "stale_after 1s")
	p.answers("web.shop.svc.cluster.local", "A", "NOERROR 10.43.0.5")
	if said := p.explains("web.shop.svc.cluster.local"); said != "" {
		t.Errorf("an answer that is not stale says %s", said)
	}
	a.HangAPIServer()
	p.logs("the connection to the API server ended, or timed out, before it answered")
	p.readiness("503")
	for name, want := range map[string]string{"web": "3 (Stale Answer)", "nobody": "19 (Stale NXDOMAIN Answer)"} {
		if said := p.explains(name + ".shop.svc.cluster.local"); said != want {
			t.Errorf("the answer for %s says %q, want %q", name, said, want)
		}
	}
	a.ResumeAPIServer()
	p.readiness("200")
	a.create(service("late", "10.43.0.6"))
	p.answers("late.shop.svc.cluster.local", "A", "NOERROR 10.43.0.6")
	if said := p.explains("web.shop.svc.cluster.local"); said != "" {
		t.Errorf("an answer that is not stale any more says %s", said)
	}
}

// A cluster that was made anew at the same address, or restored from a backup, has
// another history with smaller versions.
func TestNewHistory(t *testing.T) { eachEtcd(t, testNewHistory) }

func testNewHistory(t *testing.T, a *apiServer, _ kubetest.Etcd) {
	a.namespace("shop")
	a.create(service("old", "10.43.0.5"))
	for i := range 50 {
		a.change("old", func(s *corev1.Service) { s.Annotations = map[string]string{"n": fmt.Sprint(i)} })
	}
	p := start(t, "kubeconfig "+a.Kubeconfig())
	p.answers("old.shop.svc.cluster.local", "A", "NOERROR 10.43.0.5")
	a.Wipe()
	a.StartServers()
	a.namespace("shop")
	a.create(service("new", "10.43.0.6"))
	began := time.Now()
	p.answers("new.shop.svc.cluster.local", "A", "NOERROR 10.43.0.6")
	t.Logf("%v after the new history began", time.Since(began))
	p.answers("old.shop.svc.cluster.local", "A", "NXDOMAIN")
}

func TestAbsentAtStart(t *testing.T) {
	a := &apiServer{kubetest.Prepare(t, kubetest.Streaming), t}
	p := start(t, "kubeconfig "+a.Kubeconfig(), "startup_timeout 100ms", "fallthrough")
	p.answers("web.shop.svc.cluster.local", "A", "SERVFAIL")
	p.readiness("503")
	a.StartServers()
	a.namespace("shop")
	a.create(service("web", "10.43.0.5"))
	p.answers("web.shop.svc.cluster.local", "A", "NOERROR 10.43.0.5")
	p.readiness("200")
}

// What is missing of RBAC is said once, and mends itself.
func TestRefused(t *testing.T) { eachEtcd(t, testRefused) }

func testRefused(t *testing.T, a *apiServer, _ kubetest.Etcd) {
	a.namespace("shop")
	a.create(service("web", "10.43.0.5"))
	a.grant("", "namespaces", "services")
	p := start(t, "kubeconfig "+a.AccountKubeconfig(), "startup_timeout 100ms")
	const complaint = "endpointslices.discovery.k8s.io: list forbidden: give the ServiceAccount the verbs list and watch"
	p.logs(complaint)
	p.answers("web.shop.svc.cluster.local", "A", "SERVFAIL")
	p.readiness("503")
	a.grant("discovery.k8s.io", "endpointslices")
	p.answers("web.shop.svc.cluster.local", "A", "NOERROR 10.43.0.5")
	p.readiness("200")
	p.logs("endpointslices.discovery.k8s.io: well again")
	if n := strings.Count(p.Log(), complaint); n != 1 {
		t.Errorf("it was complained %d times", n)
	}
}

// Over reloads no question is lost, and nothing is listed anew.
func TestReloads(t *testing.T) {
	a := startAPIServer(t)
	a.namespace("shop")
	a.create(service("web", "10.43.0.5"))
	kubeconfig := "kubeconfig " + a.Kubeconfig()
	p := start(t, kubeconfig)
	p.answers("web.shop.svc.cluster.local", "A", "NOERROR 10.43.0.5")
	before := a.requests("endpointslices")
	asking := p.keepAsking("web.shop.svc.cluster.local", "10.43.0.5")
	for i := range 100 {
		p.configure(kubeconfig, fmt.Sprintf("ttl %d", i))
		p.Signal(syscall.SIGUSR1)
		p.eventually("the reload", func() error {
			if n := strings.Count(p.Log(), "Reloading complete"); n <= i {
				return fmt.Errorf("%d of %d are complete", n, i+1)
			}
			return nil
		})
	}
	p.stop(asking)
	if after := a.requests("endpointslices"); after != before {
		t.Errorf("requests were\n%s\nand are\n%s", before, after)
	}
	a.create(service("late", "10.43.0.6"))
	p.answers("late.shop.svc.cluster.local", "A", "NOERROR 10.43.0.6")

	t.Log("a reload that needs more lists once, and keeps what is known")
	asking = p.keepAsking("web.shop.svc.cluster.local", "10.43.0.5")
	a.pod("client", "node-1", "10.42.0.9")
	p.configure(kubeconfig, "pods verified")
	p.Signal(syscall.SIGUSR1)
	p.answers("10-42-0-9.shop.pod.cluster.local", "A", "NOERROR 10.42.0.9")
	p.stop(asking)
}

// Names of pods are not kept until somebody asks for them.
func TestReloadForPodNames(t *testing.T) {
	a := startAPIServer(t)
	a.namespace("shop")
	a.create(service("db", "None"))
	backing := slice("db-1", "db", "10.42.0.1")
	backing.Endpoints[0].TargetRef = &corev1.ObjectReference{Kind: "Pod", Name: "db-x7k2p"}
	a.put(backing)
	kubeconfig := "kubeconfig " + a.Kubeconfig()
	p := start(t, kubeconfig)
	p.answers("10-42-0-1.db.shop.svc.cluster.local", "A", "NOERROR 10.42.0.1")
	p.answers("db-x7k2p.db.shop.svc.cluster.local", "A", "NXDOMAIN")
	p.configure(kubeconfig, "endpoint_pod_names")
	p.Signal(syscall.SIGUSR1)
	p.answers("db-x7k2p.db.shop.svc.cluster.local", "A", "NOERROR 10.42.0.1")
	p.answers("10-42-0-1.db.shop.svc.cluster.local", "A", "NXDOMAIN")
	p.answers("1.0.42.10.in-addr.arpa", "PTR", "NOERROR db-x7k2p.db.shop.svc.cluster.local.")
}
