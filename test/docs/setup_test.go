package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What make setup installs, on machines that are played by stubs of the commands
// it asks.
func TestSetup(t *testing.T) {
	make, err := exec.LookPath("make")
	if err != nil {
		t.Skip("needs make")
	}
	const headers, noHeaders = "exit 0", "echo 'stdlib.h: No such file' >&2; exit 1"
	for _, c := range []struct {
		name, gcc, uid string
		want           string // in the output
		not            string
	}{
		{"gcc without libc6-dev", noHeaders, "0", "apt-get install -y -qq --no-install-recommends libc6-dev\n", "missing"},
		{"nothing to do", headers, "0", "", "apt-get"},
		{"not root", noHeaders, "1000", "missing on this machine: libc6-dev (", "apt-get"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bin := t.TempDir()
			for name, script := range map[string]string{
				"gcc": c.gcc, "id": "echo " + c.uid, "apt-get": `echo "apt-get $*" >&2`,
				"iptables": "", "nft": "", "conntrack": "", "ip": "", "host": "", "dig": "", "curl": "",
			} {
				if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.Command(make, "--no-print-directory", "setup")
			cmd.Dir = repository
			cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if !strings.Contains(string(out), c.want) || c.not != "" && strings.Contains(string(out), c.not) {
				t.Errorf("want %q and not %q in\n%s", c.want, c.not, out)
			}
		})
	}
}
