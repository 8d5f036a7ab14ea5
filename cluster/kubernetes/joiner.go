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
	services   table[cluster.ServiceName, cluster.Service]
	slices     table[sliceName, slice]
	pods       table[cluster.PodName, cluster.Pod]
	nodes      table[string, cluster.Node]
	ranges     table[string, []netip.Prefix]

	// selective says that Services and Pods count only where their namespace does.
	selective bool
	backing   map[cluster.ServiceName][]*slice
	published map[cluster.ServiceName]*cluster.Service
	dirty     dirty
}

// namespace is all that is known of one: that it is there.
type namespace struct{}

type sliceName struct{ namespace, name string }

// slice is an EndpointSlice. Its endpoints share memory with the Service's where
// it is the only one.
type slice struct {
	owner     cluster.ServiceName
	endpoints []cluster.Endpoint
}

// dirty names what may be different from what was published.
type dirty struct {
	services   map[cluster.ServiceName]struct{}
	namespaces map[string]struct{}
	pods       map[cluster.PodName]struct{}
	nodes      map[string]struct{}
	ranges     bool
}

func newDirty() dirty {
	return dirty{
		services:   make(map[cluster.ServiceName]struct{}),
		namespaces: make(map[string]struct{}),
		pods:       make(map[cluster.PodName]struct{}),
		nodes:      make(map[string]struct{}),
	}
}

// newJoiner returns a joiner without objects for a Store that holds what is given:
// the first Update it makes removes what is left of that.
func newJoiner(held cluster.Update, selective bool, judged func(place string, err error)) *joiner {
	j := &joiner{
		selective: selective,
		backing:   make(map[cluster.ServiceName][]*slice),
		published: make(map[cluster.ServiceName]*cluster.Service),
		dirty:     newDirty(),
	}
	j.namespaces = newTable("Namespace", judged, func(key string, _, _ *namespace) { j.namespaceChanged(key) })
	j.services = newTable("Service", judged, func(key cluster.ServiceName, _, _ *cluster.Service) { j.dirty.services[key] = struct{}{} })
	j.slices = newTable("EndpointSlice", judged, func(_ sliceName, old, now *slice) { j.sliceChanged(old, now) })
	j.pods = newTable("Pod", judged, j.podChanged)
	j.nodes = newTable("Node", judged, func(key string, old, now *cluster.Node) {
		if !reflect.DeepEqual(old, now) {
			j.dirty.nodes[key] = struct{}{}
		}
	})
	j.ranges = newTable("ServiceCIDR", judged, func(_ string, _, _ *[]netip.Prefix) { j.dirty.ranges = true })
	for _, u := range held.Services {
		j.published[u.Name] = u.Service
		j.dirty.services[u.Name] = struct{}{}
	}
	for _, u := range held.Namespaces {
		j.dirty.namespaces[u.Name] = struct{}{}
	}
	for _, u := range held.Pods {
		j.dirty.pods[u.Name] = struct{}{}
	}
	for _, u := range held.Nodes {
		j.dirty.nodes[u.Name] = struct{}{}
	}
	return j
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

// namespaceChanged looks at every object there is, which it need not do but where
// namespaces are chosen by their labels.
func (j *joiner) namespaceChanged(name string) {
	j.dirty.namespaces[name] = struct{}{}
	if !j.selective {
		return
	}
	for service := range j.services.rows {
		if service.Namespace == name {
			j.dirty.services[service] = struct{}{}
		}
	}
	for pod := range j.pods.rows {
		if pod.Namespace == name {
			j.dirty.pods[pod] = struct{}{}
		}
	}
}

func (j *joiner) sliceChanged(old, now *slice) {
	if old != nil {
		rest := slices.DeleteFunc(j.backing[old.owner], func(s *slice) bool { return s == old })
		if j.backing[old.owner] = rest; len(rest) == 0 {
			delete(j.backing, old.owner)
		}
		j.dirty.services[old.owner] = struct{}{}
	}
	if now != nil {
		j.backing[now.owner] = append(j.backing[now.owner], now)
		j.dirty.services[now.owner] = struct{}{}
	}
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
	var u cluster.Update
	for _, name := range slices.SortedFunc(maps.Keys(j.dirty.services), cluster.ServiceName.Compare) {
		if s, changed := j.publish(name); changed {
			u.Services = append(u.Services, cluster.ServiceUpdate{Name: name, Service: s})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(j.dirty.namespaces)) {
		u.Namespaces = append(u.Namespaces, cluster.NamespaceUpdate{Name: name, Exists: j.namespaces.rows[name].model != nil})
	}
	for _, name := range slices.SortedFunc(maps.Keys(j.dirty.pods), comparePods) {
		pod := j.pods.rows[name].model
		if !j.exposed(name.Namespace) {
			pod = nil
		}
		u.Pods = append(u.Pods, cluster.PodUpdate{Name: name, Pod: pod})
	}
	for _, name := range slices.Sorted(maps.Keys(j.dirty.nodes)) {
		u.Nodes = append(u.Nodes, cluster.NodeUpdate{Name: name, Node: j.nodes.rows[name].model})
	}
	if j.dirty.ranges {
		u.ServiceCIDRs = j.serviceCIDRs()
	}
	j.dirty = newDirty()
	return u
}

func comparePods(a, b cluster.PodName) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// publish brings a Service up to date and reports whether it is another than
// before; nil means that it is gone.
func (j *joiner) publish(name cluster.ServiceName) (now *cluster.Service, changed bool) {
	old := j.published[name]
	held := j.services.rows[name]
	if held.model == nil || !j.exposed(name.Namespace) {
		delete(j.published, name)
		return nil, old != nil
	}
	backing := j.backing[name]
	lists := make([][]cluster.Endpoint, len(backing))
	for i, s := range backing {
		lists[i] = s.endpoints
	}
	if held.model.Kind == cluster.KindExternalName {
		lists = nil
	}
	now = cluster.New(*held.model, lists...)
	if changed = !reflect.DeepEqual(old, now); !changed {
		now = old
	}
	// What is merged replaces what it was merged from: nothing is held twice.
	held.model = now
	j.services.rows[name] = held
	j.published[name] = now
	if len(lists) == 1 {
		backing[0].endpoints = now.Endpoints
	}
	return now, changed
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
	return len(u.Services)+len(u.Namespaces)+len(u.Pods)+len(u.Nodes) == 0 && u.ServiceCIDRs == nil
}
