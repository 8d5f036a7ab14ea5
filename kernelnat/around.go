package kernelnat

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// around is what a source says of the ranges of ClusterIPs, besides Services.
type around struct {
	changed bool // since it was last taken
	cidrs   []netip.Prefix
	unsure  bool // nothing in them is to be refused
	origins []netip.Addr
	nodes   map[string]*cluster.Node // immutable; a change makes a new map
}

func (a *around) add(u cluster.Update) {
	if u.ServiceCIDRs != nil && !slices.Equal(u.ServiceCIDRs, a.cidrs) {
		a.cidrs, a.changed = u.ServiceCIDRs, true
	}
	if u.Origins != nil && !slices.Equal(u.Origins, a.origins) {
		a.origins, a.changed = u.Origins, true
	}
	if u.Unsure != a.unsure {
		a.unsure, a.changed = u.Unsure, true
	}
	a.addNodes(u.Nodes)
}

// addNodes takes Nodes over that have other addresses than before.
func (a *around) addNodes(updates []cluster.NodeUpdate) {
	cloned := false
	for _, n := range updates {
		if sameAddresses(a.nodes[n.Name], n.Node) {
			continue
		}
		if a.changed = true; !cloned {
			a.nodes, cloned = maps.Clone(a.nodes), true
		}
		if a.nodes == nil {
			a.nodes = make(map[string]*cluster.Node)
		}
		if n.Node == nil {
			delete(a.nodes, n.Name)
		} else {
			a.nodes[n.Name] = n.Node
		}
	}
}

func sameAddresses(a, b *cluster.Node) bool {
	if a == nil || b == nil {
		return a == b
	}
	return slices.Equal(a.Addresses, b.Addresses) && slices.Equal(a.PodCIDRs, b.PodCIDRs)
}

// take returns what there is and notes that it was taken.
func (a *around) take() around {
	out := *a
	a.changed = false
	return out
}

// known is what does not depend on Services, in the order in which it is told.
func (a *around) known(o *Options) []plan.Known {
	var all []plan.Known
	for _, addr := range a.origins {
		all = append(all, plan.KnownAt(addr, "the address of the API server"))
	}
	for _, cidr := range o.Plan.ClusterCIDRs {
		all = append(all, plan.Known{At: cidr, What: "cluster_cidr"})
	}
	for _, name := range slices.Sorted(maps.Keys(a.nodes)) {
		n := a.nodes[name]
		for _, addr := range n.Addresses {
			all = append(all, plan.KnownAt(addr, "addresses of Nodes"))
		}
		for _, cidr := range n.PodCIDRs {
			all = append(all, plan.Known{At: cidr, What: "podCIDRs of Nodes"})
		}
	}
	return all
}
