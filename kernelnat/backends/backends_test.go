package backends

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/kernelnat/netlab"
)

func TestFind(t *testing.T) {
	if _, err := Find(Default); err != nil {
		t.Error(err)
	}
	for _, b := range all {
		found, err := Find(b.Name)
		if err != nil || found.Name != b.Name {
			t.Errorf("%s: found %s, %v", b.Name, found.Name, err)
		}
		if _, err := Find("no-" + b.Name); err == nil || !strings.Contains(err.Error(), b.Name) {
			t.Errorf("an unknown one: error %v, want one with %s", err, b.Name)
		}
	}
}

// Each is whole: it prints rules, writes them, and leaves nothing of them.
func TestBackends(t *testing.T) {
	netlab.Require(t, "nft", "iptables-nft", "ip6tables-nft")
	t.Setenv("XTABLES_LOCKFILE", filepath.Join(t.TempDir(), "lock"))
	n, err := netlab.NewNode()
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for _, b := range all {
		if err := n.Do(func() error {
			settings := netfilter.Settings{MasqueradeBit: netfilter.DefaultMasqueradeBit}
			families, err := b.New(settings)
			if err != nil {
				return err
			}
			for _, family := range cluster.Families {
				var rules bytes.Buffer
				if err := b.Rules(&rules, family, kernelnat.State{}, settings); err != nil || rules.Len() == 0 {
					t.Errorf("%s %s: rules %q, %v", b.Name, family, rules.String(), err)
				}
				if written, err := families[family].Sync(t.Context(), kernelnat.State{}); err != nil || len(written) == 0 {
					t.Errorf("%s %s: wrote %q, %v", b.Name, family, written, err)
				}
			}
			if err := Cleanup(t.Context()); err != nil {
				return err
			}
			left, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
			if strings.Contains(string(left), "KUBE-") {
				t.Errorf("%s leaves behind\n%s", b.Name, left)
			}
			return err
		}); err != nil {
			t.Errorf("%s: %v", b.Name, err)
		}
	}
}
