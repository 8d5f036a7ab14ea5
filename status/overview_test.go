package status

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

func TestBlockCondition(t *testing.T) {
	good := Source{Place: "the folder /m", Synced: true}
	for want, f := range map[string]BlockFacts{
		"ok: the folder /m is read, and followed":                              {Source: good},
		"wrong: the folder /m has not been read yet, so nothing is answered":   {Source: Source{Place: "the folder /m"}},
		"wrong: the folder /m is out of reach, so this is what was last known": {Source: Source{Place: "the folder /m", Synced: true, OutOfTouch: true}},
		"wrong: the folder /m has 2 faults":                                    {Source: good, Told: Told{Faults: []string{"a", "b"}}},
	} {
		if b := NewBlock(f); fmt.Sprintf("%s: %s", b.Condition, b.Text) != want {
			t.Errorf("%s: %s, want %s", b.Condition, b.Text, want)
		}
	}
}

func TestFamilyCondition(t *testing.T) {
	written := NAT{Updated: time.Now()}
	failed, waiting, large := written, written, written
	failed.Error = "no netlink"
	waiting.Waiting = []Waiting{{Why: "no memory"}, {}}
	large.Waiting = []Waiting{{}}
	for want, f := range map[string]FamilyFacts{
		"ok: the kernel was given all that is planned":                            {NAT: written},
		"notice: nothing has been written yet":                                    {},
		"notice: dry_run is set, so nothing is written to the kernel":             {NAT: failed, DryRun: true},
		"wrong: the last write to the kernel failed: no netlink":                  {NAT: failed},
		"wrong: the rules of 1 Service could not be written, and are tried again": {NAT: waiting},
		"notice: the rules of 1 large Service are being written":                  {NAT: large},
		"notice: changes are being written":                                       {NAT: written, Pending: true},
	} {
		if s := newFamilyState(&f); fmt.Sprintf("%s: %s", s.Condition, s.Text) != want || s.DryRun != f.DryRun {
			t.Errorf("%s: %s, dry run %t, want %s", s.Condition, s.Text, s.DryRun, want)
		}
	}
}

// Lists are cut, and say by how much.
func TestOverviewBounds(t *testing.T) {
	nat := NAT{Repairs: 3, Repaired: []string{"a rule"}, RepairedBy: "nft"}
	for i := range 25 {
		key := plan.Key{At: netip.AddrPortFrom(netip.MustParseAddr("203.0.113.7"), uint16(i+1)), Protocol: cluster.TCP}
		nat.Short = append(nat.Short, plan.Shortfall{
			Service: cluster.ServiceName{Namespace: "a", Name: fmt.Sprint(i)},
			Refused: []plan.Refusal{{Key: key, Why: plan.IsHeld}}, Excess: "too many ports",
		})
	}
	b := NewBlock(BlockFacts{
		Source: Source{Synced: true}, Told: Told{Faults: strings.Fields(strings.Repeat("fault ", 30))},
		Families: []FamilyFacts{{Family: cluster.IPv4, NAT: nat}},
	})
	s := b.NAT[0]
	if len(b.Faults) != maxListed || b.FaultsLeft != 10 || len(s.Refused) != maxListed || s.RefusedLeft != 30 {
		t.Errorf("%d and %d faults, %d and %d refused", len(b.Faults), b.FaultsLeft, len(s.Refused), s.RefusedLeft)
	}
	if s.Refused[0].At != "203.0.113.7:1/TCP" || s.Refused[1].At != "" || s.LastRepair.By != "nft" {
		t.Errorf("%+v", s)
	}
}

func TestHistogramAdd(t *testing.T) {
	var h Histogram
	one := Histogram{Count: 3, Bounds: []float64{1, 2}, Counts: []uint64{1, 3}}
	h.Add(one)
	h.Add(one)
	if h.Count != 6 || h.Counts[0] != 2 || h.Counts[1] != 6 || one.Counts[0] != 1 {
		t.Errorf("%+v, %+v", h, one)
	}
}
