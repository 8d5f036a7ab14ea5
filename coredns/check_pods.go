package main

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
)

// outsideClusterCIDR says which pods the option cluster_cidr leaves out, in the families that it
// has: once for those of the podCIDRs of Nodes, or else for Pods. A Pod with the address of its
// Node is none in that sense.
func outsideClusterCIDR(u cluster.Update, given []netip.Prefix) (told []string) {
	nodes := make(map[netip.Addr]bool)
	var ranges []netip.Prefix
	for _, n := range u.Nodes {
		for _, addr := range n.Node.Addresses {
			nodes[addr] = true
		}
		ranges = append(ranges, n.Node.PodCIDRs...)
	}
	for _, family := range cluster.Families {
		of := ofFamily(given, family)
		if len(of) == 0 {
			continue
		}
		in := func(addr netip.Addr) bool {
			return slices.ContainsFunc(of, func(r netip.Prefix) bool { return r.Contains(addr) })
		}
		left := slices.DeleteFunc(ofFamily(ranges, family), func(r netip.Prefix) bool { return in(r.Addr()) })
		if len(left) > 0 {
			told = append(told, leftOut(of[0], "podCIDRs of Nodes, such as "+left[0].String(), fmt.Sprintf("give the range of all pods, such as %s", common(ofFamily(ranges, family)))))
			continue
		}
		for _, p := range u.Pods {
			if at := slices.IndexFunc(p.Pod.IPs, func(ip netip.Addr) bool { return cluster.FamilyOf(ip) == family && !in(ip) && !nodes[ip] }); at >= 0 {
				told = append(told, leftOut(of[0], fmt.Sprintf("addresses of Pods, such as %s of Pod %s", p.Pod.IPs[at], p.Name), "give the range of all pods"))
				break
			}
		}
	}
	return told
}

func leftOut(given netip.Prefix, what, mend string) string {
	return fmt.Sprintf("cluster_cidr %s leaves out %s: to endpoints of Services the clients there have the address of this machine, as those outside the cluster have, and not their own: %s", given, what, mend)
}

// common is the least range that has all of some, of which there is one at least.
func common(all []netip.Prefix) netip.Prefix {
	out := all[0]
	for _, r := range all {
		for bits := min(out.Bits(), r.Bits()); !out.Contains(r.Addr()) || out.Bits() > r.Bits(); bits-- {
			out = netip.PrefixFrom(out.Addr(), bits).Masked()
		}
	}
	return out
}

func ofFamily(all []netip.Prefix, family cluster.Family) (out []netip.Prefix) {
	for _, r := range all {
		if cluster.FamilyOf(r.Addr()) == family {
			out = append(out, r)
		}
	}
	return out
}
