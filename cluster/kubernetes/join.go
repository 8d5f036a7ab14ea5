package kubernetes

import (
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/clusterip/clusterip/cluster"
)

// join merges Services with the endpoints of their EndpointSlices. There is one for the
// Services of this cluster and another for imported ones.
type join struct {
	table[cluster.ServiceName, cluster.Service]
	backing   map[cluster.ServiceName][]*backing
	published map[cluster.ServiceName]*cluster.Service
	dirty     map[cluster.ServiceName]struct{} // what may be different from what was published
	// triggers has when the oldest change was made that was not taken yet; what the
	// first list shows happened at any time before, and does not count.
	triggers map[cluster.ServiceName]time.Time
	taken    bool
}

// backing is what an EndpointSlice has for a Service. Where it is the Service's only
// one, as mostly, they share the memory of the endpoints.
type backing struct {
	owner     cluster.ServiceName
	endpoints []cluster.Endpoint
	triggered time.Time
}

func newJoin(kind string, judged func(place string, err error)) *join {
	j := &join{
		backing:   make(map[cluster.ServiceName][]*backing),
		published: make(map[cluster.ServiceName]*cluster.Service),
		dirty:     make(map[cluster.ServiceName]struct{}),
		triggers:  make(map[cluster.ServiceName]time.Time),
	}
	j.table = newTable(kind, judged, func(key cluster.ServiceName, _, _ *cluster.Service) { j.dirty[key] = struct{}{} })
	return j
}

// hold notes what is published already.
func (j *join) hold(published []cluster.ServiceUpdate) {
	for _, u := range published {
		j.published[u.Name] = u.Service
		j.dirty[u.Name] = struct{}{}
	}
}

// namespaceChanged looks at every Service there is.
func (j *join) namespaceChanged(namespace string) {
	for name := range j.rows {
		if name.Namespace == namespace {
			j.dirty[name] = struct{}{}
		}
	}
}

// sliceChanged takes over what a slice has instead of what it had; nil stands for
// nothing.
func (j *join) sliceChanged(old, now *backing) {
	if old != nil {
		rest := slices.DeleteFunc(j.backing[old.owner], func(b *backing) bool { return b == old })
		if j.backing[old.owner] = rest; len(rest) == 0 {
			delete(j.backing, old.owner)
		}
		j.dirty[old.owner] = struct{}{}
	}
	if now != nil {
		j.backing[now.owner] = append(j.backing[now.owner], now)
		j.dirty[now.owner] = struct{}{}
		if old == nil || !old.triggered.Equal(now.triggered) {
			j.trigger(now)
		}
	}
}

func (j *join) trigger(b *backing) {
	oldest, waits := j.triggers[b.owner]
	if j.taken && !b.triggered.IsZero() && (!waits || b.triggered.Before(oldest)) {
		j.triggers[b.owner] = b.triggered
	}
}

// take returns what is different from what was taken before, by name. Services
// count only in namespaces that are exposed.
func (j *join) take(exposed func(namespace string) bool) []cluster.ServiceUpdate {
	var out []cluster.ServiceUpdate
	for _, name := range slices.SortedFunc(maps.Keys(j.dirty), cluster.ServiceName.Compare) {
		if s, changed := j.publish(name, exposed(name.Namespace)); changed {
			out = append(out, cluster.ServiceUpdate{Name: name, Service: s, Triggered: j.triggers[name]})
		}
	}
	j.dirty, j.triggers, j.taken = make(map[cluster.ServiceName]struct{}), make(map[cluster.ServiceName]time.Time), true
	return out
}

// publish brings a Service up to date and reports whether it is another than
// before; nil means that it is gone.
func (j *join) publish(name cluster.ServiceName, exposed bool) (now *cluster.Service, changed bool) {
	old := j.published[name]
	held := j.rows[name]
	if held.model == nil || !exposed {
		delete(j.published, name)
		return nil, old != nil
	}
	backing := j.backing[name]
	lists := make([][]cluster.Endpoint, len(backing))
	for i, b := range backing {
		lists[i] = b.endpoints
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
	j.rows[name] = held
	j.published[name] = now
	if len(lists) == 1 {
		backing[0].endpoints = now.Endpoints
	}
	return now, changed
}
