package kubernetes

import (
	"fmt"
	"math/rand"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// world is what an API server has: for each name the object as it stands.
type world struct {
	namespaces map[string]bool
	services   serviceObjects
	imports    serviceObjects
	slices     map[key]object[slice]
	pods       map[cluster.PodName]object[cluster.Pod]
	version    int
}

type serviceObjects map[cluster.ServiceName]object[cluster.Service]

func newWorld() *world {
	return &world{
		namespaces: make(map[string]bool),
		services:   make(serviceObjects),
		imports:    make(serviceObjects),
		slices:     make(map[key]object[slice]),
		pods:       make(map[cluster.PodName]object[cluster.Pod]),
	}
}

func (w *world) next() string {
	w.version++
	return fmt.Sprint(w.version)
}

// tell is a joiner's way to hear of an object: by an event.
type tell func(*joiner)

// step changes one object and returns the event.
func (w *world) step(rng *rand.Rand) tell {
	namespace := fmt.Sprintf("ns-%d", rng.Intn(2))
	switch gone := rng.Intn(4) == 0; rng.Intn(5) {
	case 0:
		w.namespaces[namespace] = !gone
		if gone {
			delete(w.namespaces, namespace)
			return func(j *joiner) { j.namespaces.remove(key{Name: namespace}) }
		}
		o := namespaceObject(namespace, w.next())
		return func(j *joiner) { j.namespaces.set(o) }
	case 1:
		return w.stepService(rng, namespace, gone, w.services, func(j *joiner) *join { return j.services })
	case 2:
		return w.stepService(rng, namespace, gone, w.imports, func(j *joiner) *join { return j.imports })
	case 3:
		name := cluster.PodName{Namespace: namespace, Name: fmt.Sprintf("pod-%d", rng.Intn(2))}
		if gone {
			delete(w.pods, name)
			return func(j *joiner) { j.pods.remove(key(name)) }
		}
		o := object[cluster.Pod]{key: key(name), version: w.next(),
			model: &cluster.Pod{Name: name, IPs: []netip.Addr{address(rng.Intn(3))}}}
		w.pods[name] = o
		return func(j *joiner) { j.pods.set(o) }
	default:
		name := key{namespace, fmt.Sprintf("slice-%d", rng.Intn(4))}
		if gone {
			delete(w.slices, name)
			return func(j *joiner) { j.slices.remove(name) }
		}
		o := randomSlice(rng, name, w.next())
		w.slices[name] = o
		return func(j *joiner) { j.slices.set(cloneSlice(o)) }
	}
}

// stepService changes a Service, or an imported one.
func (w *world) stepService(rng *rand.Rand, namespace string, gone bool, in serviceObjects, of func(*joiner) *join) tell {
	name := cluster.ServiceName{Namespace: namespace, Name: fmt.Sprintf("svc-%d", rng.Intn(3))}
	if gone {
		delete(in, name)
		return func(j *joiner) { of(j).remove(key(name)) }
	}
	o := randomService(rng, name, w.next())
	in[name] = o
	return func(j *joiner) { of(j).set(o) }
}

func address(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 42, 0, byte(n)}) }

func namespaceObject(name, version string) object[namespace] {
	return object[namespace]{key: key{Name: name}, version: version, model: &namespace{}}
}

func randomService(rng *rand.Rand, name cluster.ServiceName, version string) object[cluster.Service] {
	model := cluster.Service{Name: name, Kind: cluster.Kind(1 + rng.Intn(3)), AffinitySeconds: uint32(rng.Intn(2))}
	return object[cluster.Service]{key: key(name), version: version, model: &model}
}

// randomSlice backs a Service, an imported one, both, or none.
func randomSlice(rng *rand.Rand, name key, version string) object[slice] {
	var s slice
	if rng.Intn(3) > 0 {
		s.local = randomBacking(rng, name.Namespace, "")
	}
	if rng.Intn(3) > 0 {
		s.imported = randomBacking(rng, name.Namespace, fmt.Sprintf("cluster-%d", rng.Intn(2)))
	}
	return object[slice]{key: name, version: version, model: &s}
}

