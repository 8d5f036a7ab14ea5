package main

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/cluster/manifest"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// conflicts tells what Services of a folder ask NAT for and do not get.
func (c *check) conflicts(b block, f folder) {
	var found []manifest.Problem
	c.preview(b, f.update, func(service cluster.ServiceName, why string) {
		found = append(found, f.fault(service, errors.New(why)))
	}, nil)
	for _, p := range manifest.Bound(found) {
		c.fault("%v", p)
	}
}

// fault is what somebody finds wrong with a Service, with its place if that is a file.
func (f folder) fault(service cluster.ServiceName, err error) manifest.Problem {
	if f.source == nil {
		return manifest.Problem{Object: "Service " + service.String(), Err: err}
	}
	return f.source.Fault(service, err)
}

// preview has NAT plan what a folder holds, in both IP families.
func (c *check) preview(b block, update cluster.Update, refused func(cluster.ServiceName, string), overlaps func(plan.Overlap)) {
	for _, family := range cluster.Families {
		options := b.nat.Options
		options.Family, options.Refused, options.Overlaps = family, refused, overlaps
		kernelnat.Preview(update, options, c.here)
	}
}

// overlaps tells, once for each kind of thing, what else is in the ranges of ClusterIPs, and
// which ranges of pods overlap. A Service gets addresses from there whether NAT is done here or
// elsewhere.
func (c *check) overlaps(b block, update cluster.Update) {
	directive := "clusterip"
	if b.hasNAT {
		directive = "kernelnat"
	}
	tell := func(option string, what any) { c.notice("%s: %s: %s", b.names.Place(option), directive, what) }
	c.preview(b, update, nil, func(o plan.Overlap) { tell("service_cidr", o) })
	for _, what := range podsInRanges(update) {
		tell("service_cidr", what)
	}
	twice := podRangesTwice(update.Nodes)
	for _, what := range twice[:min(len(twice), maxTold)] {
		tell(b.names.Source(), what)
	}
	if n := len(twice) - maxTold; n > 0 {
		tell(b.names.Source(), fmt.Sprintf("%d more podCIDRs of Nodes overlap", n))
	}
}

// maxTold of a kind are told; more help no one.
const maxTold = 100

// podsInRanges says which ranges of ClusterIPs hold Pods that are no endpoints. Of endpoints an
// Overlap tells.
func podsInRanges(update cluster.Update) (told []string) {
	for _, cidr := range update.ServiceCIDRs {
		endpoints := make(map[netip.Addr]bool) // in the range
		for _, s := range update.Services {
			for i := range s.Service.Endpoints {
				if addr := s.Service.Endpoints[i].Addr; cidr.Contains(addr) {
					endpoints[addr] = true
				}
			}
		}
		lone := func(ip netip.Addr) bool { return cidr.Contains(ip) && !endpoints[ip] }
		for _, p := range update.Pods {
			if i := slices.IndexFunc(p.Pod.IPs, lone); i >= 0 {
				told = append(told, fmt.Sprintf("the range of ClusterIPs %s holds addresses of Pods that are no endpoints, such as %s of Pod %s: NAT refuses packets to them, "+
					"and a Service that gets such an address takes it away. Choose a range that is used for nothing else", cidr, p.Pod.IPs[i], p.Name))
				break
			}
		}
	}
	return told
}

// podRangesTwice says which podCIDRs of two Nodes overlap: packets to a pod go to one of them.
func podRangesTwice(nodes []cluster.NodeUpdate) []string {
	owners := make(map[netip.Prefix][]string)
	for _, n := range nodes {
		for _, cidr := range n.Node.PodCIDRs {
			owners[cidr] = append(owners[cidr], n.Name)
		}
	}
	var told []string
	tell := func(a netip.Prefix, first string, b netip.Prefix, second string) {
		if first != second {
			told = append(told, fmt.Sprintf("podCIDRs of Nodes overlap: %s of %s and %s of %s: give each Node a range of its own", a, first, b, second))
		}
	}
	var around netip.Prefix // the last that is in no other
	for _, cidr := range slices.SortedFunc(maps.Keys(owners), netip.Prefix.Compare) {
		names := owners[cidr]
		switch {
		case len(names) > 1:
			tell(cidr, names[0], cidr, names[1])
		case around.IsValid() && around.Overlaps(cidr):
			tell(around, owners[around][0], cidr, names[0])
		}
		if !around.IsValid() || !around.Overlaps(cidr) {
			around = cidr
		}
	}
	return told
}
