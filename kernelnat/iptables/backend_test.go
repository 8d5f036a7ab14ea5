package iptables

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/backendtest"
	"github.com/clusterip/clusterip/kernelnat/nattest"
)

func TestBackend(t *testing.T) {
	for _, v := range variants {
		t.Run(string(v), func(t *testing.T) {
			t.Setenv("XTABLES_LOCKFILE", filepath.Join(t.TempDir(), "lock"))
			backendtest.Run(t, func(t *testing.T, node *nattest.Node) kernelnat.Backend {
				t.Helper()
				// Which variant it uses, the backend finds out by itself.
				err := node.Do(func() error {
					return exec.Command("iptables-"+string(v), "-t", "mangle", "-N", "KUBE-IPTABLES-HINT").Run()
				})
				if err != nil {
					t.Fatal(err)
				}
				return newBackend(t)
			}, "iptables-"+string(v), "ip6tables-"+string(v))
		})
	}
}
