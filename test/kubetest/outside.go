package kubetest

import (
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/test/clustertest"
	"k8s.io/client-go/tools/clientcmd"
)

// outsideKubeconfig is the variable of the environment that says, in a machine of test/kernels, where
// a kubeconfig is of the API server that runs outside of it. An emulated machine would take minutes
// to start one.
const outsideKubeconfig = "OUTSIDE_KUBECONFIG"

// hostOfMachine is by what address a machine reaches the loopback of the machine that emulates it
// (QEMU's user network).
var hostOfMachine = netip.MustParseAddr("10.0.2.2")

// outside returns the kubeconfig of an API server outside, or "" if there is none.
func outside() (path string) { return os.Getenv(outsideKubeconfig) }

// MachineKubeconfig is Kubeconfig for machines that this one emulates.
func (c *ControlPlane) MachineKubeconfig() string {
	c.t.Helper()
	_, port, err := net.SplitHostPort(c.address)
	if err != nil {
		c.t.Fatal(err)
	}
	return c.kubeconfig(net.JoinHostPort(hostOfMachine.String(), port), c.admin)
}

// reach returns the control plane of a kubeconfig, when it answers. It cannot be stopped.
func reach(t testing.TB, path string) *ControlPlane {
	t.Helper()
	Require(t)
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	c := &ControlPlane{t: t, dir: t.TempDir(), address: strings.TrimPrefix(config.Host, "https://"), admin: config.BearerToken, ca: config.CAData}
	clustertest.Eventually(t, patience, "an answer of "+config.Host, c.connect)
	return c
}
