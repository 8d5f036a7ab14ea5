package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/test/kubetest"
	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

const otherService = `apiVersion: v1
kind: Service
metadata:
  name: other
  namespace: testing
spec:
  selector: {app: echo}
  clusterIP: 10.43.0.8
  ports: [{port: 8080, targetPort: 5678}]
`

// A manifest that is broken when the program starts takes neither the Service's
// name nor its rules away, and holds up nobody else.
func TestStartWithABrokenManifest(t *testing.T) { eachBackend(t, startWithABrokenManifest) }

func startWithABrokenManifest(t *testing.T, backend string) {
	n, client := newEcho(t, backend)
	p := n.start()
	eventually(t, "an answer", reaches(client, "tcp", echoIPv4))
	p.Stop(syscall.SIGTERM)

	n.write("service.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: echo\n")
	n.write("other.yaml", otherService)
	n.start()
	eventually(t, "the other Service's rules", n.rulesHave("testing/other"))
	for _, to := range []string{echoIPv4.String(), "10.43.0.8:8080"} {
		if _, err := ask(client, "tcp", netip.MustParseAddrPort(to)); err != nil {
			t.Errorf("%s: %v", to, err)
		}
	}
	m, err := lookup(client, "echo.testing.svc.cluster.local.", dns.TypeA)
	if err != nil || len(m.Answer) != 1 || m.Answer[0].(*dns.A).A.String() != "10.43.0.7" {
		t.Errorf("the name of the Service whose manifest is broken: %v, %v", m, err)
	}

	n.remove("service.yaml")
	eventually(t, "the rules gone, now that all manifests can be read", n.rulesLack("testing/echo"))
	eventually(t, "the name gone", func() error {
		m, err := lookup(client, "echo.testing.svc.cluster.local.", dns.TypeA)
		if err == nil && m.Rcode != dns.RcodeNameError {
			err = errors.New(dns.RcodeToString[m.Rcode])
		}
		return err
	})
	if _, err := ask(client, "tcp", netip.MustParseAddrPort("10.43.0.8:8080")); err != nil {
		t.Error(err)
	}
}

// A UDP flow to a Service that was deleted while no program ran does not go on
// reaching what was its endpoint.
func TestFlowsOfAServiceThatWentWhileDown(t *testing.T) {
	eachBackend(t, flowsOfAServiceThatWentWhileDown)
}

func flowsOfAServiceThatWentWhileDown(t *testing.T, backend string) {
	n, client := newEcho(t, backend)
	p := n.start()
	eventually(t, "an answer", reaches(client, "udp", echoIPv4))
	conn, err := client.Dial(t.Context(), "udp", echoIPv4)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	eventually(t, "an answer on the flow", func() error { return exchange(conn) })
	p.Stop(syscall.SIGTERM)
	if err := exchange(conn); err != nil {
		t.Fatalf("while no program runs: %v", err)
	}

	n.remove("service.yaml")
	n.write("other.yaml", otherService)
	n.start()
	eventually(t, "no answer any more", func() error {
		if exchange(conn) == nil {
			return errors.New("the flow still reaches the pod")
		}
		return nil
	})
}

// While health is a lameduck, NAT and its health checks go on: connections still come.
func TestLameduck(t *testing.T) {
	const lameduck = 6 * time.Second
	n := newNode(t, "iptables")
	n.configure("errors\n", fmt.Sprintf("errors\n\thealth {\n\t\tlameduck %s\n\t}\n", lameduck))
	n.pod("echo-0", "10.42.0.10", "fd00:10:42::10")
	n.write("service.yaml", echoService)
	p := n.start()
	eventually(t, "the rules", n.rulesHave("10.42.0.10:5678"))

	p.Signal(syscall.SIGTERM)
	eventually(t, "the lameduck", p.Says("lameduck mode"))
	n.write("echo-0.yaml", podManifest("echo-0", "10.42.0.11", "fd00:10:42::11"))
	eventually(t, "the other endpoint in the rules", n.rulesHave("10.42.0.11:5678"))
	healthy := netip.AddrPortFrom(netlab.NodeIPv4.Addr(), 10256)
	eventually(t, "/healthz", answers(n.Outside, healthy, "/healthz", `200 {`))
	p.Stop(syscall.SIGTERM)
	if err := n.rulesHave("10.42.0.11:5678")(); err != nil {
		t.Errorf("after the end: %v", err)
	}
}

