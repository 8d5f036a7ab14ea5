package conformance

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/clusterip/clusterip/test/clustertest"
	"github.com/clusterip/clusterip/test/dnsload"
	"github.com/clusterip/clusterip/test/kubetest"
	"github.com/miekg/dns"
)

const loadedCorefile = `.:%s {
	bind 127.0.0.1
	errors
	health 127.0.0.1:%s {
		lameduck 3s
	}
	clusterip cluster.local in-addr.arpa {
		manifests %s
		fastpath on
	}
	cache 30
	loop
	loadbalance
}
`

const loadedManifest = `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {clusterIP: 10.43.0.10, ports: [{name: http, port: 80}]}
`

// rate is how many questions a second are asked meanwhile. What else the machine does keeps
// the server from its processor for tens of milliseconds, so that of 20,000 a second, which
// make endurance asks, some find no room where tests run beside this one.
var rate = flag.Int("rate", 2_000, "questions a second while the server is reloaded, ended and killed")

// underLoad is a server that is asked all the time.
type underLoad struct {
	*kubetest.Process
	t        *testing.T
	corefile string
	load     dnsload.Load
	asker    *dnsload.Process
}

func startUnderLoad(t *testing.T) *underLoad {
	t.Helper()
	if program == "" {
		t.Skip("the server is another one")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "web.yaml"), []byte(loadedManifest), 0o600); err != nil {
		t.Fatal(err)
	}
	port := kubetest.FreePort(t)
	u := &underLoad{t: t, corefile: fmt.Sprintf(loadedCorefile, port, kubetest.FreePort(t), dir)}
	u.load = dnsload.Load{Server: netip.MustParseAddrPort("127.0.0.1:" + port), PerSecond: float64(*rate), CPU: -1, Patience: 3 * time.Second}
	for _, q := range []struct {
		name           string
		rcode, answers int
	}{{"web.default.svc.cluster.local.", dns.RcodeSuccess, 1}, {"www.example.com.default.svc.cluster.local.", dns.RcodeNameError, 0}, {"alias.default.pod.cluster.local.", dns.RcodeNameError, 0}} {
		packed, err := new(dns.Msg).SetQuestion(q.name, dns.TypeA).Pack()
		if err != nil {
			t.Fatal(err)
		}
		u.load.Questions = append(u.load.Questions, dnsload.Question{Message: packed, Rcode: q.rcode, Answers: q.answers})
	}
	var err error
	if u.asker, err = dnsload.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.asker.Close() })
	u.start()
	return u
}

// start starts the server, and waits until it answers.
func (u *underLoad) start() {
	u.t.Helper()
	u.Process = kubetest.StartProgram(u.t, nil, false, u.corefile)
	u.answers()
}

func (u *underLoad) answers() {
	u.t.Helper()
	client := dns.Client{Timeout: 100 * time.Millisecond}
	clustertest.Eventually(u.t, 30*time.Second, "an answer", func() error {
		m, _, err := client.Exchange(new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA), u.load.Server.String())
		if err == nil && len(m.Answer) != 1 {
			err = fmt.Errorf("%v", m)
		}
		return err
	})
}

// ask asks for some time.
func (u *underLoad) ask(d time.Duration) dnsload.Result {
	u.t.Helper()
	l := u.load
	l.For = d
	r := u.asker.Run(l)
	if r.Failed != "" || r.Wrong > 0 {
		u.t.Fatalf("asking failed: %s; %d replies are wrong, such as %x", r.Failed, r.Wrong, r.Sample)
	}
	return r
}

// TestReloadsUnderLoad reloads the server while it is asked, and then ends it: no question
// stays without its answer.
func TestReloadsUnderLoad(t *testing.T) {
	const reloads = 100
	u := startUnderLoad(t)
	var done atomic.Int64
	go func() {
		defer done.Add(1_000_000)
		for n := 1; n <= reloads; n++ {
			u.Signal(syscall.SIGUSR1)
			for deadline := time.Now().Add(20 * time.Second); strings.Count(u.Log(), "Reloading complete") < n; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					return
				}
			}
			done.Add(1)
		}
	}()
	var sent, lost int
	for done.Load() < 1_000_000 {
		r := u.ask(2 * time.Second)
		sent, lost = sent+r.Sent, lost+r.Lost()
	}
	n := done.Load() - 1_000_000
	t.Logf("%d questions during %d reloads, %d lost", sent, n, lost)
	if n != reloads || lost > 0 {
		t.Errorf("%d of %d reloads are done, %d of %d questions are lost\n%s", n, reloads, lost, sent, u.Log())
	}
	if on := strings.Count(u.Log(), "fastpath: on for"); on != reloads+1 {
		t.Errorf("the fast path is on %d times after %d reloads", on, n)
	}

	go func() {
		time.Sleep(300 * time.Millisecond)
		u.Signal(syscall.SIGTERM)
	}()
	r := u.ask(2 * time.Second)
	if t.Logf("%d questions while it ends, %d lost", r.Sent, r.Lost()); r.Lost() > 0 {
		t.Errorf("%d of %d questions are lost while it ends", r.Lost(), r.Sent)
	}
}

// TestKillUnderLoad kills the server, and starts it again: what is lost came while there was
// none.
func TestKillUnderLoad(t *testing.T) {
	u := startUnderLoad(t)
	gap := make(chan time.Duration, 1)
	go func() {
		time.Sleep(500 * time.Millisecond)
		began := time.Now()
		u.Process.Stop(syscall.SIGKILL)
		u.start()
		gap <- time.Since(began)
	}()
	var sent, lost int
	var away time.Duration
	for again := 0; again < 10; {
		// The load catches up after an error, so it is of short pieces.
		r := u.ask(100 * time.Millisecond)
		sent, lost = sent+r.Sent, lost+r.Lost()
		select {
		case away = <-gap:
			again++
		default:
			if again > 0 {
				again++
			}
		}
	}
	most := int(away.Seconds() * float64(*rate))
	t.Logf("%d questions, %d lost; there was no server for %v at most, in which %d came", sent, lost, away.Round(time.Millisecond), most)
	if lost > most {
		t.Errorf("%d questions are lost, %d came while there was no server", lost, most)
	}
}
