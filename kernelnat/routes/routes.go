// Package routes finds out what this node has routes to. It needs no privileges.
package routes

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Within returns what of some ranges the routes of an IP family lead to: the node's
// networks, by the routes that the kernel makes of its addresses; gateways; and where
// another route leads to a part of a range, that part, since somebody must be there. A
// route for a whole range, or one that refuses, says nothing of the kind.
func Within(family cluster.Family, ranges []netip.Prefix) ([]cluster.Occupied, error) {
	inet := netlink.FAMILY_V4
	if family == cluster.IPv6 {
		inet = netlink.FAMILY_V6
	}
	all, err := netlink.RouteListFiltered(inet, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var out []cluster.Occupied
	for _, r := range all {
		for _, o := range occupiedBy(&r) {
			if slices.ContainsFunc(ranges, o.Prefix.Overlaps) && (r.Protocol == unix.RTPROT_KERNEL || o.Prefix.IsSingleIP() || isPart(o.Prefix, ranges)) {
				out = append(out, o)
			}
		}
	}
	slices.SortFunc(out, func(a, b cluster.Occupied) int { return cmp.Or(a.Prefix.Compare(b.Prefix), cmp.Compare(a.By, b.By)) })
	return slices.Compact(out), nil
}

func isPart(p netip.Prefix, ranges []netip.Prefix) bool {
	return slices.ContainsFunc(ranges, func(r netip.Prefix) bool { return r.Overlaps(p) && p.Bits() > r.Bits() })
}

// occupiedBy returns where a route leads to, and over whom.
func occupiedBy(r *netlink.Route) (out []cluster.Occupied) {
	switch r.Type {
	case unix.RTN_UNICAST:
	default: // a local address is never refused; others, such as blackhole, lead nowhere
		return nil
	}
	if dst, ok := prefix(r.Dst); ok && dst.Bits() > 0 {
		by := "a route of this node"
		if r.Protocol == unix.RTPROT_KERNEL {
			by = "a network of this node"
		}
		out = append(out, cluster.Occupied{Prefix: dst, By: by})
	}
	gateways := []net.IP{r.Gw}
	for _, hop := range r.MultiPath {
		gateways = append(gateways, hop.Gw)
	}
	for _, gw := range gateways {
		if a, ok := netip.AddrFromSlice(gw); ok {
			a = a.Unmap()
			out = append(out, cluster.Occupied{Prefix: netip.PrefixFrom(a, a.BitLen()), By: "a gateway of this node"})
		}
	}
	return out
}

func prefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), ones).Masked(), ok
}
