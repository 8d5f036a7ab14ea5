package zone

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/miekg/dns"
)

const (
	maxLabel = 63  // octets, RFC 1035 section 2.3.4
	maxName  = 254 // characters with the final dot: 255 octets on the wire
)

// compiled is what a Service has at its own name and those of its ports and zones.
type compiled struct {
	// names are relative to the Service ("" is the Service itself) and sorted.
	// Empty non-terminals, such as "_tcp", are among them.
	names []node
	hosts []string // the full names of the usable endpoints of a headless Service
	zonal *zonal   // nil if there are no such names
}

// compile makes what sections 2.3 to 2.5 of the Kubernetes DNS specification ask
// for and, as CoreDNS has them, SRV records at the Service's own name. A name or
// label too long for DNS is left out.
func (r *Records) compile() *compiled {
	if len(r.base) > maxName {
		return &compiled{hosts: make([]string, len(r.usable)), zonal: &zonal{base: r.base}}
	}
	switch r.service.Kind {
	case cluster.KindExternalName:
		return &compiled{names: r.alias()}
	case cluster.KindClusterIP:
		return &compiled{names: withParents(r.clusterIPs())}
	}
	set := nameEndpoints(r.usable, r.base, r.options())
	c := &compiled{names: withParents(set.headless()), hosts: set.full}
	if r.isZonal() {
		c.zonal = compileZonal(r)
	}
	return c
}

// key is what a Service is found by: the two labels that its names share.
func key(name cluster.ServiceName) string { return name.Name + "." + name.Namespace }

func join(name, origin string) string {
	if origin == "." {
		return name + "."
	}
	return name + "." + origin
}

// IsName reports whether DNS can hold a name: the API server takes labels of any
// length, and one record that cannot be packed breaks off a whole transfer.
func IsName(name string) bool {
	_, ok := dns.IsDomainName(name) // allows one octet too many
	return ok && len(dns.Fqdn(name)) <= maxName
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

// isIgnored reports whether the Service has no names for want of endpoints.
func (r *Records) isIgnored() bool { return r.options().IgnoreEmpty && len(r.usable) == 0 }

// clusterAddresses returns the ClusterIPs, sorted.
func (r *Records) clusterAddresses() []netip.Addr {
	return slices.Compact(slices.SortedFunc(slices.Values(r.service.ClusterIPs), netip.Addr.Compare))
}

// clusterPorts returns SRV records of ports of a Service with a ClusterIP, one for each
// of its addresses.
func (r *Records) clusterPorts(of []cluster.Port) []srv {
	var ports []srv
	for range r.service.ClusterIPs {
		for _, p := range of {
			ports = append(ports, srv{portName(p.Name, p.Protocol), r.base, p.Port})
		}
	}
	return ports
}

// ownNode returns a name with all addresses and all ports of a Service.
func ownNode(name, owner string, addresses []dns.RR, ports []srv, ttl uint32, extra func([]dns.RR) []dns.RR) node {
	sets := addressSets(addresses)
	slices.SortFunc(ports, srv.compareTargets)
	if set := serviceSet(owner, ports, ttl); len(set.records) > 0 {
		set.extra = extra(set.records)
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
			if set := serviceSet(owner, ports[:n], ttl); len(set.records) > 0 {
				set.extra = extra(set.records)
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
	slices.SortFunc(nodes, func(a, b node) int {
		if c := strings.Compare(a.name, b.name); c != 0 {
			return c
		}
		return len(b.sets) - len(a.sets)
	})
	return slices.Clip(slices.CompactFunc(nodes, func(a, b node) bool { return a.name == b.name }))
}
