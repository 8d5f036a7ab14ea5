package manifest

import (
	"maps"
	"reflect"
	"slices"

	"github.com/clusterip/clusterip/cluster"
)

// publisher knows what was published and finds what is different.
type publisher struct {
	views      map[string]view // by namespace
	namespaces map[string]bool
	nodes      map[string]*cluster.Node
}

// update returns the step to the given views of the namespaces that changed, and
// to all namespaces and nodes, and remembers them. The order in an Update is by
// name.
func (p *publisher) update(changed map[string]view, namespaces map[string]bool, nodes map[string]*cluster.Node) cluster.Update {
	var u cluster.Update
	for _, name := range slices.Sorted(maps.Keys(changed)) {
		before, now := p.views[name], changed[name]
		for _, service := range differing(before.services, now.services, sameService) {
			u.Services = append(u.Services, cluster.ServiceUpdate{Name: service, Service: now.service(service)})
		}
		for _, pod := range differing(before.pods, now.pods, sameModel) {
			u.Pods = append(u.Pods, cluster.PodUpdate{Name: pod, Pod: now.pods[pod]})
		}
		if p.views[name] = now; len(now.services)+len(now.pods)+len(now.problems) == 0 {
			delete(p.views, name)
		}
	}
	slices.SortFunc(u.Services, func(a, b cluster.ServiceUpdate) int { return a.Name.Compare(b.Name) })
	slices.SortFunc(u.Pods, func(a, b cluster.PodUpdate) int { return a.Name.Compare(b.Name) })
	for _, name := range slices.Sorted(slices.Values(differing(p.namespaces, namespaces, same))) {
		u.Namespaces = append(u.Namespaces, cluster.NamespaceUpdate{Name: name, Exists: namespaces[name]})
	}
	for _, name := range slices.Sorted(slices.Values(differing(p.nodes, nodes, sameModel))) {
		u.Nodes = append(u.Nodes, cluster.NodeUpdate{Name: name, Node: nodes[name]})
	}
	p.namespaces, p.nodes = namespaces, nodes
	return u
}

// problems returns those of all views.
func (p *publisher) problems() []Problem {
	var all []Problem
	for _, v := range p.views {
		all = append(all, v.problems...)
		for _, l := range v.services {
			all = append(all, l.problems...)
		}
	}
	return all
}

func sameService(a, b *linked) bool { return a == b || sameModel(a.service, b.service) }

func same[V comparable](a, b V) bool { return a == b }

func sameModel[M any](a, b *M) bool { return reflect.DeepEqual(a, b) }

// differing lists the keys whose values are not equal, in any order.
func differing[K comparable, V any](before, now map[K]V, equal func(old, now V) bool) []K {
	var keys []K
	for key, value := range now {
		if old, existed := before[key]; !existed || !equal(old, value) {
			keys = append(keys, key)
		}
	}
	for key := range before {
		if _, exists := now[key]; !exists {
			keys = append(keys, key)
		}
	}
	return keys
}
