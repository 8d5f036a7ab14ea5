package kubetest

import (
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
