package iptables

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/backendtest"
)

func TestBackend(t *testing.T) {
	for _, v := range variants {
		t.Run(string(v), func(t *testing.T) {
			t.Setenv("XTABLES_LOCKFILE", filepath.Join(t.TempDir(), "lock"))
			// Which variant it uses, the backend finds out by itself.
			hint := func() error {
				return exec.Command("iptables-"+string(v), "-t", "mangle", "-N", "KUBE-IPTABLES-HINT").Run()
			}
			backendtest.Run(t, hint, func() (map[cluster.Family]kernelnat.Backend, error) {
				out := make(map[cluster.Family]kernelnat.Backend)
				both, err := New(Options{MasqueradeBit: DefaultMasqueradeBit})
				for family, b := range both {
					out[family] = b
				}
				return out, err
			}, "iptables-"+string(v), "ip6tables-"+string(v))
		})
	}
}
