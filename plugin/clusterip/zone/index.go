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
	PTRFirst         bool // one pointer to each pod at an address
	// Multicluster are the zones that have the imported Services, and no others.
	Multicluster []string
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
	local      []*Zone // forward ones with the Services of this cluster
	imported   []*Zone // those of Options.Multicluster
	primary    *Zone   // the first of local: reverse pointers lead here
	namespaces namespaces
	pointers   pointers
	pods       pods
	published  holders[cluster.Service]
	tracked    bool
}

// New returns an empty Index for zones in lower case, fully qualified, of which
// the first forward one is the target of reverse pointers. Without a forward
// zone there is none, and New panics.
func New(origins []string, o Options) *Index {
	x := &Index{options: o}
	for _, origin := range origins {
		z := x.newZone(origin)
		x.zones = append(x.zones, z)
		switch {
		case z.reverse:
		case slices.Contains(o.Multicluster, origin):
			x.imported = append(x.imported, z)
		default:
			x.local = append(x.local, z)
		}
	}
	switch {
	case len(x.local) > 0:
	case len(x.imported) > 0:
		// Reverse pointers lead there all the same, as CoreDNS's do.
		hidden := x.newZone(x.imported[0].origin)
		hidden.hidden = true
		x.local = []*Zone{hidden}
	default:
		panic("zone: no forward zone among " + strings.Join(origins, " "))
	}
	x.primary = x.local[0]
	slices.SortStableFunc(x.zones, func(a, b *Zone) int { return cmp.Compare(len(b.origin), len(a.origin)) })
	return x
}

func (x *Index) newZone(origin string) *Zone {
	z := &Zone{origin: origin, reverse: IsReverse(origin), index: x}
	z.above = !z.reverse && Contains(origin, reverse4)
	z.version = rrset{qtype: dns.TypeTXT, records: []dns.RR{&dns.TXT{
		Hdr: header(join("dns-version", origin), dns.TypeTXT, versionTTL), Txt: []string{Version},
	}}}
	z.services.seed = maphash.MakeSeed()
	return z
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
	reverse, published := x.pointers.edit(), x.published.edit()
	var moved []relocation
	for _, c := range u.Services {
		if !x.exposed(c.Name.Namespace) {
			continue
		}
		publish(published, serviceOf(x.primary.services.latest(key(c.Name))), c.Service)
		m := x.setService(c.Name, c.Service, changes)
		if changes == nil {
			m.apply(reverse)
		} else {
			moved = append(moved, m)
		}
	}
	x.relocate(reverse, moved, changes)
	for _, c := range u.Imports {
		if len(x.imported) > 0 && x.exposed(c.Name.Namespace) {
			x.set(x.imported, c.Name, c.Service, changes)
		}
	}
	x.namespaces.publish()
	for _, z := range slices.Concat(x.local, x.imported) {
		z.services.publish()
	}
	x.pointers.publish(reverse)
	x.published.publish(published)
	if x.options.Pods == PodsVerified {
		x.setPods(u.Pods)
	}
	return changes.end()
}

func (x *Index) setPods(updates []cluster.PodUpdate) {
	addresses := x.pods.edit()
	for _, c := range updates {
		// Also in namespaces that are not served: clients come from there.
		x.pods.set(c.Name, c.Pod, addresses)
	}
	x.pods.publish(addresses)
}

func (x *Index) exposed(namespace string) bool {
	return len(x.options.Namespaces) == 0 || slices.Contains(x.options.Namespaces, namespace)
}

// relocation is a Service to which other addresses lead than before. Sorted.
type relocation struct {
	service  string
	from, to []netip.Addr
}

func (r relocation) apply(e *edit[*owners]) { replace(e, r.service, r.from, r.to) }

// setService replaces all there is of a Service, or removes it for nil.
func (x *Index) setService(name cluster.ServiceName, service *cluster.Service, changes *tracker) relocation {
	k := key(name)
	old := x.primary.services.latest(k)
	x.set(x.local, name, service, changes)
	now := x.primary.services.latest(k)
	if now != nil {
		k = now.key() // in memory that is there anyway
	}
	return relocation{k, old.addresses(), now.addresses()}
}

// relocate takes over all relocations of an Update, and what has become of the
// pointers: an address that many Services share is looked at once.
func (x *Index) relocate(reverse *edit[*owners], moved []relocation, changes *tracker) {
	var touched []netip.Addr
	for _, m := range moved {
		touched = append(append(touched, m.from...), m.to...)
	}
	slices.SortFunc(touched, netip.Addr.Compare)
	touched = slices.Compact(touched)
	before := reverseRecords(touched, reverse, x.primary.services.get)
	for _, m := range moved {
		m.apply(reverse)
	}
	after := reverseRecords(touched, reverse, x.primary.services.latest)
	for i := range touched {
		changes.replaced(before[i], after[i])
	}
}

// set replaces the records of a Service in zones that have the same ones.
func (x *Index) set(zones []*Zone, name cluster.ServiceName, service *cluster.Service, changes *tracker) {
	k := key(name)
	if known := zones[0].services.latest(k) != nil; known != (service != nil) {
		x.namespaces.count(name.Namespace, service != nil)
	}
	for _, z := range zones {
		var records *Records
		if service != nil {
			if records = newRecords(service, z); records.isLarge() {
				records.compiled()
			}
		}
		if !z.hidden {
			changes.recompiled(z, z.services.latest(k), records)
		}
		z.services.set(k, records)
	}
}

// shardCount makes a shard of 10,000 Services a map of about 40.
const shardCount = 256

// shards is a map from the "name.namespace" of a Service to its records. A
// change copies one shard and publishes it in one atomic store.
type shards struct {
	seed maphash.Seed
	maps [shardCount]atomic.Pointer[map[string]*Records]
	// next has, for the writer, the shards that have changed and are not published.
	next map[uint64]map[string]*Records
}

func (s *shards) number(k string) uint64 { return maphash.String(s.seed, k) % shardCount }

func (s *shards) shard(k string) *atomic.Pointer[map[string]*Records] { return &s.maps[s.number(k)] }

// snapshot returns all shards. It must not run at the same time as publish.
func (s *shards) snapshot() (all [shardCount]*map[string]*Records) {
	for i := range s.maps {
		all[i] = s.maps[i].Load()
	}
	return all
}

func (s *shards) get(k string) *Records {
	m := s.shard(k).Load()
	if m == nil {
		return nil
	}
	return (*m)[k]
}

// latest is get for the writer, who sees what is not published yet.
func (s *shards) latest(k string) *Records {
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
		if s.next == nil {
			s.next = make(map[uint64]map[string]*Records)
		}
		s.next[n] = m
	}
	if r == nil {
		delete(m, k)
	} else {
		m[r.key()] = r
	}
}

func (s *shards) publish() {
	for n, m := range s.next {
		s.maps[n].Store(&m)
	}
	clear(s.next)
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
