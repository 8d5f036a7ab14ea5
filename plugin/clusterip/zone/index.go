package zone

import (
	"cmp"
	"hash/maphash"
	"net/netip"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/plugin/clusterip/zone/addrs"
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
	NoEndpoints      bool // the source has none, whatever there is
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
	owners     addrs.Table[*owners]            // by the addresses that lead to them
	published  addrs.Table[[]*cluster.Service] // by External.Published
	pods       addrs.Table[[]*cluster.Pod]
	// For the writer.
	knownPods map[cluster.PodName]*cluster.Pod
	tracked   bool
}

// New returns an empty Index for zones in lower case, fully qualified, of which
// the first forward one is the target of reverse pointers. Without a forward
// zone there is none, and New panics.
func New(origins []string, o Options) *Index {
	x := &Index{options: o, knownPods: make(map[cluster.PodName]*cluster.Pod)}
	x.namespaces.init()
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

// Version is the schema version of the Kubernetes DNS specification that the
// records follow; it is served as dns-version.<zone>.
const Version = "1.1.0"

// versionTTL is the TTL in the example of section 2.2 of the specification.
const versionTTL = 28800

func (x *Index) newZone(origin string) *Zone {
	z := &Zone{origin: origin, reverse: IsReverse(origin), index: x}
	z.above = !z.reverse && Contains(origin, addrs.Reverse4)
	z.version = rrset{qtype: dns.TypeTXT, records: []dns.RR{&dns.TXT{
		Hdr: header(join("dns-version", origin), dns.TypeTXT, versionTTL), Txt: []string{Version},
	}}}
	z.services.seed, z.services.next = maphash.MakeSeed(), make(map[uint64]map[string]*Records)
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

// Zone returns the zone with this name, or nil.
func (x *Index) Zone(origin string) *Zone {
	if z := x.Match(origin); z != nil && z.origin == origin {
		return z
	}
	return nil
}

// Zones returns all zones, the most specific first.
func (x *Index) Zones() []*Zone { return x.zones }

// Track makes Apply return Changes from now on. Like Apply, it is for the writer.
func (x *Index) Track() { x.tracked = true }

// Apply takes over what changed. After Track it returns how that changed zones.
func (x *Index) Apply(u cluster.Update) []Change {
	changes := x.track()
	for _, c := range u.Namespaces {
		if x.exposed(c.Name) {
			x.namespaces.declare(c.Name, c.Exists)
		}
	}
	owners, published := x.owners.Edit(), x.published.Edit()
	var moved []relocation
	for _, c := range u.Services {
		if !x.exposed(c.Name.Namespace) {
			continue
		}
		m := x.setService(c, published, changes)
		if changes == nil {
			m.apply(owners)
		} else {
			moved = append(moved, m)
		}
	}
	x.relocate(owners, moved, changes)
	for _, c := range u.Imports {
		if len(x.imported) > 0 && x.exposed(c.Name.Namespace) {
			x.set(x.imported, c.Name, c.Service, changes)
		}
	}
	x.namespaces.commit()
	for _, z := range slices.Concat(x.local, x.imported) {
		z.services.commit()
	}
	owners.Commit()
	published.Commit()
	if x.options.Pods == PodsVerified {
		x.setPods(u.Pods)
	}
	return changes.end()
}

func (x *Index) exposed(namespace string) bool {
	return len(x.options.Namespaces) == 0 || slices.Contains(x.options.Namespaces, namespace)
}

// setService replaces all there is of a Service, or removes it for nil.
func (x *Index) setService(c cluster.ServiceUpdate, published *addrs.Edit[[]*cluster.Service], changes *tracker) relocation {
	k := key(c.Name)
	old := x.primary.services.pending(k)
	setPublished(published, old.of(), c.Service)
	x.set(x.local, c.Name, c.Service, changes)
	now := x.primary.services.pending(k)
	if now != nil {
		k = now.key() // in memory that is there anyway
	}
	return relocation{k, old.addresses(), now.addresses()}
}

// set replaces the records of a Service in zones that have the same ones.
func (x *Index) set(zones []*Zone, name cluster.ServiceName, service *cluster.Service, changes *tracker) {
	k := key(name)
	if known := zones[0].services.pending(k) != nil; known != (service != nil) {
		x.namespaces.count(name.Namespace, service != nil)
	}
	for _, z := range zones {
		var records *Records
		if service != nil {
			records = newRecords(service, z)
		}
		if !z.hidden {
			changes.recompiled(z, z.services.pending(k), records)
		}
		z.services.set(k, records)
	}
}
