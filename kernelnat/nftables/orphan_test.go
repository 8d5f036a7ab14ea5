package nftables

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/clusterip/clusterip/test/clustertest"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// The table of a process that has ended is the next one's alone, as it was that one's.
func TestNextProcessOwnsTheTable(t *testing.T) {
	h := newHost(t)
	write := func(b *Backend) (err error) {
		h.do(func() error { _, err = b.Sync(context.Background(), stateOf(cluster.IPv4)); return nil })
		return err
	}
	first, second, third := newBackend(t, cluster.IPv4, settings), newBackend(t, cluster.IPv4, settings), newBackend(t, cluster.IPv4, settings)
	if err := write(first); err != nil {
		t.Fatal(err)
	}
	if !first.owned {
		t.Skip("this kernel's tables cannot be owned and stay")
	}
	if err := write(second); !errors.Is(err, errOwned) {
		t.Errorf("while another process has the table: %v", err)
	}
	first.Close()
	if err := write(second); err != nil {
		t.Fatal(err)
	}
	if !second.owned || len(second.Tables()) > 0 {
		t.Error("the next process does not own the table")
	}
	before := listed(h)
	h.nft("flush ruleset", "-f", "-")
	if after := listed(h); len(after) != len(before) {
		t.Errorf("somebody else has flushed the table: %d lines are left of %d", len(after), len(before))
	}
	second.Close()
	h.do(func() error { return third.Cleanup(context.Background()) })
	if left := listed(h); len(left) > 0 {
		t.Errorf("after cleanup: %q", left)
	}
}

// What somebody has added to an orphan, so that it refuses the source, is undone before the
// source has told of anything. What leads to Services is as before.
func TestOrphanThatRefusesTheSource(t *testing.T) {
	for _, primary := range []bool{false, true} {
		h, settings := newHost(t), settings
		settings.NodePorts.Primary = primary
		state := stateOf(cluster.IPv4)
		state.Node.Addresses = clustertest.Addrs("192.0.2.7")
		first, next := newBackend(t, cluster.IPv4, settings), newBackend(t, cluster.IPv4, settings)
		write := func(b *Backend) (written []string) {
			h.do(func() (err error) { written, err = b.Sync(t.Context(), state); return err })
			return written
		}
		write(first)
		first.Close()
		flags := func(line string) bool { return strings.HasPrefix(line, "flags") } // an orphan's differ
		before := slices.DeleteFunc(listed(h), flags)
		h.nft(`insert rule ip clusterip refuse ip daddr 198.51.100.77 drop
			insert rule ip clusterip refused ip daddr 198.51.100.77 drop
			insert rule ip clusterip output ip daddr 198.51.100.77 drop
			insert rule ip clusterip nat-output ip daddr 198.51.100.77 dnat to 192.0.2.1
			add chain ip clusterip output { policy drop; }
			add chain ip clusterip mine { type filter hook output priority 0; policy drop; }`, "-f", "-")
		h.do(func() error { return next.Refuse(t.Context(), nil) })
		if after := strings.Join(listed(h), "\n"); strings.Contains(after, "198.51.100.77") || strings.Contains(after, "policy drop") {
			t.Errorf("primary %t: left is\n%s", primary, after)
		}
		write(next)
		if diff := cmp.Diff(before, slices.DeleteFunc(listed(h), flags)); diff != "" {
			t.Errorf("primary %t: %s", primary, diff)
		}
	}
}

// Where the table of one family is owned and the other is not, what is written to the first does
// not count as others' writes to the second. The kernel makes no table owned that was not, so
// one that is there stays so.
func TestOneFamilyOwned(t *testing.T) {
	h := newHost(t)
	h.nft("add table ip clusterip", "-f", "-")
	both, err := New(settings)
	if err != nil {
		t.Fatal(err)
	}
	v4, v6 := both[cluster.IPv4].(*Backend), both[cluster.IPv6].(*Backend)
	defer v4.Close()
	defer v6.Close()
	for _, b := range []*Backend{v4, v6} {
		h.do(func() error { _, err := b.Sync(t.Context(), stateOf(b.family)); return err })
	}
	if !v6.owned {
		t.Skip("this kernel's tables cannot be owned and stay")
	}
	h.do(func() error {
		if err := v4.claim(t.Context(), flagOwner|flagPersist); v4.owned || !errors.Is(err, unix.EOPNOTSUPP) {
			t.Errorf("the table is owned: %t; to own it: %v", v4.owned, err)
		}
		return nil
	})
	gone := stateOf(cluster.IPv6).Services[0]
	h.do(func() error {
		return v6.Apply(t.Context(), []kernelnat.Change{{Old: gone, New: plan.Service{Name: gone.Name}}})
	})
	h.do(func() error {
		if !v4.Untouched() {
			t.Error("what we write counts as others'")
		}
		return nil
	})
	h.nft("add table ip stranger", "-f", "-")
	h.do(func() error {
		if v4.Untouched() {
			t.Error("what others write counts as ours")
		}
		return nil
	})
}
