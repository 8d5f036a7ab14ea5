package kubetest

import (
	"os/exec"
	"testing"

	"github.com/clusterip/clusterip/kernelnat/netlab"
)

// NewNode makes a node that goes with the test.
func NewNode(t testing.TB) *netlab.Node {
	t.Helper()
	n, err := netlab.NewNode()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close node: %v", err)
		}
	})
	return n
}

// Output runs a tool on a host and returns what it prints. If the tool fails, so does the
// test.
func Output(t testing.TB, host *netlab.Host, name string, args ...string) string {
	t.Helper()
	var out []byte
	err := host.Do(func() (err error) {
		out, err = exec.Command(name, args...).Output()
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return string(out)
}
