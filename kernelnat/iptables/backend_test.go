package iptables

import (
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/backendtest"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
)

func TestBackend(t *testing.T) {
	for _, v := range variants {
		t.Run(string(v), func(t *testing.T) {
			t.Setenv("XTABLES_LOCKFILE", filepath.Join(t.TempDir(), "lock"))
			// Which variant it uses, the backend finds out by itself.
			hint := func() error {
				return exec.Command("iptables-"+string(v), "-t", "mangle", "-N", "KUBE-IPTABLES-HINT").Run()
			}
			lacks := Lacks
			if v == legacy {
				lacks = append(slices.Clone(lacks), cluster.RoundRobin)
			}
			backendtest.Run(t, lacks, hint, func() (map[cluster.Family]kernelnat.Backend, error) {
				return New(netfilter.Settings{MasqueradeBit: netfilter.DefaultMasqueradeBit})
			}, "iptables-"+string(v), "ip6tables-"+string(v))
		})
	}
}
