package zone

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/clusterip/clusterip/cluster"
	"github.com/miekg/dns"
)

// Records is everything one Service has in one forward zone. Made by newRecords;
// to its users it is immutable.
//
// Records are made when they are asked for. A change replaces the Service and makes
// none. The first question for one of its names compiles its own name and those of its
// ports, and they are kept until the Service changes; but octets of a plain answer need
// none. Of 10,000 Services a server is asked for some, and what changes often changes many
// times between two questions. Compiled at once, records were half of a change, of the
// start and of the memory. Services of a size above lazyLimit are the exception.
//
// The names of endpoints and the reverse pointers are ten times as many. Each query that
// wants them makes them of the cluster.Service, in one or two allocations.
type Records struct {
	service *cluster.Service
	zone    *Zone
	base    string // the full name of the Service
	// usable are the endpoints that have names, sorted by address; none for an
	// alias.
	usable []cluster.Endpoint
	// byAddress says that the endpoints are known by their addresses alone.
	byAddress bool
	plain     bool        // see isPlain
	lack      Lack        // of endpoints, or of nothing
	ports     []portCount // of a headless Service
	size      int         // how many addresses or ports of addresses its own name has
	kept      atomic.Pointer[compiled]
	names     atomic.Pointer[[]int32]   // of endpoints; see sortedNames
	named     atomic.Pointer[nameOrder] // of a plain Service; see order
}

const (
	// lazyLimit is the size of a Service at most whose records the first question makes. Of
	// a larger one the change makes them: all who ask before the first has done make the
	// same, and where that takes long they keep each other from it. Find goes through no
	// list that is longer.
	lazyLimit = 100
	// quickLimit is the size of a Service at most of which Find makes records. To compile
	// 20,000 endpoints takes 50 ms, 100 take 0.15 ms, 20 take 0.03 ms.
	quickLimit = 20
)

func newRecords(service *cluster.Service, z *Zone) *Records {
	r := &Records{service: service, zone: z, base: join(key(service.Name)+".svc", z.origin)}
	if service.Kind != cluster.KindExternalName {
		r.usable = cluster.Usable(service.Endpoints)
	}
	r.byAddress = !slices.ContainsFunc(r.usable, func(e cluster.Endpoint) bool {
		return e.Hostname != "" || e.Cluster() != "" || e.PodName != "" && z.index.options.EndpointPodNames
	})
	switch service.Kind {
	case cluster.KindClusterIP:
		r.size = len(service.ClusterIPs) * max(len(service.Ports), 1)
	case cluster.KindHeadless:
		r.ports = countPorts(r.usable)
		portsOf := 0
		for _, c := range r.ports {
			portsOf += c.n
		}
		r.size = max(len(r.usable), portsOf)
	}
	r.plain = r.isPlain()
	if r.isUnserved() {
		r.lack = LacksEndpoints
	}
	if r.size > lazyLimit {
		r.compiled()
	}
	if len(r.usable) > lazyLimit && !r.byAddress {
		r.sortedNames()
	}
	return r
}

// key is key(r.service.Name), in the memory of the full name.
func (r *Records) key() string {
	name := r.service.Name
	return r.base[:len(name.Name)+1+len(name.Namespace)]
}

func (r *Records) options() *Options { return &r.zone.index.options }

// isZonal reports whether there are names for topology zones.
func (r *Records) isZonal() bool {
	return r.options().Zonal && r.service.Kind == cluster.KindHeadless && !r.isImported()
}

// isImported reports whether the Service is another cluster's.
func (r *Records) isImported() bool { return slices.Contains(r.options().Multicluster, r.zone.origin) }

// isUnserved reports whether nobody can be behind the names. Endpoints of other clusters, and
// those of a Service that is remembered, need not be known.
func (r *Records) isUnserved() bool {
	return len(r.usable) == 0 && r.service.Kind != cluster.KindExternalName && !r.service.Remembered &&
		!r.isImported() && !r.options().NoEndpoints
}

// isIgnored reports whether the Service has no names for want of endpoints.
func (r *Records) isIgnored() bool { return r.options().IgnoreEmpty && len(r.usable) == 0 }

// compiled is what a Service has at its own name and those of its ports and zones.
type compiled struct {
	// names are relative to the Service ("" is the Service itself) and sorted.
	// Empty non-terminals, such as "_tcp", are among them.
	names []node
	hosts []string // the full names of the usable endpoints of a headless Service
	zonal []node   // the names of topology zones with endpoints, sorted
}

// compiled returns what is compiled. Those who ask first at the same time all make it,
// and one of them has it kept.
func (r *Records) compiled() *compiled {
	if c := r.kept.Load(); c != nil {
		return c
	}
	r.kept.CompareAndSwap(nil, r.compile())
	return r.kept.Load()
}

