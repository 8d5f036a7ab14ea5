package cluster

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Update says what changed in a source. An Update is applied whole; the objects
// in it are immutable from then on.
type Update struct {
	Services []ServiceUpdate
	// Imports are Services of the cluster set (ServiceImports of the Multi-Cluster
	// Services API), with names of their own beside those of Services. They are
	// KindClusterIP or KindHeadless, and their endpoints say which Cluster has them.
	Imports    []ServiceUpdate
	Namespaces []NamespaceUpdate
	Pods       []PodUpdate
	Nodes      []NodeUpdate
	// ServiceCIDRs, if not nil, are from now on the ranges that ClusterIPs come
	// from; every address in them is the cluster's.
	ServiceCIDRs []netip.Prefix
	// Origins, if not nil, are from now on the addresses that the source is read
	// from, as far as it has any.
	Origins []netip.Addr
	// Synced is set on the Update that completes the source's first listing.
	Synced bool
	// Incomplete is set as long as there was something that the source could
	// not read even once. What is not known may then exist all the same, and is
	// not to be taken for gone.
	Incomplete bool
	// Unsure is set as long as the source may not know that ServiceCIDRs are gone, or
	// what else is in them: it is out of touch, or has not asked for all Nodes yet.
	Unsure bool
}

// IsEmpty reports whether no object has changed, nor the ranges and origins.
func (u *Update) IsEmpty() bool {
	return len(u.Services)+len(u.Imports)+len(u.Namespaces)+len(u.Pods)+len(u.Nodes) == 0 && u.ServiceCIDRs == nil && u.Origins == nil
}

// ServiceUpdate replaces a Service; a nil Service means it is gone.
type ServiceUpdate struct {
	Name    ServiceName
	Service *Service
	// Triggered is when the pod or the Service changed that had the endpoints
	// change, as far as the source is told (it is for measuring latency).
	Triggered time.Time
}

// NamespaceUpdate says whether a namespace exists.
type NamespaceUpdate struct {
	Name   string
	Exists bool
}

// PodUpdate replaces a Pod; a nil Pod means it is gone.
type PodUpdate struct {
	Name PodName
	Pod  *Pod
}

// NodeUpdate replaces a Node; a nil Node means it is gone.
type NodeUpdate struct {
	Name string
	Node *Node
}

// Subscriber receives every Update in order, one at a time. It runs while the
// Store is locked: it must not block, nor call the Store (Generation is fine).
type Subscriber func(Update)

// Store holds the last good state of a source and hands each change on to its
// subscribers. A Store is safe for concurrent use.
type Store struct {
	mu          sync.Mutex
	services    map[ServiceName]*Service
	imports     map[ServiceName]*Service
	endpoints   int // of both
	namespaces  map[string]struct{}
	pods        map[PodName]*Pod
	nodes       map[string]*Node
	cidrs       []netip.Prefix
	origins     []netip.Addr
	incomplete  bool
	unsure      bool
	subscribers []*Subscriber

	generation atomic.Uint64
	synced     chan struct{}
	syncOnce   sync.Once
}

// Generations become SOA serials (RFC 1982). They begin at the clock: at generationsFrom,
// the start of 2026 in Unix seconds, plus generationsPerSecond for each second since. Each
// Update adds one, so that two within a second are two serials.
//
// Over a restart they rise as long as Updates average fewer than generationsPerSecond.
// If they ran ahead of the clock, a secondary could have a copy of a history that the
// restarted server never had. A higher rate would make that rarer. But serials must be
// newer than the Unix time, which is CoreDNS's serial, or its secondaries would not
// transfer from its successor. They are until 2030.
const (
	generationsFrom      = 1767225600
	generationsPerSecond = 16
)

func generationAt(t time.Time) uint64 {
	return generationsFrom + uint64(max(0, t.Unix()-generationsFrom))*generationsPerSecond
}

// NewStore returns an empty Store that is not synced.
func NewStore() *Store {
	s := &Store{
		services:   make(map[ServiceName]*Service),
		imports:    make(map[ServiceName]*Service),
		namespaces: make(map[string]struct{}),
		pods:       make(map[PodName]*Pod),
		nodes:      make(map[string]*Node),
		synced:     make(chan struct{}),
	}
	s.generation.Store(generationAt(time.Now()))
	return s
}

