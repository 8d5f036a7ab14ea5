package netfilter

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
)

// What drops what is forwarded or comes in is found beside few chains and, where iptables has the rules of Services, very many.
func TestFindDrops(t *testing.T) {
	h := newHost(t)
	look := func() (all []string) {
		t.Helper()
		h.do(t, func() error {
			drops, err := FindDrops(cluster.IPv4)
			all = slices.Concat(drops.Forward, drops.Input)
			return err
		})
		return all
	}
	if got := look(); len(got) > 0 {
		t.Errorf("without chains: %q", got)
	}
	h.nft(t, "table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; chain INPUT { type filter hook input priority 0; policy drop; }; }; "+
		"table inet firewall { chain forwarded { type filter hook forward priority 0; policy drop; }; chain other { type filter hook forward priority 1; policy accept; }; }")
	want := []string{"chain FORWARD of table ip filter", "chain forwarded of table inet firewall", "chain INPUT of table ip filter"}
	if got := look(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	var many strings.Builder
	many.WriteString("table ip nat {\n")
	for i := range manyChains + 1 {
		fmt.Fprintf(&many, "chain KUBE-SEP-%d {\n}\n", i)
	}
	h.nft(t, many.String()+"}")
	if got := look(); !slices.Equal(got, want) {
		t.Errorf("beside many chains: %q, want %q", got, want)
	}
	h.nft(t, "delete table ip filter")
	if got := look(); !slices.Equal(got, want[1:2]) {
		t.Errorf("without the chain of iptables: %q, want %q", got, want[1:2])
	}
}