func randomBacking(rng *rand.Rand, namespace, in string) *backing {
	b := &backing{owner: key{Namespace: namespace, Name: fmt.Sprintf("svc-%d", rng.Intn(3))}}
	for range rng.Intn(3) {
		b.endpoints = append(b.endpoints, cluster.Endpoint{Addr: address(rng.Intn(4)), Slice: &cluster.EndpointSlice{Cluster: in}, Ready: rng.Intn(2) == 0})
	}
	return b
}

// cloneSlice is for whoever may change the slice: a joiner does.
func cloneSlice(o object[slice]) object[slice] {
	clone := func(b *backing) *backing {
		if b == nil {
			return nil
		}
		copied := *b
		return &copied
	}
	o.model = &slice{clone(o.model.local), clone(o.model.imported)}
	return o
}

// list gives a joiner all objects, as a list of each kind does.
func (w *world) list(j *joiner) {
	var namespaces []object[namespace]
	for name := range w.namespaces {
		namespaces = append(namespaces, namespaceObject(name, "listed"))
	}
	j.namespaces.replace(namespaces)
	j.services.replace(values(w.services))
	j.imports.replace(values(w.imports))
	j.pods.replace(values(w.pods))
	var all []object[slice]
	for _, o := range w.slices {
		all = append(all, cloneSlice(o))
	}
	j.slices.replace(all)
}

func values[K comparable, V any](m map[K]V) []V {
	var out []V
	for _, v := range m {
		out = append(out, v)
	}
	return out
}

// expected is the slow obvious way to what a Store should hold.
func (w *world) expected(selective bool) cluster.Update {
	store := cluster.NewStore()
	var u cluster.Update
	for name := range w.namespaces {
		u.Namespaces = append(u.Namespaces, cluster.NamespaceUpdate{Name: name, Exists: true})
	}
	u.Services = w.joined(selective, w.services, func(s *slice) *backing { return s.local })
	u.Imports = w.joined(selective, w.imports, func(s *slice) *backing { return s.imported })
	for name, o := range w.pods {
		u.Pods = append(u.Pods, cluster.PodUpdate{Name: name, Pod: o.model})
	}
	store.Apply(u)
	return store.Snapshot()
}

func (w *world) joined(selective bool, in serviceObjects, back func(*slice) *backing) []cluster.ServiceUpdate {
	var out []cluster.ServiceUpdate
	for name, o := range in {
		if selective && !w.namespaces[name.Namespace] {
			continue
		}
		var lists [][]cluster.Endpoint
		for _, s := range w.slices {
			if b := back(s.model); b != nil && b.owner == key(name) && o.model.Kind != cluster.KindExternalName {
				lists = append(lists, b.endpoints)
			}
		}
		out = append(out, cluster.ServiceUpdate{Name: name, Service: cluster.New(*o.model, lists...)})
	}
	return out
}

func quiet(string, error) {}

// held is what a Store has been given.
type held map[cluster.ServiceName]*cluster.Service

func (h held) take(t *testing.T, seed int64, updates []cluster.ServiceUpdate) {
	for _, u := range updates {
		if reflect.DeepEqual(h[u.Name], u.Service) {
			t.Errorf("seed %d: %v was published again", seed, u.Name)
		}
		h[u.Name] = u.Service
	}
}

