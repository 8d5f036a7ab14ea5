package kernelnat

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// nodeKnows returns what this node itself says of addresses in ranges of one family:
// its connected networks, others that it has routes into, its default gateways and
// its name servers.
func nodeKnows(family cluster.Family, ranges []netip.Prefix) ([]plan.Known, error) {
	all := nameServers("/etc/resolv.conf")
	af := unix.AF_INET
	if family == cluster.IPv6 {
		af = unix.AF_INET6
	}
	err := netlink.RouteListFilteredIter(af, &netlink.Route{}, netlink.RT_FILTER_TABLE, func(r netlink.Route) bool {
		all = append(all, routeKnows(&r, ranges)...)
		return true
	})
	if err != nil {
		return all, fmt.Errorf("list this node's %s routes: %w", family, err)
	}
	return all, nil
}

// routeKnows returns what a route says. A route to a part of a range counts if it leads
// somewhere. One that covers a whole range counts only if the node is connected to that
// network, since a default route covers every range.
func routeKnows(r *netlink.Route, ranges []netip.Prefix) []plan.Known {
	to, ok := destination(r)
	if r.Table == unix.RT_TABLE_LOCAL || !ok {
		return nil
	}
	if to.Bits() == 0 {
		return gateways(r)
	}
	for _, cidr := range ranges {
		inside := to.Bits() > cidr.Bits() && (r.Type == unix.RTN_UNICAST || r.Type == unix.RTN_LOCAL)
		switch {
		case !cidr.Overlaps(to):
		case r.Protocol == unix.RTPROT_KERNEL:
			return []plan.Known{{At: to, What: "networks that this node is in"}}
		case inside:
			return []plan.Known{{At: to, What: "networks that this node has routes to"}}
		}
	}
	return nil
}

// destination is where a route leads; one without leads everywhere.
func destination(r *netlink.Route) (netip.Prefix, bool) {
	if r.Dst == nil {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0), true
	}
	addr, ok := netip.AddrFromSlice(r.Dst.IP)
	bits, _ := r.Dst.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), bits).Masked(), ok && bits <= addr.Unmap().BitLen()
}

func gateways(r *netlink.Route) []plan.Known {
	hops := []*netlink.NexthopInfo{{Gw: r.Gw}}
	var all []plan.Known
	for _, hop := range slices.Concat(hops, r.MultiPath) {
		if addr, ok := netip.AddrFromSlice(hop.Gw); ok {
			all = append(all, plan.KnownAt(addr, "this node's default gateway"))
		}
	}
	return all
}

// maxNameServers is how many the resolver uses (MAXNS in resolv.h).
const maxNameServers = 3

const nameServer = "a name server of this node"

// nameServers are those of a resolv.conf.
func nameServers(path string) []plan.Known {
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer file.Close()
	var all []plan.Known
	for lines := bufio.NewScanner(file); lines.Scan() && len(all) < maxNameServers; {
		words := strings.Fields(lines.Text())
		if len(words) < 2 || words[0] != "nameserver" {
			continue
		}
		if addr, err := netip.ParseAddr(words[1]); err == nil {
			all = append(all, plan.KnownAt(addr, nameServer))
		}
	}
	return all
}
