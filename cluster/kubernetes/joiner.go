package kubernetes

import (
	"cmp"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"github.com/clusterip/clusterip/cluster"
)

// joiner merges the objects of all kinds into what is published. It is pure: what
// it takes out depends on the objects that are there and on what it took out
// before, not on the order in which they came.
type joiner struct {
	namespaces table[namespace]
	services   *join
	imports    *join // ServiceImports
	slices     table[slice]
	pods       table[cluster.Pod]
	nodes      table[cluster.Node]
	ranges     table[[]netip.Prefix]

	neighbours      map[string]*cluster.Node // what of other Nodes is in ranges
	neighboursKnown bool                     // for the ranges there are
	outOfTouch      bool                     // with the API server
	origins         []netip.Addr             // the last addresses of API servers
	originsDirty    bool

	// selective says that Services and imports count only where their namespace
	// does. Pods count everywhere: they ask, too.
	selective bool
}

// namespace is all that is known of one: that it is there.
type namespace struct{}

// slice is what an EndpointSlice backs: a Service of this cluster, an imported one,
// or both; nil stands for none.
type slice struct{ local, imported *backing }

// newJoiner returns a joiner without objects for a Store that holds what is given:
// the first Update it makes removes what is left of that.
func newJoiner(held cluster.Update, selective bool, judged func(place string, err error)) *joiner {
	j := &joiner{
		namespaces: newTable[namespace]("Namespace", judged, nil),
		services:   newJoin("Service", judged),
		imports:    newJoin("ServiceImport", judged),
		pods:       newTable("Pod", judged, podDiffers),
		nodes:      newTable("Node", judged, func(old, now *cluster.Node) bool { return !reflect.DeepEqual(old, now) }),
		ranges:     newTable[[]netip.Prefix]("ServiceCIDR", judged, nil),
		selective:  selective,

		neighboursKnown: true, // there are no ranges
	}
	j.slices = newTable("EndpointSlice", judged, j.sliceChanged)
	j.hold(held)
	return j
}

// hold takes over a Store that holds what is given.
func (j *joiner) hold(held cluster.Update) {
	j.services.hold(held.Services)
	j.imports.hold(held.Imports)
	for _, u := range held.Namespaces {
		j.namespaces.dirty[key{Name: u.Name}] = struct{}{}
	}
	for _, u := range held.Pods {
		j.pods.dirty[key(u.Name)] = struct{}{}
	}
	for _, u := range held.Nodes {
		j.nodes.dirty[key{Name: u.Name}] = struct{}{}
	}
}

// sliceChanged passes a slice on to what it backs. It is never published itself.
func (j *joiner) sliceChanged(old, now *slice) bool {
	var none slice
	if old == nil {
		old = &none
	}
	if now == nil {
		now = &none
	}
	j.services.sliceChanged(old.local, now.local)
	j.imports.sliceChanged(old.imported, now.imported)
	return false
}

// podDiffers passes over the many changes of a Pod that leave its addresses and labels
// alone.
func podDiffers(old, now *cluster.Pod) bool {
	return old == nil || now == nil || !slices.Equal(old.IPs, now.IPs) || !maps.Equal(old.Labels, now.Labels)
}

// take returns what is different from what was taken before. The order is by name.
func (j *joiner) take() cluster.Update {
	if j.selective && len(j.namespaces.dirty) > 0 {
		j.services.namespacesChanged(j.namespaces.dirty)
		j.imports.namespacesChanged(j.namespaces.dirty)
	}
	u := cluster.Update{
		Services: j.services.take(j.exposed), Imports: j.imports.take(j.exposed),
		Unsure: j.outOfTouch || !j.neighboursKnown,
	}
	for _, k := range j.namespaces.takeDirty() {
		u.Namespaces = append(u.Namespaces, cluster.NamespaceUpdate{Name: k.Name, Exists: j.namespaces.rows[k].model != nil})
	}
	for _, k := range j.pods.takeDirty() {
		u.Pods = append(u.Pods, cluster.PodUpdate{Name: cluster.PodName(k), Pod: j.pods.rows[k].model})
	}
	for _, k := range j.nodes.takeDirty() {
		u.Nodes = append(u.Nodes, cluster.NodeUpdate{Name: k.Name, Node: cmp.Or(j.nodes.rows[k].model, j.neighbours[k.Name])})
	}
	if len(j.ranges.takeDirty()) > 0 {
		u.ServiceCIDRs = j.serviceCIDRs()
	}
	if j.originsDirty {
		u.Origins, j.originsDirty = j.origins, false
	}
	return u
}

// setNeighbours takes over what of other Nodes is in ranges; nil leaves it as it is.
func (j *joiner) setNeighbours(now map[string]*cluster.Node, ranges []netip.Prefix) {
	j.neighboursKnown = slices.Equal(ranges, j.serviceCIDRs())
	if now == nil {
		return
	}
	for name, n := range now {
		if !reflect.DeepEqual(n, j.neighbours[name]) {
			j.nodes.dirty[key{Name: name}] = struct{}{}
		}
	}
	for name := range j.neighbours {
		if now[name] == nil {
			j.nodes.dirty[key{Name: name}] = struct{}{}
		}
	}
	j.neighbours = now
}

// maxOrigins is how many addresses of API servers are remembered, the last ones.
const maxOrigins = 16

// addOrigin notes an address that connections to an API server are made to: one that its
// name stands for, or that of a proxy before it.
func (j *joiner) addOrigin(a netip.Addr) {
	if !slices.Contains(j.origins, a) {
		all := append(slices.Clone(j.origins), a)
		j.origins, j.originsDirty = all[max(0, len(all)-maxOrigins):], true
	}
}

func (j *joiner) exposed(namespace string) bool {
	return !j.selective || j.namespaces.rows[key{Name: namespace}].model != nil
}

// serviceCIDRs returns the ranges of all ServiceCIDRs, those that are on their way
// out included: addresses in them may still be in use.
func (j *joiner) serviceCIDRs() []netip.Prefix {
	all := []netip.Prefix{}
	for _, row := range j.ranges.rows {
		if row.model != nil {
			all = append(all, *row.model...)
		}
	}
	slices.SortFunc(all, netip.Prefix.Compare)
	return slices.Compact(all)
}