// Apply takes over an Update and passes it to every subscriber before it
// returns.
func (s *Store) Apply(u Update) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apply(u)
}

// Renew begins a generation in which nothing has changed, for who serves the same
// objects in another way from now on.
func (s *Store) Renew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apply(Update{Incomplete: s.incomplete, Unsure: s.unsure})
}

func (s *Store) apply(u Update) {
	for _, c := range u.Services {
		s.setService(s.services, c)
	}
	for _, c := range u.Imports {
		s.setService(s.imports, c)
	}
	for _, c := range u.Namespaces {
		if c.Exists {
			s.namespaces[c.Name] = struct{}{}
		} else {
			delete(s.namespaces, c.Name)
		}
	}
	for _, c := range u.Pods {
		set(s.pods, c.Name, c.Pod)
	}
	for _, c := range u.Nodes {
		set(s.nodes, c.Name, c.Node)
	}
	if u.ServiceCIDRs != nil {
		s.cidrs = u.ServiceCIDRs
	}
	if u.Origins != nil {
		s.origins = u.Origins
	}
	s.incomplete, s.unsure = u.Incomplete, u.Unsure
	s.generation.Add(1)
	for _, subscriber := range s.subscribers {
		(*subscriber)(u)
	}
	if u.Synced {
		s.syncOnce.Do(func() { close(s.synced) })
	}
}

func (s *Store) setService(in map[ServiceName]*Service, c ServiceUpdate) {
	if before := in[c.Name]; before != nil {
		s.endpoints -= len(before.Endpoints)
	}
	if c.Service != nil {
		s.endpoints += len(c.Service.Endpoints)
	}
	set(in, c.Name, c.Service)
}

func set[K comparable, V any](m map[K]*V, k K, v *V) {
	if v == nil {
		delete(m, k)
	} else {
		m[k] = v
	}
}

// Subscribe hands the present state to the subscriber as one Update, and from
// then on each change, until unsubscribe is called.
func (s *Store) Subscribe(subscriber Subscriber) (unsubscribe func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	subscriber(s.snapshot())
	entry := &subscriber
	s.subscribers = append(s.subscribers, entry)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.subscribers = slices.DeleteFunc(s.subscribers, func(e *Subscriber) bool { return e == entry })
	}
}

// Snapshot returns the whole present state as one Update, sorted by name.
func (s *Store) Snapshot() Update {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.snapshot()
}

func (s *Store) snapshot() Update {
	u := Update{ServiceCIDRs: s.cidrs, Origins: s.origins, Synced: s.HasSynced(), Incomplete: s.incomplete, Unsure: s.unsure}
	u.Services = slices.Grow(u.Services, len(s.services))
	for _, name := range SortedNames(s.services) {
		u.Services = append(u.Services, ServiceUpdate{Name: name, Service: s.services[name]})
	}
	for _, name := range SortedNames(s.imports) {
		u.Imports = append(u.Imports, ServiceUpdate{Name: name, Service: s.imports[name]})
	}
	for _, name := range slices.Sorted(maps.Keys(s.namespaces)) {
		u.Namespaces = append(u.Namespaces, NamespaceUpdate{name, true})
	}
	for _, name := range slices.SortedFunc(maps.Keys(s.pods), PodName.Compare) {
		u.Pods = append(u.Pods, PodUpdate{name, s.pods[name]})
	}
	for _, name := range slices.Sorted(maps.Keys(s.nodes)) {
		u.Nodes = append(u.Nodes, NodeUpdate{name, s.nodes[name]})
	}
	return u
}

// Counts says how much a Store has. An endpoint of several Services counts for each.
type Counts struct{ Services, Imports, Endpoints, Namespaces, Pods int }

// Counts counts what is there now.
func (s *Store) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Counts{len(s.services), len(s.imports), s.endpoints, len(s.namespaces), len(s.pods)}
}

// Synced is closed when the source has delivered its first complete listing.
func (s *Store) Synced() <-chan struct{} { return s.synced }

// HasSynced reports whether Synced is closed.
func (s *Store) HasSynced() bool {
	select {
	case <-s.synced:
		return true
	default:
		return false
	}
}

// Generation counts Updates, starting from the time of NewStore, see generationAt. Its
// low 32 bits are the SOA serial (RFC 1982 arithmetic).
func (s *Store) Generation() uint64 { return s.generation.Load() }
