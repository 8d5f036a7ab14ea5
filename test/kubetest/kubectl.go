package kubetest

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Kubectl runs kubectl as one who may do everything, and returns what it prints; the
// error has what it complains of.
func (c *ControlPlane) Kubectl(args ...string) (stdout string, err error) {
	c.t.Helper()
	cmd := c.command("kubectl", append([]string{"--kubeconfig", c.Kubeconfig(), "--cache-dir", filepath.Join(c.dir, "kubectl")}, args...)...)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("kubectl %s: %w\n%s", args[0], err, complaint.String())
	}
	return string(out), err
}
