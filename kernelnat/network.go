package kernelnat

import (
	"errors"
	"maps"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/vishvananda/netlink"
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

// network gathers what is known of addresses besides what Services say of them: by the
// source, by configuration and by this node itself.
type network struct {
	options   *Options
	log       Logger
	elsewhere bool // this machine is not asked

	around  around
	look    bool         // it is time to ask this node
	here    []plan.Known // what it last said
	trouble string       // why it does not say it now
	heard   bool         // it could be asked once
	unheard bool         // it was asked, and never could say
}

// unsure reports whether nothing in ranges is to be refused.
func (n *network) unsure() bool { return n.around.unsure || n.unheard }

// follow returns what is known now, or nil if nothing of it can have changed.
func (n *network) follow(now around, again bool) *plan.Network {
	if n.around = now; !now.changed && !n.look && !again {
		return nil
	}
	n.look = false
	out := &plan.Network{ServiceCIDRs: now.cidrs}
	if len(now.cidrs) > 0 {
		out.Known = now.known(n.options.Plan.ClusterCIDRs)
	}
	if !n.elsewhere {
		out.Broadcasts = broadcasts()
		out.Known = append(out.Known, n.ask(now.cidrs)...)
	}
	return out
}

// ask returns what the node itself says of ranges. If it cannot be asked, what it said last
// counts too. As long as it never could be asked, nothing is refused.
func (n *network) ask(cidrs []netip.Prefix) []plan.Known {
	if len(cidrs) == 0 {
		return nil
	}
	now, err := nodeKnows(n.options.Family, cidrs)
	if err == nil {
		n.here, n.trouble, n.heard, n.unheard = now, "", true, false
		return now
	}
	n.unheard = !n.heard
	// A listing that a change of routes has interrupted is repeated soon enough.
	if text := err.Error(); text != n.trouble && !errors.Is(err, netlink.ErrDumpInterrupted) {
		n.trouble = text
		n.log.Errorf("%s: %v: it is not known whether ranges of ClusterIPs overlap new networks of this node", n.options.Family, err)
	}
	return append(now, n.here...)
}

// known is what does not depend on Services or on this node, in the order in which it is told.
func (a *around) known(clusterCIDRs []netip.Prefix) []plan.Known {
	var all []plan.Known
	for _, addr := range a.origins {
		all = append(all, plan.KnownAt(addr, "the address of the API server"))
	}
	for _, cidr := range clusterCIDRs {
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
