package nftables

import (
	"context"
	"errors"
	"testing"

	"github.com/clusterip/clusterip/cluster"
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
