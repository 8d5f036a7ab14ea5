package zone

import (
	"cmp"
	"hash/maphash"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/clusterip/clusterip/cluster"
	"github.com/miekg/dns"
)

// PodMode says which pod names ("10-42-0-7.default.pod.<zone>") are answered.
type PodMode uint8

const (
	// PodsDisabled answers none; the zero value.
	PodsDisabled PodMode = iota
	// PodsInsecure answers every address in every namespace that exists.
	PodsInsecure
	// PodsVerified answers addresses of pods of that namespace.
	PodsVerified
)

// Options say what is served and how.
type Options struct {
	TTL              uint32
	EndpointPodNames bool // name endpoints after their pods
	IgnoreEmpty      bool // no names for a ClusterIP without usable endpoints
	Zonal            bool // names for the endpoints in one topology zone
	Pods             PodMode
	// Namespaces are the only ones served; none means all.
	Namespaces []string
	// Nameservers are this server's own addresses. Where they are endpoints of a
	// Service, ns.dns.<zone> has that Service's addresses, else these.
	Nameservers []netip.Addr
}

// Index answers for the zones of one server block. Lookups may run at any time;
// Apply is for one writer at a time.
type Index struct {
	options    Options
	zones      []*Zone // the most specific first
	primary    *Zone   // reverse pointers lead here
	namespaces namespaces
	pointers   pointers
	pods       pods
	tracked    bool
}

// New returns an empty Index for zones in lower case, fully qualified, of which
// the first forward one is the target of reverse pointers. Without a forward
// zone there is none, and New panics.
func New(origins []string, o Options) *Index {
	x := &Index{options: o}
	for _, origin := range origins {
		z := &Zone{origin: origin, reverse: IsReverse(origin), index: x}
		z.above = !z.reverse && Contains(origin, reverse4)
		z.version = rrset{qtype: dns.TypeTXT, records: []dns.RR{&dns.TXT{
			Hdr: header(join("dns-version", origin), dns.TypeTXT, versionTTL), Txt: []string{Version},
		}}}
		z.services.seed = maphash.MakeSeed()
		x.zones = append(x.zones, z)
		if x.primary == nil && !z.reverse {
			x.primary = z
		}
	}
	if x.primary == nil {
		panic("zone: no forward zone among " + strings.Join(origins, " "))
	}
	slices.SortStableFunc(x.zones, func(a, b *Zone) int { return cmp.Compare(len(b.origin), len(a.origin)) })
	return x
}

// Match returns the most specific zone that name is in, or nil.
func (x *Index) Match(name string) *Zone {
	for _, z := range x.zones {
		if Contains(z.origin, name) {
			return z
		}
	}
	return nil
}

// Apply takes over what changed. After Track it returns how that changed zones.
func (x *Index) Apply(u cluster.Update) []Change {
	changes := x.track()
	for _, c := range u.Namespaces {
		if x.exposed(c.Name) {
			x.namespaces.declare(c.Name, c.Exists)
		}
	}
	reverse := x.pointers.edit()
	for _, c := range u.Services {
		if x.exposed(c.Name.Namespace) {
			x.setService(c.Name, c.Service, reverse, changes)
		}
	}
	x.namespaces.publish()
	x.pointers.publish(reverse)
	if x.options.Pods == PodsVerified {
		x.setPods(u.Pods)
	}
	return changes.end()
}

func (x *Index) setPods(updates []cluster.PodUpdate) {
	addresses := x.pods.edit()
	for _, c := range updates {
		if x.exposed(c.Name.Namespace) {
			x.pods.set(c.Name, c.Pod, addresses)
		}
	}
	x.pods.publish(addresses)
}

func (x *Index) exposed(namespace string) bool {
	return len(x.options.Namespaces) == 0 || slices.Contains(x.options.Namespaces, namespace)
}

// setService replaces the records of a Service, or removes them for nil.
func (x *Index) setService(name cluster.ServiceName, service *cluster.Service, reverse *edit[*reversed], changes *tracker) {
	k := key(name)
	old := x.primary.services.get(k)
	if (old == nil) != (service == nil) {
		x.namespaces.count(name.Namespace, service != nil)
	}
	for _, z := range x.zones {
		if z.reverse {
			continue
		}
		var records *Records
		if service != nil {
			records = Compile(service, z.origin, x.options)
		}
		changes.recompiled(z.services.get(k), records)
		z.services.set(k, records)
	}
	replace(reverse, k, old.reverse(), x.primary.services.get(k).reverse(), changes)
}

// reverse returns the pointers to a Service, none for nil.
func (r *Records) reverse() []*pointer {
	if r == nil {
		return nil
	}
	return r.pointers
}

// shardCount makes a shard of 10,000 Services a map of about 40.
const shardCount = 256

// shards is a map from the "name.namespace" of a Service to its records. A
// change copies one shard and publishes it in one atomic store.
type shards struct {
	seed maphash.Seed
	maps [shardCount]atomic.Pointer[map[string]*Records]
}

func (s *shards) shard(k string) *atomic.Pointer[map[string]*Records] {
	return &s.maps[maphash.String(s.seed, k)%shardCount]
}

func (s *shards) get(k string) *Records {
	m := s.shard(k).Load()
	if m == nil {
		return nil
	}
	return (*m)[k]
}

func (s *shards) set(k string, r *Records) {
	at := s.shard(k)
	m := make(map[string]*Records)
	if old := at.Load(); old != nil {
		m = maps.Clone(*old)
	}
	if r == nil {
		delete(m, k)
	} else {
		m[k] = r
	}
	at.Store(&m)
}

// namespaces are those that exist: declared by an object, or implied by a
// Service, since no name can exist below one that does not (RFC 8020).
type namespaces struct {
	published atomic.Pointer[map[string]struct{}]
	// For the writer.
	declared map[string]bool
	services map[string]int
	touched  map[string]bool // since they were published
}

func (n *namespaces) answer(name string) Answer {
	if n.exists(name) {
		return Answer{Outcome: NoData}
	}
	return Answer{Outcome: NXDomain}
}

func (n *namespaces) exists(name string) bool {
	m := n.published.Load()
	if m == nil {
		return false
	}
	_, ok := (*m)[name]
	return ok
}

func (n *namespaces) declare(name string, exists bool) {
	n.touch(name)
	n.declared[name] = exists
}

// count notes that a Service came to a namespace, or left it.
func (n *namespaces) count(name string, came bool) {
	n.touch(name)
	if came {
		n.services[name]++
	} else {
		n.services[name]--
	}
}

func (n *namespaces) touch(name string) {
	if n.touched == nil {
		n.declared, n.services, n.touched = make(map[string]bool), make(map[string]int), make(map[string]bool)
	}
	n.touched[name] = true
}

// publish makes a new set, if a namespace came into being or ceased to be: one for
// all of an update, since there may be many.
func (n *namespaces) publish() {
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
			next = make(map[string]struct{})
			if old := n.published.Load(); old != nil {
				next = maps.Clone(*old)
			}
		}
		if exists {
			next[name] = struct{}{}
		} else {
			delete(next, name)
		}
	}
	clear(n.touched)
	if next != nil {
		n.published.Store(&next)
	}
}
