package hostaddrs

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/clusterip/clusterip/kernelnat/netlab"
)

func TestList(t *testing.T) {
	netlab.Require(t)
	n, err := netlab.NewNode()
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	var got []netip.Prefix
	if err := n.Do(func() (err error) {
		got, err = List()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"127.0.0.1/8", "::1/128"} {
		if !slices.Contains(got, netip.MustParsePrefix(want)) {
			t.Errorf("%s is not among %v", want, got)
		}
	}
	for _, p := range got {
		if a := p.Addr(); a.Is4In6() || a.Zone() != "" || p.Bits() < 0 {
			t.Errorf("%v", p)
		}
	}
}
