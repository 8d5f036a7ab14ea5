package kubernetes

import (
	"reflect"
	"slices"
	"time"

	"github.com/clusterip/clusterip/cluster"
)

// join merges Services with the endpoints of their EndpointSlices. There is one for the
// Services of this cluster and another for imported ones.
type join struct {
	table[cluster.Service]
	backing   map[key][]*backing
	published map[key]*cluster.Service
	// triggers has when the oldest change was made that was not taken yet; what the
	// first list shows happened at any time before, and does not count.
	triggers map[key]time.Time
	taken    bool
}

// backing is what an EndpointSlice has for a Service. Where it is the Service's only
// one, as mostly, they share the memory of the endpoints.
type backing struct {
	owner     key
	endpoints []cluster.Endpoint
	triggered time.Time
}

func newJoin(kind string, judged func(place string, err error)) *join {
	return &join{
		table:     newTable[cluster.Service](kind, judged, nil),
		backing:   make(map[key][]*backing),
		published: make(map[key]*cluster.Service),
		triggers:  make(map[key]time.Time),
	}
}

// hold notes what is published already.
func (j *join) hold(published []cluster.ServiceUpdate) {
	for _, u := range published {
		j.published[key(u.Name)] = u.Service
		j.dirty[key(u.Name)] = struct{}{}
	}
}

// namespacesChanged looks at every Service there is.
func (j *join) namespacesChanged(namespaces map[key]struct{}) {
	for name := range j.rows {
		if _, changed := namespaces[key{Name: name.Namespace}]; changed {
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
	dirty := j.takeDirty()
	out := make([]cluster.ServiceUpdate, 0, len(dirty))
	for _, name := range dirty {
		if s, changed := j.publish(name, exposed(name.Namespace)); changed {
			out = append(out, cluster.ServiceUpdate{Name: cluster.ServiceName(name), Service: s, Triggered: j.triggers[name]})
		}
	}
	j.triggers, j.taken = make(map[key]time.Time), true
	return out
}

// publish brings a Service up to date and reports whether it is another than
// before; nil means that it is gone.
func (j *join) publish(name key, exposed bool) (now *cluster.Service, changed bool) {
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
	if changed = !same(old, now); !changed {
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

// same reports whether two Services say the same. There may be thousands of endpoints, mostly
// the same ones.
func same(a, b *cluster.Service) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, y := *a, *b
	x.Endpoints, y.Endpoints = nil, nil
	return reflect.DeepEqual(x, y) && slices.EqualFunc(a.Endpoints, b.Endpoints, func(a, b cluster.Endpoint) bool {
		return a == b || reflect.DeepEqual(a, b)
	})
}