// A program that starts while another still is a lameduck, or is not ended at all,
// answers names at once, and its NAT begins when the other has ended.
func TestSuccessor(t *testing.T) {
	n, client := newEcho(t, "iptables")
	conf := fmt.Sprintf(corefile, n.manifests, n.state, n.backend)
	startWith := func(from, to string) *kubetest.Process {
		t.Helper()
		text := strings.Replace(conf, from, to, 1)
		if err := os.WriteFile(n.conf, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return n.start()
	}
	// Each of the waiting programs has ports of its own, to be told apart by.
	startWaiting := func(port uint16) *kubetest.Process {
		t.Helper()
		p := startWith(":53 {", fmt.Sprintf(":%d {", port))
		eventually(t, "names while NAT waits", func() error {
			m, err := lookupAt(client, netip.AddrPortFrom(dnsServer.Addr(), port), "echo.testing.svc.cluster.local.", dns.TypeA)
			if err == nil && len(m.Answer) != 1 {
				err = errors.New(m.String())
			}
			return err
		})
		if log := p.Log(); strings.Count(log, "NAT waits: kernelnat runs in another process") != 1 || strings.Contains(log, "NAT begins") {
			t.Errorf("the log does not say once that NAT waits:\n%s", log)
		}
		return p
	}
	follows := func(addr string) {
		t.Helper()
		n.write("echo-0.yaml", podManifest("echo-0", addr, "fd00:10:42::10"))
		eventually(t, addr+" in the rules", n.rulesHave(addr+":5678"))
	}

	first := startWith("errors\n", "errors\n\thealth {\n\t\tlameduck 6s\n\t}\n")
	eventually(t, "the rules", n.rulesHave("10.42.0.10:5678"))
	first.Signal(syscall.SIGTERM)
	second := startWaiting(5301)
	first.Stop(syscall.SIGTERM)
	follows("10.42.0.11")
	healthy := netip.AddrPortFrom(netlab.NodeIPv4.Addr(), 10256)
	eventually(t, "/healthz", answers(n.Outside, healthy, "/healthz", `200 {`))

	conf = strings.Replace(conf, "sync_period", "healthz :10257\n\t\tsync_period", 1)
	third := startWaiting(5302)
	if answers(n.Outside, netip.AddrPortFrom(netlab.NodeIPv4.Addr(), 10257), "/healthz")() == nil {
		t.Error("/healthz is answered while NAT waits")
	}
	third.Signal(syscall.SIGUSR1)
	eventually(t, "a reload while NAT waits", func() error {
		if strings.Count(third.Log(), "NAT waits") != 2 {
			return errors.New(third.Log())
		}
		return nil
	})
	fourth := startWaiting(5303)
	fourth.Stop(syscall.SIGTERM)
	second.Stop(syscall.SIGKILL)
	follows("10.42.0.12")
	eventually(t, "/healthz of the third", answers(n.Outside, netip.AddrPortFrom(netlab.NodeIPv4.Addr(), 10257), "/healthz", `200 {`))
}

// Whatever somebody removes of the rules is back within a sync_period, and what is
// not ours is left alone.
func TestForeignEditsAreRepaired(t *testing.T) { eachBackend(t, foreignEditsAreRepaired) }

func foreignEditsAreRepaired(t *testing.T, backend string) {
	n := newNode(t, backend)
	client := n.pod("client", "10.42.0.2", "fd00:10:42::2")
	n.remove("client.yaml")
	n.pod("echo-0", "10.42.0.10", "fd00:10:42::10")
	n.write("service.yaml", echoService)
	p := n.start()
	for _, to := range []netip.AddrPort{echoIPv4, echoIPv6} {
		eventually(t, "an answer", reaches(client, "tcp", to))
	}
	before := sorted(n.kernelRules())
	for _, damage := range damages[backend] {
		cmd := exec.Command("sh", "-c", damage)
		// Others may not write to a table that is owned.
		if err := n.Do(cmd.Run); err != nil && backend == "iptables" {
			t.Fatalf("%s: %v", damage, err)
		}
		eventually(t, "the rules as before after "+damage, func() error {
			if d := cmp.Diff(before, sorted(n.kernelRules())); d != "" {
				return errors.New(d)
			}
			return nil
		})
		for _, to := range []netip.AddrPort{echoIPv4, echoIPv6} {
			if _, err := ask(client, "tcp", to); err != nil {
				t.Errorf("after %s: %v", damage, err)
			}
		}
	}
	if backend == "iptables" && !strings.Contains(p.Log(), "had changed our rules; repaired: ") {
		t.Error("the log does not say what was repaired")
	}
}

// damages are what somebody does to the rules of a backend.
var damages = map[string][]string{
	"iptables": {
		"iptables -t nat -F && ip6tables -t nat -F", "iptables -F && ip6tables -F",
		"iptables -t nat -X KUBE-PROXY-CANARY && ip6tables -t nat -X KUBE-PROXY-CANARY",
		"iptables -t filter -D FORWARD 1 && ip6tables -t filter -D FORWARD 1",
		"iptables -t nat -F KUBE-SERVICES && ip6tables -t nat -F KUBE-SERVICES",
	},
	"nftables": {"nft flush ruleset", "nft delete table ip clusterip; nft delete table ip6 clusterip", "nft flush chain ip clusterip services"},
}

// exchange sends a datagram and waits a little for one.
func exchange(conn net.Conn) error {
	conn.SetDeadline(time.Now().Add(200 * time.Millisecond))
	if _, err := conn.Write([]byte("x")); err != nil {
		return err
	}
	buf := make([]byte, 512)
	size, err := conn.Read(buf)
	if err == nil && !strings.Contains(string(buf[:size]), "echo-0") {
		err = fmt.Errorf("answered %q", buf[:size])
	}
	return err
}
