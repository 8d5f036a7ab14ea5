package zone

import (
	"hash/maphash"
	"iter"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/clusterip/clusterip/cluster"
)

// Service returns a Service that is served, or nil.
func (x *Index) Service(name cluster.ServiceName) *cluster.Service {
	return x.primary.services.get(key(name)).of()
}

// of returns the Service that the records are of, nil for nil.
func (r *Records) of() *cluster.Service {
	if r == nil {
		return nil
	}
	return r.service
}

// Services returns all Services that are served, sorted by name.
func (x *Index) Services() []*cluster.Service {
	var all []*cluster.Service
	for records := range x.primary.services.all() {
		all = append(all, records.service)
	}
	slices.SortFunc(all, func(a, b *cluster.Service) int { return a.Name.Compare(b.Name) })
	return all
}

// HasNamespace reports whether there is a namespace, and it is served.
func (x *Index) HasNamespace(name string) bool { return x.namespaces.exists(name) }

// shardCount makes a shard of 10,000 Services a map of about 40.
const shardCount = 256

// shards is a map from the "name.namespace" of a Service to its records. A
// change copies one shard and commits it in one atomic store.
type shards struct {
	seed maphash.Seed
	maps [shardCount]atomic.Pointer[map[string]*Records]
	// next has, for the writer, the shards that have changed and are not committed.
	next map[uint64]map[string]*Records
}

func (s *shards) number(k string) uint64 { return maphash.String(s.seed, k) % shardCount }

func (s *shards) get(k string) *Records {
	if m := s.maps[s.number(k)].Load(); m != nil {
		return (*m)[k]
	}
	return nil
}

// pending is get for the writer, who sees what is not committed yet.
func (s *shards) pending(k string) *Records {
	if m, changed := s.next[s.number(k)]; changed {
		return m[k]
	}
	return s.get(k)
}

// set replaces the records of a Service, or removes them for nil. However many
// change in an Update, a shard is copied once.
func (s *shards) set(k string, r *Records) {
	n := s.number(k)
	m, changed := s.next[n]
	if !changed {
		m = make(map[string]*Records)
		if old := s.maps[n].Load(); old != nil {
			m = maps.Clone(*old)
		}
		s.next[n] = m
	}
	if r == nil {
		delete(m, k)
	} else {
		m[r.key()] = r
	}
}

func (s *shards) commit() {
	for n, m := range s.next {
		s.maps[n].Store(&m)
	}
	clear(s.next)
}

// snapshot returns what all shards are now, which nobody changes any more. While a commit
// goes on it would have some of that.
func (s *shards) snapshot() *shards {
	then := &shards{seed: s.seed}
	for i := range s.maps {
		then.maps[i].Store(s.maps[i].Load())
	}
	return then
}

func (s *shards) all() iter.Seq[*Records] {
	return func(yield func(*Records) bool) {
		for i := range s.maps {
			m := s.maps[i].Load()
			if m == nil {
				continue
			}
			for _, records := range *m {
				if !yield(records) {
					return
				}
			}
		}
	}
}

// namespaces are those that exist: declared by an object, or implied by a
// Service, since no name can exist below one that does not (RFC 8020).
type namespaces struct {
	current atomic.Pointer[map[string]struct{}]
	// For the writer.
	declared map[string]bool
	services map[string]int
	touched  map[string]bool // since the last commit
}

func (n *namespaces) init() {
	n.current.Store(&map[string]struct{}{})
	n.declared, n.services, n.touched = make(map[string]bool), make(map[string]int), make(map[string]bool)
}

func (n *namespaces) hit(name string) Hit {
	if n.exists(name) {
		return Hit{Outcome: NoData}
	}
	return Hit{Outcome: NXDomain}
}

func (n *namespaces) exists(name string) bool {
	_, ok := (*n.current.Load())[name]
	return ok
}

func (n *namespaces) declare(name string, exists bool) {
	n.touched[name], n.declared[name] = true, exists
}

// count notes that a Service came to a namespace, or left it.
func (n *namespaces) count(name string, came bool) {
	n.touched[name] = true
	if came {
		n.services[name]++
	} else {
		n.services[name]--
	}
}

// commit makes a new set, if a namespace came into being or ceased to be: one for
// all of an update, since there may be many.
func (n *namespaces) commit() {
	var next map[string]struct{}
	for name := range n.touched {
		exists := n.declared[name] || n.services[name] > 0
		if !exists {
			delete(n.declared, name)
			delete(n.services, name)
		}
		if exists == n.exists(name) {
			continue
		}
		if next == nil {
			next = maps.Clone(*n.current.Load())
		}
		if exists {
			next[name] = struct{}{}
		} else {
			delete(next, name)
		}
	}
	clear(n.touched)
	if next != nil {
		n.current.Store(&next)
	}
}
