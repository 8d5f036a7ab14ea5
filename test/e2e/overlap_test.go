package e2e

import (
	"errors"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/clusterip/clusterip/test/kubetest"
)

// The range of ClusterIPs holds the pods: they are reached, through their Service and
// by themselves, and what is nobody's is refused.
func TestRangeHoldsThePods(t *testing.T) { eachBackend(t, rangeHoldsThePods) }

func rangeHoldsThePods(t *testing.T, backend string) {
	n, client := newEcho(t, backend)
	n.configure("service_cidr 10.43.0.0/16 ", "service_cidr 10.42.0.0/15 ")
	p := n.start()
	pod := netip.MustParseAddrPort("10.42.0.10:5678")
	for _, network := range []string{"tcp", "udp"} {
		eventually(t, "an answer of the Service", reaches(client, network, echoIPv4))
		for range 10 {
			for _, to := range []netip.AddrPort{echoIPv4, pod} {
				if _, err := ask(client, network, to); err != nil {
					t.Errorf("%s %s: %v", network, to, err)
				}
			}
		}
		if _, err := ask(n.Outside, network, pod); err != nil {
			t.Errorf("from outside the cluster, %s %s: %v", network, pod, err)
		}
	}
	if _, err := ask(client, "tcp", netip.MustParseAddrPort("10.43.99.99:80")); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("an address that nobody has: %v", err)
	}
	const told = "the range of ClusterIPs 10.42.0.0/15 overlaps cluster_cidr, such as 10.42.0.0/16"
	if !strings.Contains(p.Log(), told) {
		t.Errorf("the log does not say %q", told)
	}
	check, err := exec.Command(n.program, "check", "-conf", n.conf).CombinedOutput()
	if err != nil || !strings.Contains(string(check), told) {
		t.Errorf("check: %v\n%s", err, check)
	}
	p.Stop(syscall.SIGTERM)
	kubetest.Output(t, n.Host, n.program, "cleanup")
	if left := n.kernelRules(); strings.Contains(left, "KUBE-SERVICE-RANGES") || backend == "nftables" && left != "" {
		t.Errorf("after cleanup:\n%s", left)
	}
}
