package ipvs

import (
	"net"
	"slices"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/vishvananda/netlink"
)

// A local route to virtual servers that somebody has removed is missed.
func TestRouteIsUndone(t *testing.T) {
	netlab.Require(t)
	n, err := netlab.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(n.Do(func() error {
		lo, err := netlink.LinkByName("lo")
		must(err)
		must(netlink.LinkSetUp(lo))
		for _, family := range cluster.Families {
			within := ranges[family]
			route := "no local route leads to " + within.String()
			missed := func() bool { return slices.Contains(undone(within), route) }
			if !missed() {
				t.Errorf("%s: there is no route yet", family)
			}
			to, err := routeTo(within)
			must(err)
			must(netlink.RouteReplace(to))
			if missed() {
				t.Errorf("%s: the route is there: %q", family, undone(within))
			}
			other := *to
			other.Dst = &net.IPNet{IP: slices.Clone(to.Dst.IP), Mask: to.Dst.Mask}
			other.Dst.IP[2]++
			must(netlink.RouteReplace(&other))
			must(removeRoute(within))
			if !missed() {
				t.Errorf("%s: the route has gone", family)
			}
			if err := netlink.RouteDel(&other); err != nil {
				t.Errorf("%s: the route to %s is somebody else's, and has gone: %v", family, other.Dst, err)
			}
		}
		return nil
	}))
}
