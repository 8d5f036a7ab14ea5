package nftables

import (
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
)

// A probe has the kernel look, which says what it does not take, and leaves no trace.
func TestProbeTakesNothing(t *testing.T) {
	h := newHost(t)
	var ledger netfilter.Ledger
	h.do(func() error { _, err := ledger.Foreign(); return err })
	h.do(Probe)
	h.do(func() error {
		s, err := dial()
		if err != nil {
			return err
		}
		defer s.Close()
		b, err := probe(cluster.IPv4)
		if err != nil {
			return err
		}
		b.emptyChain("nosuch")
		if err := try(s, b); err == nil || !strings.Contains(err.Error(), "no such file or directory") {
			t.Errorf("a chain that is not there: %v", err)
		}
		if b, err = probe(cluster.IPv4); err != nil {
			return err
		}
		return try(s, b) // as if the other had not been
	})
	h.do(func() error {
		if n, err := ledger.Foreign(); n != 0 || err != nil {
			t.Errorf("nf_tables counts %d transactions, %v", n, err)
		}
		return nil
	})
	if out := h.nft("", "list", "ruleset"); out != "" {
		t.Errorf("there is\n%s", out)
	}
}
