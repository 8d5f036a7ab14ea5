package netfilter

import (
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/vishvananda/netlink"
)

// host is a network namespace.
type host struct{ *netlab.Namespace }

func newHost(t *testing.T) host {
	t.Helper()
	netlab.Require(t, "nft")
	n, err := netlab.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return host{n}
}

// do calls f, which must not fail, on the host.
func (h host) do(t *testing.T, f func() error) {
	t.Helper()
	if err := h.Do(f); err != nil {
		t.Fatal(err)
	}
}

// nft runs one transaction, on the host.
func (h host) nft(t *testing.T, command string) string {
	t.Helper()
	var out []byte
	if err := h.Do(func() (err error) {
		out, err = exec.Command("nft", command).CombinedOutput()
		return err
	}); err != nil {
		t.Fatalf("nft %s: %v\n%s", command, err, out)
	}
	return string(out)
}

func addrs(texts ...string) (out []netip.Addr) {
	for _, text := range texts {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

func prefixes(texts ...string) (out []netip.Prefix) {
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

func TestNodePorts(t *testing.T) {
	h := newHost(t)
	h.do(t, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		for _, p := range []string{"192.0.2.9/24", "192.0.2.7/24", "198.51.100.1/32", "2001:db8::1/64"} {
			a, err := netlink.ParseAddr(p)
			if err != nil {
				return err
			}
			if err := netlink.AddrAdd(lo, a); err != nil {
				return err
			}
		}
		return netlink.LinkSetUp(lo)
	})
	node := plan.Node{Addresses: addrs("203.0.113.5", "2001:db8::5", "203.0.113.4", "203.0.113.5")}
	for _, c := range []struct {
		name   string
		at     NodePorts
		family cluster.Family
		want   []netip.Addr
	}{
		{"all", NodePorts{}, cluster.IPv4, addrs("0.0.0.0")},
		{"all", NodePorts{}, cluster.IPv6, addrs("::")},
		{"the Node's", NodePorts{Primary: true}, cluster.IPv4, addrs("203.0.113.4", "203.0.113.5")},
		{"the Node's", NodePorts{Primary: true}, cluster.IPv6, addrs("2001:db8::5")},
		{"in ranges", NodePorts{Ranges: prefixes("192.0.2.0/24", "192.0.2.0/28", "2001:db8::/32")}, cluster.IPv4, addrs("192.0.2.7", "192.0.2.9")},
		{"in ranges", NodePorts{Ranges: prefixes("192.0.2.0/24", "2001:db8::/32")}, cluster.IPv6, addrs("2001:db8::1")},
		{"loopback", NodePorts{Ranges: prefixes("127.0.0.0/8", "::1/128")}, cluster.IPv4, addrs("127.0.0.1")},
		{"loopback", NodePorts{Ranges: prefixes("127.0.0.0/8", "::1/128")}, cluster.IPv6, nil},
	} {
		h.do(t, func() error {
			if got, err := c.at.Addresses(c.family, node); err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%s, %s: %v, %v; want %v", c.name, c.family, got, err, c.want)
			}
			return nil
		})
	}
	for _, c := range []struct {
		at      NodePorts
		node    plan.Node
		nowhere string
	}{
		{NodePorts{}, plan.Node{}, ""},
		{NodePorts{Primary: true}, node, ""},
		{NodePorts{Primary: true}, plan.Node{Name: "n"}, `there is no Node "n" with status.addresses`},
		{NodePorts{Ranges: prefixes("2001:db8::/32")}, plan.Node{}, ""},
		{NodePorts{Ranges: prefixes("10.99.0.0/16")}, node, "no address in nodeport_addresses [10.99.0.0/16]"},
	} {
		h.do(t, func() error {
			if err := c.at.Nowhere(c.node); (err == nil) != (c.nowhere == "") || err != nil && !strings.Contains(err.Error(), c.nowhere) {
				t.Errorf("%+v: %v, want %q", c.at, err, c.nowhere)
			}
			return nil
		})
	}
}

func TestSetRouteLocalnet(t *testing.T) {
	newHost(t).do(t, func() error {
		for _, on := range []bool{true, true, false} {
			if err := SetRouteLocalnet(on); err != nil {
				return err
			}
			got, err := os.ReadFile("/proc/sys/net/ipv4/conf/all/route_localnet")
			if want := map[bool]string{false: "0\n", true: "1\n"}[on]; err != nil || string(got) != want {
				t.Errorf("set to %t it is %q, %v", on, got, err)
			}
		}
		return nil
	})
}

// The table of the family goes, and no other; the removal is ours.
func TestRemoveProxyTable(t *testing.T) {
	h := newHost(t)
	tables := []string{"ip kube-proxy", "ip6 kube-proxy", "inet kube-proxy", "ip kube-proxy2"}
	for _, table := range tables {
		h.nft(t, "add table "+table)
	}
	var l Ledger
	before := h.foreign(t, &l)
	for _, want := range []bool{true, false} {
		h.do(t, func() error {
			found, err := RemoveProxyTable(cluster.IPv6, &l)
			if found != want {
				t.Errorf("found %t, want %t", found, want)
			}
			return err
		})
	}
	left := h.nft(t, "list tables")
	for _, table := range tables {
		if stays := table != "ip6 kube-proxy"; strings.Contains(left, "table "+table+"\n") != stays {
			t.Errorf("%s: is to stay: %t; there are\n%s", table, stays, left)
		}
	}
	if got := h.foreign(t, &l); got != before {
		t.Errorf("our own removal counts as somebody else's doing: %d writes, before %d", got, before)
	}
}

func (h host) foreign(t *testing.T, l *Ledger) (count uint32) {
	t.Helper()
	h.do(t, func() (err error) {
		count, err = l.Foreign()
		return err
	})
	return count
}
