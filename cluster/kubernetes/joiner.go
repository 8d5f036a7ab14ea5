package kubernetes

import (
	"cmp"
	"fmt"
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
	namespaces table[string, namespace]
	services   *join
	imports    *join // ServiceImports
	slices     table[sliceName, slice]
	pods       table[cluster.PodName, cluster.Pod]
	nodes      table[string, cluster.Node]
	ranges     table[string, []netip.Prefix]

	neighbours      map[string]*cluster.Node // what of other Nodes is in ranges
	neighboursKnown bool                     // for the ranges there are
	outOfTouch      bool                     // with the API server
	origins         []netip.Addr

	// selective says that Services and imports count only where their namespace
	// does. Pods count everywhere: they ask, too.
	selective bool
	dirty     dirty
}

// namespace is all that is known of one: that it is there.
type namespace struct{}

type sliceName struct{ namespace, name string }

// slice is what an EndpointSlice backs: a Service of this cluster, an imported one,
// or both; nil stands for none.
type slice struct{ local, imported *backing }

// dirty names what may be different from what was published, besides Services.
type dirty struct {
	namespaces map[string]struct{}
	pods       map[cluster.PodName]struct{}
	nodes      map[string]struct{}
	ranges     bool
	origins    bool
}

func newDirty() dirty {
	return dirty{
		namespaces: make(map[string]struct{}),
		pods:       make(map[cluster.PodName]struct{}),
		nodes:      make(map[string]struct{}),
	}
}

// newJoiner returns a joiner without objects for a Store that holds what is given:
// the first Update it makes removes what is left of that.
func newJoiner(held cluster.Update, selective bool, judged func(place string, err error)) *joiner {
	j := &joiner{
		services:  newJoin("Service", judged),
		imports:   newJoin("ServiceImport", judged),
		selective: selective,
		dirty:     newDirty(),

		neighboursKnown: true, // there are no ranges
	}
	j.namespaces = newTable("Namespace", judged, func(key string, _, _ *namespace) { j.namespaceChanged(key) })
	j.slices = newTable("EndpointSlice", judged, func(_ sliceName, old, now *slice) { j.sliceChanged(old, now) })
	j.pods = newTable("Pod", judged, j.podChanged)
	j.nodes = newTable("Node", judged, func(key string, old, now *cluster.Node) {
		if !reflect.DeepEqual(old, now) {
			j.dirty.nodes[key] = struct{}{}
		}
	})
	j.ranges = newTable("ServiceCIDR", judged, func(_ string, _, _ *[]netip.Prefix) { j.dirty.ranges = true })
	j.hold(held)
	return j
}

// hold takes over a Store that holds what is given.
func (j *joiner) hold(held cluster.Update) {
	j.services.hold(held.Services)
	j.imports.hold(held.Imports)
	for _, u := range held.Namespaces {
		j.dirty.namespaces[u.Name] = struct{}{}
	}
	for _, u := range held.Pods {
		j.dirty.pods[u.Name] = struct{}{}
	}
	for _, u := range held.Nodes {
		j.dirty.nodes[u.Name] = struct{}{}
	}
}

func newTable[K comparable, M any](kind string, judged func(string, error), changed func(key K, old, now *M)) table[K, M] {
	return table[K, M]{
		rows:    make(map[K]row[M]),
		changed: changed,
		judged:  func(key K, err error) { judged(fmt.Sprintf("%s %v", kind, key), err) },
	}
}

// String returns "namespace/name".
func (n sliceName) String() string { return n.namespace + "/" + n.name }

// namespaceChanged looks at every Service there is, which it need not do but where
// namespaces are chosen by their labels.
func (j *joiner) namespaceChanged(name string) {
	j.dirty.namespaces[name] = struct{}{}
	if !j.selective {
		return
	}
	j.services.namespaceChanged(name)
	j.imports.namespaceChanged(name)
}

func (j *joiner) sliceChanged(old, now *slice) {
	var none slice
	if old == nil {
		old = &none
	}
	if now == nil {
		now = &none
	}
	j.services.sliceChanged(old.local, now.local)
	j.imports.sliceChanged(old.imported, now.imported)
}

// podChanged passes over the many changes of a Pod that leave its addresses and
// labels alone.
func (j *joiner) podChanged(key cluster.PodName, old, now *cluster.Pod) {
	if old == nil || now == nil || !slices.Equal(old.IPs, now.IPs) || !maps.Equal(old.Labels, now.Labels) {
		j.dirty.pods[key] = struct{}{}
	}
}

// take returns what is different from what was taken before. The order is by name.
func (j *joiner) take() cluster.Update {
	u := cluster.Update{
		Services: j.services.take(j.exposed), Imports: j.imports.take(j.exposed),
		Unsure: j.outOfTouch || !j.neighboursKnown,
	}
	for _, name := range slices.Sorted(maps.Keys(j.dirty.namespaces)) {
		u.Namespaces = append(u.Namespaces, cluster.NamespaceUpdate{Name: name, Exists: j.namespaces.rows[name].model != nil})
	}
	for _, name := range slices.SortedFunc(maps.Keys(j.dirty.pods), comparePods) {
		u.Pods = append(u.Pods, cluster.PodUpdate{Name: name, Pod: j.pods.rows[name].model})
	}
	for _, name := range slices.Sorted(maps.Keys(j.dirty.nodes)) {
		u.Nodes = append(u.Nodes, cluster.NodeUpdate{Name: name, Node: j.node(name)})
	}
	if j.dirty.ranges {
		u.ServiceCIDRs = j.serviceCIDRs()
	}
	if j.dirty.origins {
		u.Origins = j.origins
	}
	j.dirty = newDirty()
	return u
}

func (j *joiner) node(name string) *cluster.Node {
	if own := j.nodes.rows[name].model; own != nil {
		return own
	}
	return j.neighbours[name]
}

// setNeighbours takes over what of other Nodes is in ranges; nil leaves it as it is.
func (j *joiner) setNeighbours(now map[string]*cluster.Node, ranges []netip.Prefix) {
	j.neighboursKnown = slices.Equal(ranges, j.serviceCIDRs())
	if now == nil {
		return
	}
	for name, n := range now {
		if !reflect.DeepEqual(n, j.neighbours[name]) {
			j.dirty.nodes[name] = struct{}{}
		}
	}
	for name := range j.neighbours {
		if now[name] == nil {
			j.dirty.nodes[name] = struct{}{}
		}
	}
	j.neighbours = now
}

func comparePods(a, b cluster.PodName) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

func (j *joiner) exposed(namespace string) bool {
	return !j.selective || j.namespaces.rows[namespace].model != nil
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

func isEmpty(u cluster.Update) bool {
	return len(u.Services)+len(u.Imports)+len(u.Namespaces)+len(u.Pods)+len(u.Nodes) == 0 && u.ServiceCIDRs == nil && u.Origins == nil
}
