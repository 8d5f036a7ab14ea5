package kernelnat

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// maxAddresses is how many addresses in one range of ClusterIPs are told apart. With
// more the range is plainly somebody else's too.
const maxAddresses = 64

// occupants knows who is at addresses of the ranges of ClusterIPs without being one, in
// one IP family. A Service that changes costs what its endpoints are.
type occupants struct {
	family cluster.Family
	plan   plan.Options

	ranges []netip.Prefix
	node   plan.Node
	nodes  map[string]*cluster.Node // those of the Store
	told   []cluster.Occupied       // by the source
	routes []cluster.Occupied

	// What Services have in a range: endpoints, and ClusterIPs that another proxy
	// serves.
	services map[cluster.ServiceName][]netip.Addr
	count    map[netip.Addr]int
	inRange  map[netip.Prefix]int // how many of those addresses

	looked time.Time     // at the routes, when
	took   time.Duration // and how long that took
}

func newOccupants(o Options) *occupants {
	out := &occupants{family: o.Family, plan: o.Plan, nodes: make(map[string]*cluster.Node)}
	out.clear()
	return out
}

func (o *occupants) clear() {
	o.services = make(map[cluster.ServiceName][]netip.Addr)
	o.count, o.inRange = make(map[netip.Addr]int), make(map[netip.Prefix]int)
}

// setRanges takes the ranges over and reports whether they are others, and all Services
// have to be set again.
func (o *occupants) setRanges(all []netip.Prefix) bool {
	own := slices.DeleteFunc(slices.Clone(all), func(r netip.Prefix) bool { return cluster.FamilyOf(r.Addr()) != o.family })
	if slices.Equal(own, o.ranges) {
		return false
	}
	o.ranges, o.looked = own, time.Time{}
	o.clear()
	return true
}

// set replaces what a Service has in the ranges; nil: it is gone. It reports whether
// that is something else than before.
func (o *occupants) set(name cluster.ServiceName, s *cluster.Service) bool {
	var now []netip.Addr
	if s != nil && len(o.ranges) > 0 {
		now = o.addressesOf(s)
	}
	before := o.services[name]
	if slices.Equal(before, now) {
		return false
	}
	for _, a := range before {
		o.add(a, -1)
	}
	for _, a := range now {
		o.add(a, 1)
	}
	if delete(o.services, name); len(now) > 0 {
		o.services[name] = now
	}
	return true
}

func (o *occupants) addressesOf(s *cluster.Service) (out []netip.Addr) {
	for i := range s.Endpoints {
		out = o.appendInRange(out, s.Endpoints[i].Addr)
	}
	if s.Proxy != o.plan.Proxy {
		for _, ip := range s.ClusterIPs {
			out = o.appendInRange(out, ip)
		}
	}
	return out
}

func (o *occupants) appendInRange(to []netip.Addr, a netip.Addr) []netip.Addr {
	if slices.ContainsFunc(o.ranges, func(r netip.Prefix) bool { return r.Contains(a) }) {
		return append(to, a)
	}
	return to
}

func (o *occupants) add(a netip.Addr, n int) {
	before := o.count[a]
	now := before + n
	if o.count[a] = now; now == 0 {
		delete(o.count, a)
	}
	for _, r := range o.ranges {
		switch {
		case !r.Contains(a):
		case before == 0:
			o.inRange[r]++
		case now == 0:
			o.inRange[r]--
		}
	}
}

// all returns who is known to be where.
func (o *occupants) all() []cluster.Occupied { return append(o.withoutServices(), o.ofServices()...) }

// withoutServices leaves out what those say who may create Services.
func (o *occupants) withoutServices() []cluster.Occupied {
	out := slices.Concat(o.told, o.routes)
	for _, cidr := range o.plan.ClusterCIDRs {
		out = append(out, cluster.Occupied{Prefix: cidr, By: "the pods' range (cluster_cidr)"})
	}
	out = append(out, ofNode("this Node", o.node.Addresses, o.node.PodCIDRs)...)
	for _, name := range slices.Sorted(maps.Keys(o.nodes)) {
		out = append(out, ofNode("Node "+name, o.nodes[name].Addresses, o.nodes[name].PodCIDRs)...)
	}
	return slices.DeleteFunc(out, func(p cluster.Occupied) bool { return cluster.FamilyOf(p.Prefix.Addr()) != o.family })
}

// ofServices are nobody's in particular: who may create Services decides on them.
func (o *occupants) ofServices() (out []cluster.Occupied) {
	for _, r := range o.ranges {
		if o.inRange[r] > maxAddresses {
			out = append(out, cluster.Occupied{Prefix: r, By: fmt.Sprintf("more than %d endpoints of Services", maxAddresses)})
		}
	}
	for _, a := range slices.SortedFunc(maps.Keys(o.count), netip.Addr.Compare) {
		if !slices.ContainsFunc(o.ranges, func(r netip.Prefix) bool { return r.Contains(a) && o.inRange[r] > maxAddresses }) {
			out = append(out, cluster.Occupied{Prefix: netip.PrefixFrom(a, a.BitLen())})
		}
	}
	return out
}

func ofNode(name string, addresses []netip.Addr, podCIDRs []netip.Prefix) (out []cluster.Occupied) {
	for _, a := range addresses {
		out = append(out, cluster.Occupied{Prefix: netip.PrefixFrom(a, a.BitLen()), By: name})
	}
	for _, cidr := range podCIDRs {
		out = append(out, cluster.Occupied{Prefix: cidr, By: "the pods of " + name})
	}
	return out
}

// routesEvery is how often the routes are looked at at most. Where there are very many
// it is rarer, so that it takes at most a fiftieth of the time.
const routesEvery = 10 * time.Second

// lookAtRoutes finds out what this node has routes to, if it is time for that, and
// reports whether that is something else than before. After an error what was known
// stays.
func (o *occupants) lookAtRoutes(routes func(cluster.Family, []netip.Prefix) ([]cluster.Occupied, error)) (changed bool, err error) {
	start := time.Now()
	if routes == nil || len(o.ranges) == 0 || !o.looked.IsZero() && start.Sub(o.looked) < max(routesEvery, 50*o.took) {
		return false, nil
	}
	now, err := routes(o.family, o.ranges)
	if o.looked = time.Now(); err != nil {
		return false, fmt.Errorf("look at this node's %s routes: %w", o.family, err)
	}
	o.took = o.looked.Sub(start)
	changed = !slices.Equal(now, o.routes)
	o.routes = now
	return changed, nil
}