// Whatever the order of events, lists and Updates, the Store ends up with what a
// fresh list would have given it, and no Update has a Service that is the same.
func TestWalk(t *testing.T) {
	for seed := range int64(100) {
		rng := rand.New(rand.NewSource(seed))
		selective := seed%2 == 0
		w, store := newWorld(), cluster.NewStore()
		j := newJoiner(store.Snapshot(), selective, quiet)
		services, imports := make(held), make(held)
		store.Subscribe(func(u cluster.Update) {
			services.take(t, seed, u.Services)
			imports.take(t, seed, u.Imports)
		})
		for range 150 {
			event := w.step(rng)
			switch rng.Intn(10) {
			case 0: // the event is lost, and a new list mends it
				w.list(j)
			case 1: // another source takes the Store over
				j = newJoiner(store.Snapshot(), selective, quiet)
				w.list(j)
			case 2: // it comes twice
				event(j)
				event(j)
			default:
				event(j)
			}
			if rng.Intn(3) > 0 {
				continue
			}
			store.Apply(j.take())
			if diff := cmp.Diff(w.expected(selective), store.Snapshot(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
				cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("seed %d: fresh (-), followed (+):\n%s", seed, diff)
			}
		}
	}
}

// An object that cannot be converted keeps its last good state and is named once.
func TestUnusable(t *testing.T) {
	var told []string
	j := newJoiner(cluster.Update{}, false, func(place string, err error) { told = append(told, fmt.Sprint(place, " ", err)) })
	name := cluster.ServiceName{Namespace: "shop", Name: "web"}
	good := object[cluster.Service]{key: key(name), version: "1", model: &cluster.Service{Name: name, Kind: cluster.KindHeadless}}
	bad := object[cluster.Service]{key: key(name), version: "2", err: fmt.Errorf("wrong")}
	j.services.set(good)
	j.take()
	j.services.set(bad)
	j.services.set(bad)
	if u := j.take(); !u.IsEmpty() {
		t.Errorf("it was published: %+v", u)
	}
	j.slices.set(object[slice]{key: key{"shop", "web-1"}, version: "3",
		model: &slice{local: &backing{owner: key(name), endpoints: []cluster.Endpoint{{Addr: address(1)}}}}})
	if u := j.take(); len(u.Services) != 1 || len(u.Services[0].Service.Endpoints) != 1 {
		t.Errorf("its endpoints are not followed: %+v", u)
	}
	good.version = "4"
	j.services.set(good)
	want := []string{"Service shop/web wrong", "Service shop/web <nil>"}
	if !reflect.DeepEqual(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}

// The endpoints of a Service with one EndpointSlice are in memory once.
func TestSharedMemory(t *testing.T) {
	j := newJoiner(cluster.Update{}, false, quiet)
	name := cluster.ServiceName{Namespace: "shop", Name: "web"}
	b := &backing{owner: key(name), endpoints: []cluster.Endpoint{{Addr: address(2)}, {Addr: address(1)}}}
	j.services.set(object[cluster.Service]{key: key(name), model: &cluster.Service{Name: name, Kind: cluster.KindHeadless}})
	j.slices.set(object[slice]{key: key{"shop", "web-1"}, model: &slice{local: b}})
	if published := j.take().Services[0].Service; &published.Endpoints[0] != &b.endpoints[0] {
		t.Error("the EndpointSlice has its own copy")
	}
}

// A Service is published with the time of the oldest change since the last time that
// brought endpoints. What the first list shows happened at any time.
func TestTriggers(t *testing.T) {
	j := newJoiner(cluster.Update{}, false, quiet)
	name := cluster.ServiceName{Namespace: "shop", Name: "web"}
	at := func(second int) time.Time { return time.Date(2026, 1, 1, 0, 0, second, 0, time.UTC) }
	version := 0
	put := func(sliceOf string, last byte, triggered time.Time) {
		version++
		b := &backing{owner: key(name), endpoints: []cluster.Endpoint{{Addr: address(int(last))}}, triggered: triggered}
		j.slices.set(object[slice]{key: key{"shop", sliceOf}, version: fmt.Sprint(version), model: &slice{local: b}})
	}
	taken := func(want time.Time) {
		t.Helper()
		u := j.take()
		if len(u.Services) != 1 || !u.Services[0].Triggered.Equal(want) {
			t.Errorf("got %+v, want one Service, triggered %v", u.Services, want)
		}
	}
	j.services.set(object[cluster.Service]{key: key(name), version: "1", model: &cluster.Service{Name: name, Kind: cluster.KindHeadless}})
	put("a", 1, at(1))
	taken(time.Time{})
	put("a", 2, at(3))
	put("b", 3, at(2))
	put("a", 4, at(9))
	taken(at(2))
	put("a", 5, at(9)) // written again for another reason
	taken(time.Time{})
	put("a", 6, time.Time{})
	taken(time.Time{})
}
