package kubernetes

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/test/kubetest"
)

// The preflight asks the API server for the Node and for what it says of pods.
func TestPreflight(t *testing.T) {
	a, n, _ := startNode(t, "in-zone-0")
	a.AddNode(inZone("zone-0"))
	kubeconfig := a.KubeconfigOn(n.Host)
	for _, c := range []struct{ name, node, option, want string }{
		{"the Node is there", kubetest.NodeName, "cluster_cidr 10.42.0.0/16", ""},
		{"another name", "nosuch", "cluster_cidr 10.42.0.0/16", `Corefile:7: kernelnat: no Node is called "nosuch": `},
		{"no podCIDRs", kubetest.NodeName, "detect_local node_cidr", "Corefile:8: kernelnat: detect_local is node_cidr, and Node " + kubetest.NodeName + " has no spec.podCIDRs: give the Node spec.podCIDRs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			text := fmt.Sprintf("cluster.local:5353 {\n bind 127.0.0.1\n clusterip {\n  kubeconfig %s\n }\n kernelnat {\n  node_name %s\n  %s\n  conntrack_max_per_core 0\n }\n}\n", kubeconfig, c.node, c.option)
			if err := os.WriteFile(filepath.Join(dir, "Corefile"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(kubetest.Program(t, true), "check", "-node")
			cmd.Dir = dir
			var out, talk strings.Builder
			cmd.Stdout, cmd.Stderr = &out, &talk
			err := n.Do(cmd.Run)
			if ended := (*exec.ExitError)(nil); err != nil && !errors.As(err, &ended) {
				t.Fatal(err)
			}
			switch {
			case c.want == "" && (err != nil || out.String() != "" || !strings.Contains(talk.String(), "Corefile is sound. No fault was found on this machine.")):
				t.Errorf("%v\n%s\n%s", err, out.String(), talk.String())
			case c.want != "" && (cmd.ProcessState.ExitCode() != 1 || !strings.HasPrefix(out.String(), c.want) || strings.Count(out.String(), "\n") != 1):
				t.Errorf("%v\n%s\nwant %s\n%s", err, out.String(), c.want, talk.String())
			}
		})
	}
}
