// Package netlab builds small networks out of Linux network namespaces, for
// tests that send real packets and for the demo: a Node with pods behind a
// bridge and one host outside, and echo servers and clients in them.
//
// A namespace is held by a file descriptor and nothing else, so it disappears
// with Close, and also when the process is killed. The namespace the process
// itself runs in is never changed.
//
// The package needs Linux, root (CAP_NET_ADMIN, CAP_SYS_ADMIN) and a /proc/sys
// that can be written; Require checks that. It runs no NAT of its own, no DHCP
// and no names. Start with NewNode.
package netlab

import (
	"fmt"
	"os"
	"os/exec"
)

// T is what Require needs of a testing.TB.
type T interface {
	Helper()
	Skipf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Require skips the test, with the reason, on a machine where a Node cannot be
// made or where one of the tools is not installed. With E2E_REQUIRED=1 in the
// environment it fails the test instead.
func Require(t T, tools ...string) {
	t.Helper()
	err := Check(tools...)
	switch {
	case err == nil:
	case os.Getenv("E2E_REQUIRED") == "1":
		t.Fatalf("E2E_REQUIRED=1 and %v", err)
	default:
		t.Skipf("needs network namespaces: %v", err)
	}
}

// Check says why this process cannot make a Node or run one of the tools; nil
// if it can.
func Check(tools ...string) error {
	if uid := os.Geteuid(); uid != 0 {
		return fmt.Errorf("this process has user id %d, not 0: run it as root", uid)
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("find tool: %w", err)
		}
	}
	n, err := NewNamespace()
	if err != nil {
		return err
	}
	defer n.Close()
	return n.Do(setForwarding)
}