// compile makes what sections 2.3 to 2.5 of the Kubernetes DNS specification ask
// for and, as CoreDNS has them, SRV records at the Service's own name. A name or
// label too long for DNS is left out.
func (r *Records) compile() *compiled {
	if len(r.base) > maxName {
		return &compiled{hosts: make([]string, len(r.usable))}
	}
	switch r.service.Kind {
	case cluster.KindExternalName:
		return &compiled{names: r.alias()}
	case cluster.KindClusterIP:
		return &compiled{names: withParents(r.clusterIPs())}
	}
	set := r.nameEndpoints(r.usable)
	c := &compiled{names: withParents(set.headless()), hosts: set.full}
	if r.isZonal() {
		c.zonal = r.topologyZones()
	}
	return c
}

// alias returns the name of an ExternalName Service. A target that is an IP address
// is no name to look up, and leaves none; one that DNS cannot hold leaves a name
// without records, since there is a Service.
func (r *Records) alias() []node {
	target := r.service.ExternalName
	if _, err := netip.ParseAddr(target); err == nil {
		return nil
	}
	if !IsName(target) {
		return []node{{}}
	}
	cname := &dns.CNAME{Hdr: header(r.base, dns.TypeCNAME, r.options().TTL), Target: dns.Fqdn(target)}
	return []node{{sets: []rrset{{qtype: dns.TypeCNAME, records: []dns.RR{cname}}}}}
}

// clusterIPs returns the name of a Service with virtual addresses, which has A, AAAA
// and SRV for every port, and those of its ports. A Service that is ignored for want
// of endpoints keeps its PTR, as in CoreDNS: the address is still its own.
func (r *Records) clusterIPs() []node {
	if r.isIgnored() {
		return nil
	}
	addresses := addressRecords(at(r.base, r.clusterAddresses()), r.options().TTL)
	ports := r.clusterPorts(r.service.Ports)
	extra := func([]dns.RR) []dns.RR { return addresses }
	names := portNodes(ports, r.base, r.options().TTL, extra)
	return append(names, ownNode("", r.base, addresses, ports, r.options().TTL, extra))
}

// clusterAddresses returns the ClusterIPs, sorted.
func (r *Records) clusterAddresses() []netip.Addr {
	return sortUnique(slices.Clone(r.service.ClusterIPs))
}

// sortUnique sorts addresses, and drops those that are there again.
func sortUnique(ips []netip.Addr) []netip.Addr {
	slices.SortFunc(ips, netip.Addr.Compare)
	return slices.Compact(ips)
}

// clusterPorts returns SRV records of ports of a Service with a ClusterIP, one for each
// of its addresses.
func (r *Records) clusterPorts(of []cluster.Port) []srv {
	var ports []srv
	for range r.service.ClusterIPs {
		for _, p := range of {
			ports = append(ports, srv{label: portLabels(p.Name, p.Protocol), target: r.base, port: p.Port})
		}
	}
	return ports
}

// node is a name with its records; none for an empty non-terminal. Where there
// is a CNAME, there is nothing else.
type node struct {
	name string
	sets []rrset
}

// ownNode returns a name with all addresses and all ports of a Service.
func ownNode(name, owner string, addresses []dns.RR, ports []srv, ttl uint32, extra func([]dns.RR) []dns.RR) node {
	sets := addressSets(addresses)
	if set := serviceSet(owner, ports, ttl, extra); len(set.records) > 0 {
		sets = append(sets, set)
	}
	return node{name, slices.Clip(sets)}
}

// portNodes returns the names of ports. It sorts the ports.
func portNodes(ports []srv, base string, ttl uint32, extra func([]dns.RR) []dns.RR) []node {
	slices.SortFunc(ports, srv.compare)
	var out []node
	for len(ports) > 0 {
		label := ports[0].label
		n := span(ports, func(p srv) bool { return p.label == label })
		owner := label + "." + base
		if label != "" && len(owner) <= maxName {
			if set := serviceSet(owner, ports[:n], ttl, extra); len(set.records) > 0 {
				out = append(out, node{owner[:len(label)], []rrset{set}})
			}
		}
		ports = ports[n:]
	}
	return out
}

// withParents sorts names and adds the empty non-terminals above them.
func withParents(nodes []node) []node {
	for _, n := range nodes {
		for name := n.name; name != ""; {
			_, name, _ = strings.Cut(name, ".")
			nodes = append(nodes, node{name: name})
		}
	}
	slices.SortFunc(nodes, func(a, b node) int { return cmp.Or(strings.Compare(a.name, b.name), len(b.sets)-len(a.sets)) })
	return slices.Clip(slices.CompactFunc(nodes, func(a, b node) bool { return a.name == b.name }))
}

// sets returns what a Service has, but for zonal names, sorted by owner and type;
// nothing for nil. A transfer asks for all Services, which is no reason to keep what it
// gets.
func (r *Records) sets() []rrset {
	if r == nil {
		return nil
	}
	return r.setsWith(r.usable)
}

// setsWith is sets with the names of these endpoints alone.
func (r *Records) setsWith(endpoints []cluster.Endpoint) []rrset {
	c := r.kept.Load()
	if c == nil {
		c = r.compile()
	}
	nodes := c.names
	if len(endpoints) > 0 {
		nodes = slices.Concat(nodes, r.nameEndpoints(endpoints).nodes())
	}
	var out []rrset
	for _, n := range nodes {
		out = append(out, n.sets...)
	}
	slices.SortFunc(out, compareSets)
	return out
}
