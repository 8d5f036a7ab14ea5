package zone

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/miekg/dns"
)

// PortPattern is which ports of a Service a name is about. A part that is "" stands for
// any.
type PortPattern struct{ name, protocol string }

// ParsePort reads the two labels of a port. The specification has "_http" and "_tcp";
// CoreDNS takes both without their underscores, and with nothing behind one for any.
func ParsePort(name, protocol string) PortPattern {
	return PortPattern{strings.TrimPrefix(name, "_"), strings.TrimPrefix(protocol, "_")}
}

// Matches reports whether a port is one of those.
func (p PortPattern) Matches(name string, protocol cluster.Protocol) bool {
	return (p.name == "" || p.name == name) && (p.protocol == "" || strings.EqualFold(p.protocol, protocol.String()))
}

// parsePorts reads a name relative to a Service. Below a protocol alone there are the
// names of its ports, but it has no records itself.
func parsePorts(name string, imported bool) (p PortPattern, isParent, ok bool) {
	port, protocol, both := strings.Cut(name, ".")
	switch {
	case name == "":
		return p, false, false
	case !both:
		return ParsePort("", name), true, true
	case strings.Contains(protocol, "."):
		return p, false, false
	case imported && !strings.HasPrefix(port, "_") && !strings.HasPrefix(protocol, "_"):
		return p, false, false // an endpoint and its cluster
	}
	return ParsePort(port, protocol), false, true
}

// port answers for the name of ports, given in full and relative to the Service, whatever
// is not kept of it: the addresses behind them, and the SRV records at spellings other
// than that of the specification.
func (r *Records) port(full, name string, qtype uint16) Hit {
	p, isParent, ok := parsePorts(name, r.isImported())
	switch {
	case !ok:
		return Hit{Outcome: NXDomain}
	case p == PortPattern{}:
		return r.whole(isParent, qtype)
	case !r.hasPort(p):
		return Hit{Outcome: NXDomain}
	case isParent:
		return Hit{Outcome: NoData}
	case (qtype == dns.TypeA || qtype == dns.TypeAAAA) && r.isEverywhere(p):
		return find(r.compiled().names, "").hitAs(qtype)
	case r.size > quickLimit:
		return Hit{later: func() Hit { return r.portMade(full, p, qtype) }}
	}
	return r.portMade(full, p, qtype)
}

// portMade makes the records of ports.
func (r *Records) portMade(full string, p PortPattern, qtype uint16) Hit {
	switch qtype {
	case dns.TypeA, dns.TypeAAAA:
		ips := slices.DeleteFunc(addressesOf(r.endpointsWith(p)), func(ip netip.Addr) bool { return ip.Is4() != (qtype == dns.TypeA) })
		return rrset{qtype: qtype, records: addressRecords(at(full, ips), r.options().TTL)}.hit(qtype)
	case dns.TypeSRV, dns.TypeANY:
		return r.portServices(full, p).hit(qtype)
	}
	return Hit{Outcome: NoData}
}

// whole answers for the name of any port of any protocol as for that of the Service
// itself, also where that is an alias or has no ports.
func (r *Records) whole(isParent bool, qtype uint16) Hit {
	n := find(r.compiled().names, "")
	switch {
	case n == nil:
		return Hit{Outcome: NXDomain}
	case isParent:
		return Hit{Outcome: NoData}
	}
	return n.hitAs(qtype)
}

// portCount is a port that endpoints have, and how many have it.
type portCount struct {
	name     string
	protocol cluster.Protocol
	n        int
}

// countPorts returns the ports that endpoints have.
func countPorts(endpoints []cluster.Endpoint) []portCount {
	type port struct {
		name     string
		protocol cluster.Protocol
	}
	var all []portCount
	places := make(map[port]int)
	for i := range endpoints {
		for _, p := range endpoints[i].Ports() {
			at, known := places[port{p.Name, p.Protocol}]
			if !known {
				at, all = len(all), append(all, portCount{name: p.Name, protocol: p.Protocol})
				places[port{p.Name, p.Protocol}] = at
			}
			all[at].n++
		}
	}
	return slices.Clip(all)
}

// hasPort reports whether the Service has such ports.
func (r *Records) hasPort(p PortPattern) bool {
	if r.service.Kind == cluster.KindClusterIP {
		return !r.isIgnored() && slices.ContainsFunc(r.service.Ports, func(port cluster.Port) bool { return p.isOf(&port) })
	}
	return slices.ContainsFunc(r.ports, func(c portCount) bool { return p.Matches(c.name, c.protocol) })
}

// isEverywhere reports whether all addresses of the Service's own name have one of the
// ports, which it has.
func (r *Records) isEverywhere(p PortPattern) bool {
	return r.service.Kind == cluster.KindClusterIP || slices.ContainsFunc(r.ports, func(c portCount) bool {
		return c.n == len(r.usable) && p.Matches(c.name, c.protocol)
	})
}

func (p PortPattern) isOf(port *cluster.Port) bool { return p.Matches(port.Name, port.Protocol) }

// isAt reports whether an endpoint has one of the ports.
func (p PortPattern) isAt(e *cluster.Endpoint) bool {
	return slices.ContainsFunc(e.Ports(), func(port cluster.EndpointPort) bool { return p.Matches(port.Name, port.Protocol) })
}

// endpointsWith returns the endpoints that have one of the ports, sorted; of more than
// an answer holds, some.
func (r *Records) endpointsWith(p PortPattern) []cluster.Endpoint {
	found := some(r.usable, p.isAt)
	slices.SortStableFunc(found, func(a, b cluster.Endpoint) int { return a.Addr.Compare(b.Addr) })
	return found
}

// some returns the elements of a list that are asked for, or as many of them as an
// answer holds, from a place on that is another each time.
func some[T any](all []T, is func(*T) bool) []T {
	found, from := make([]T, 0, min(len(all), MaxRecords)), 0
	if len(all) > MaxRecords {
		from = rand.IntN(len(all))
	}
	for i := range all {
		if e := &all[(from+i)%len(all)]; is(e) {
			if found = append(found, *e); len(found) == MaxRecords {
				break
			}
		}
	}
	return found
}

// portServices returns the SRV records of ports at a name of theirs.
func (r *Records) portServices(owner string, p PortPattern) rrset {
	ttl := r.options().TTL
	if r.service.Kind == cluster.KindClusterIP {
		ports := r.clusterPorts(some(r.service.Ports, p.isOf))
		return serviceSet(owner, ports, ttl, func([]dns.RR) []dns.RR { return addressRecords(at(r.base, r.clusterAddresses()), ttl) })
	}
	named := r.nameEndpoints(r.endpointsWith(p))
	return serviceSet(owner, named.services(p), ttl, named.targets)
}
