package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/clusterip/clusterip/test/kubetest"
)

// A reload with another backend has the new one write everything before the rules of the
// other go, and the log says what auto stands for.
func TestReloadWithAnotherBackend(t *testing.T) {
	n, client := newEcho(t, "iptables")
	n.write("web.yaml", loadBalancerService)
	p := n.start()
	eventually(t, "an answer", reaches(client, "tcp", echoIPv4))
	noneFailed := keepAsking(t, client)
	reload := func(from, to string) {
		t.Helper()
		before := strings.Count(p.Log(), "all rules are in place")
		n.configure("backend "+from, "backend "+to)
		p.Signal(syscall.SIGUSR1)
		eventually(t, "the rules of backend "+to, func() error {
			if got := strings.Count(p.Log(), "all rules are in place") - before; got < 2 {
				return fmt.Errorf("%d families are in place", got)
			}
			return nil
		})
		// The kernel has to be told to route its packets, by whichever backend.
		if _, err := ask(n.Host, "tcp", netip.MustParseAddrPort("127.0.0.1:30080")); err != nil {
			t.Errorf("a NodePort at 127.0.0.1 with backend %s: %v", to, err)
		}
	}
	holds := func(iptables, nftables bool) {
		t.Helper()
		err := errors.Join(
			n.holds("iptables", "-j KUBE-SVC-", iptables),
			n.holds("nftables", "testing/echo", nftables),
		)
		if err != nil {
			t.Error(err)
		}
	}
	for range 2 {
		reload("iptables", "nftables")
		holds(false, true)
		reload("nftables", "iptables")
		holds(true, false)
	}
	reload("iptables", "auto")
	for _, line := range []string{"the backend is iptables, as configured", "the backend is nftables, as configured", "backend auto is "} {
		if !strings.Contains(p.Log(), line) {
			t.Errorf("the log does not say %q", line)
		}
	}
	noneFailed()
	p.Stop(syscall.SIGTERM)
	kubetest.Output(t, n.Host, n.program, "cleanup")
	holds(false, false)
}

// holds checks whether the kernel has a rule of a backend with a text.
func (n *node) holds(backend, text string, want bool) error {
	n.backend = backend
	return n.hasRule(text, want)()
}
