package commits

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clusterip/clusterip/kernelnat/netlab"
)

func newNamespace(t *testing.T) *netlab.Namespace {
	t.Helper()
	netlab.Require(t, "nft", "iptables-nft-restore")
	t.Setenv("XTABLES_LOCKFILE", filepath.Join(t.TempDir(), "lock"))
	n, err := netlab.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func run(t *testing.T, n *netlab.Namespace, input, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(input)
	var out []byte
	if err := n.Do(func() (err error) { out, err = cmd.CombinedOutput(); return err }); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// A mark is seen in what either tool writes, in the commit that brings it and in that
// which takes it away, and in no other.
func TestWatch(t *testing.T) {
	n := newNamespace(t)
	seen := make(chan Commit, 16)
	Watch(t, n, func(c Commit) { seen <- c })
	const wanted = 0x1234
	for _, step := range []struct {
		what, input string
		command     []string
		marks       bool
	}{
		{"a map without it", "table ip t { map m { type ipv4_addr : ipv4_addr; elements = { 10.43.0.1 : 10.45.18.52 } ; } ; }", []string{"nft", "-f", "-"}, false},
		{"an element", fmt.Sprintf("add element ip t m { 10.43.0.2 : %s }", Mark(wanted)), []string{"nft", "-f", "-"}, true},
		{"the element away", "delete element ip t m { 10.43.0.2 }", []string{"nft", "-f", "-"}, true},
		{"a rule of nftables", fmt.Sprintf("add chain ip t c\nadd rule ip t c ip protocol tcp dnat to %s:80", Mark(wanted)), []string{"nft", "-f", "-"}, true},
		{"a rule of iptables", fmt.Sprintf("*nat\n:A - [0:0]\n-A A -p tcp -j DNAT --to-destination %s:80\nCOMMIT\n", Mark(wanted)), []string{"iptables-nft-restore"}, true},
	} {
		run(t, n, step.input, step.command[0], step.command[1:]...)
		select {
		case c := <-seen:
			if slices.Contains(c.Marks, wanted) != step.marks {
				t.Errorf("%s: marks %v", step.what, c.Marks)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: no commit is told of", step.what)
		}
	}
}

// The writer that commits nothing is counted nowhere and waits for a large transaction.
func TestWait(t *testing.T) {
	n := newNamespace(t)
	told := make(chan Commit, 16)
	Watch(t, n, func(c Commit) { told <- c })
	var large strings.Builder
	large.WriteString("table ip t { map m { type ipv4_addr . inet_service : ipv4_addr; elements = {")
	for i := range 1 << 16 {
		fmt.Fprintf(&large, "%s . 80 : 10.45.0.1,", Mark(i))
	}
	large.WriteString("} ; } ; }")
	longest := Wait(t, n)
	run(t, n, large.String(), "nft", "-f", "-")
	if waited := longest(); waited < time.Millisecond {
		// However fast a machine is.
		t.Errorf("nobody waited longer than %v for 65,536 elements", waited)
	}
	run(t, n, "add table ip after", "nft", "-f", "-")
	if c := <-told; len(c.Marks) == 0 {
		t.Error("the first commit that is told of is not that of the elements")
	}
	if c := <-told; len(c.Marks) > 0 {
		t.Errorf("the second has %d marks", len(c.Marks))
	}
	if len(told) > 0 {
		t.Errorf("a commit of nothing is told of: %v", <-told)
	}
}
