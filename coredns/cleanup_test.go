package main

import (
	"flag"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/kernelnat/netlab"
)

func TestWithSbin(t *testing.T) {
	for path, want := range map[string]string{
		"":              "/usr/sbin:/sbin",
		"/usr/bin:/bin": "/usr/bin:/bin:/usr/sbin:/sbin",
	} {
		if got := withSbin(path); got != want {
			t.Errorf("PATH %q becomes %q, want %q", path, got, want)
		}
	}
}

func TestCleanupFindsSbin(t *testing.T) {
	netlab.Require(t, "iptables")
	program, err := exec.LookPath("coredns") // put there by testscript.Main
	if err != nil {
		t.Fatal(err)
	}
	n, err := netlab.NewNode()
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	cmd := exec.Command(program, "cleanup")
	cmd.Env = append(os.Environ(), "PATH=/usr/bin:/bin")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := n.Do(cmd.Run); err != nil || !strings.Contains(stderr.String(), "No rule of kernelnat is left") {
		t.Errorf("error %v\n%s", err, stderr.String())
	}
}

// Without the tools nothing can be said to be clean. Called here and not in a
// script, since main would look into sbin and clean the machine.
func TestCleanupWithoutTools(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if code := runCleanup(flag.NewFlagSet("cleanup", flag.ContinueOnError), nil); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
}
