package kernelnat

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// What a real node's routes say of ranges, in both families.
func TestRoutes(t *testing.T) {
	netlab.Require(t)
	n, err := netlab.NewNode()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	ranges := cidrs("10.0.0.0/8", "192.0.2.128/25", "172.20.0.0/16", "2001:db8::/32", "fd00:10::/32")
	known := func(family cluster.Family) (all []plan.Known) {
		t.Helper()
		if err := n.Do(func() (err error) { all, err = nodeKnows(family, ranges); return err }); err != nil {
			t.Fatal(err)
		}
		return all
	}
	route := func(to string, kind int, table int) {
		t.Helper()
		_, dst, _ := net.ParseCIDR(to)
		r := &netlink.Route{Dst: dst, Type: kind, Table: table}
		if kind == unix.RTN_UNICAST {
			r.Gw = net.ParseIP("192.0.2.2")
		}
		if err := n.Do(func() error { return netlink.RouteAdd(r) }); err != nil {
			t.Fatalf("%s: %v", to, err)
		}
	}
	route("10.9.0.0/16", unix.RTN_UNICAST, unix.RT_TABLE_MAIN)
	route("10.10.0.0/16", unix.RTN_UNICAST, 100)
	route("10.11.0.0/16", unix.RTN_BLACKHOLE, unix.RT_TABLE_MAIN)
	route("10.12.0.0/16", unix.RTN_UNREACHABLE, unix.RT_TABLE_MAIN)
	route("10.13.0.0/16", unix.RTN_PROHIBIT, unix.RT_TABLE_MAIN)
	route("172.20.0.0/16", unix.RTN_UNICAST, unix.RT_TABLE_MAIN) // the whole range
	route("172.16.0.0/12", unix.RTN_UNICAST, unix.RT_TABLE_MAIN) // and around it
	route("198.51.100.0/24", unix.RTN_UNICAST, unix.RT_TABLE_MAIN)

	const connected, routed, gateway = "networks that this node is in", "networks that this node has routes to", "this node's default gateway"
	for family, want := range map[cluster.Family][]plan.Known{
		cluster.IPv4: {
			{At: netip.MustParsePrefix("10.9.0.0/16"), What: routed}, {At: netip.MustParsePrefix("10.10.0.0/16"), What: routed},
			{At: netip.MustParsePrefix("10.42.0.0/16"), What: connected}, {At: netip.MustParsePrefix("192.0.2.0/24"), What: connected},
			plan.KnownAt(netlab.OutsideIPv4.Addr(), gateway),
		},
		cluster.IPv6: {
			{At: netip.MustParsePrefix("fd00:10:42::/64"), What: connected}, {At: netip.MustParsePrefix("2001:db8::/64"), What: connected},
			plan.KnownAt(netlab.OutsideIPv6.Addr(), gateway),
		},
	} {
		got := known(family)
		for _, k := range want {
			if !slices.Contains(got, k) {
				t.Errorf("%s: %+v is not known", family, k)
			}
		}
		for _, k := range got {
			if k.What != nameServer && !slices.Contains(want, k) {
				t.Errorf("%s: %+v is known", family, k)
			}
		}
	}
}

func TestNameServers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	text := "# nameserver 192.0.2.9\nnameserver 10.43.0.10\nsearch nameserver\nnameserver fe80::1%eth0\nnameserver name\nnameserver\n nameserver 192.0.2.7 # a remark\nnameserver 192.0.2.8\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, k := range nameServers(path) {
		got = append(got, k.At.String())
	}
	if want := []string{"10.43.0.10/32", "fe80::1/128", "192.0.2.7/32"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if more := nameServers(path + ".none"); len(more) != 0 {
		t.Errorf("of a file that is not there: %v", more)
	}
}
