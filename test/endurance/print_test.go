package endurance

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/test/kubetest"
)

// What coredns rules prints for nftables is taken by the nft program, for each folder of
// manifests of this repository.
func TestPrintedRulesAreTaken(t *testing.T) {
	netlab.Require(t, "nft")
	for _, folder := range []string{"coredns/demo/manifests", "corefile/standalone/manifests", "test/conformance/testdata/manifests"} {
		for _, family := range []string{"4", "6"} {
			t.Run(folder+" IPv"+family, func(t *testing.T) {
				dir, err := filepath.Abs(filepath.Join("../..", folder))
				if err != nil {
					t.Fatal(err)
				}
				n := &network{TB: t, node: kubetest.NewNode(t)}
				conf := filepath.Join(t.TempDir(), "Corefile")
				n.must(os.WriteFile(conf, fmt.Appendf(nil, corefile, 53, dir, conf+".state"), 0o644))
				var rules, stderr bytes.Buffer
				cmd := exec.Command(kubetest.Program(t, false), "rules", "-conf", conf, "-backend", "nftables", "-family", family)
				cmd.Stdout, cmd.Stderr = &rules, &stderr
				if err := n.node.Do(cmd.Run); err != nil {
					t.Fatalf("%v\n%s", err, stderr.String())
				}
				for _, args := range [][]string{{"-c", "-f", "-"}, {"-f", "-"}} {
					if out, err := n.nft(rules.String(), args...); err != nil {
						t.Errorf("nft %q: %v\n%s\n%s", args, err, out, rules.String())
					}
				}
				out, err := n.nft("", "list", "ruleset")
				if err != nil || !strings.Contains(out, "map frontends") {
					t.Errorf("nft lists %v\n%s", err, out)
				}
				t.Logf("%d lines", strings.Count(rules.String(), "\n"))
			})
		}
	}
}
