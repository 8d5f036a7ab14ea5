package zone

import (
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/miekg/dns"
)

// endpoint answers for the name of an endpoint, given in full and relative to the
// Service.
func (r *Records) endpoint(full, name string, qtype uint16) Answer {
	asked := newHost(name, r.options().EndpointPodNames)
	var first *cluster.Endpoint
	count, above := 0, false
	for i := range r.usable {
		switch e := &r.usable[i]; asked.of(e) {
		case itself:
			if count++; first == nil {
				first = e
			}
		case parent:
			above = true
		}
	}
	switch {
	case count == 0 && above:
		return Answer{Outcome: NoData}
	case count == 0:
		return Answer{Outcome: NXDomain}
	case qtype == dns.TypeA, qtype == dns.TypeAAAA:
		if count == 1 && first.Addr.Is4() == (qtype == dns.TypeA) {
			return Answer{Outcome: Success, Answer: oneAddress(full, first.Addr, r.options().TTL)}
		}
		return r.endpointAddresses(full, asked, qtype)
	case qtype == dns.TypeSRV, qtype == dns.TypeANY:
		return r.endpoints(asked, qtype)
	}
	return Answer{Outcome: NoData}
}

// endpointAddresses answers with the addresses of all endpoints of one name.
func (r *Records) endpointAddresses(full string, asked host, qtype uint16) Answer {
	var ips []netip.Addr
	for i := range r.usable {
		if e := &r.usable[i]; e.Addr.Is4() == (qtype == dns.TypeA) && asked.of(e) == itself {
			ips = append(ips, e.Addr)
		}
	}
	return rrset{qtype: qtype, records: addressRecords(at(full, slices.Compact(ips)), r.options().TTL)}.answer(qtype)
}

// endpoints is endpoint for questions that are rare.
func (r *Records) endpoints(asked host, qtype uint16) Answer {
	var all []cluster.Endpoint
	for i := range r.usable {
		if asked.of(&r.usable[i]) == itself {
			all = append(all, r.usable[i])
		}
	}
	if n := find(withParents(nameEndpoints(all, r.base, r.options()).nodes()), asked.name); n != nil {
		return n.answer(qtype)
	}
	return Answer{Outcome: NXDomain}
}

// oneAddress returns a record of an address, in one allocation.
func oneAddress(owner string, ip netip.Addr, ttl uint32) []dns.RR {
	if ip.Is4() {
		one := &struct {
			records [1]dns.RR
			a       dns.A
			ip      [4]byte
		}{ip: ip.As4()}
		one.a = dns.A{Hdr: header(owner, dns.TypeA, ttl), A: one.ip[:]}
		one.records[0] = &one.a
		return one.records[:]
	}
	one := &struct {
		records [1]dns.RR
		aaaa    dns.AAAA
		ip      [16]byte
	}{ip: ip.As16()}
	one.aaaa = dns.AAAA{Hdr: header(owner, dns.TypeAAAA, ttl), AAAA: one.ip[:]}
	one.records[0] = &one.aaaa
	return one.records[:]
}

// host is a name that may be one of an endpoint, relative to the Service.
type host struct {
	name     string
	addr     netip.Addr // that the name spells, or the zero Addr
	podNames bool
}

func newHost(name string, podNames bool) host {
	h := host{name: name, podNames: podNames}
	if ip, ok := parseDashed(name); ok && (ip.Is4() || string(appendDashed(nil, ip)) == name) {
		h.addr = ip
	}
	return h
}

// relation is what the name asked for is to that of an endpoint.
type relation uint8

const (
	unrelated relation = iota
	itself
	parent // an empty non-terminal
)

// of compares with the name of an endpoint, which is what appendHostname writes,
// without allocating.
func (h host) of(e *cluster.Endpoint) relation {
	var is bool
	switch {
	case e.Cluster() != "":
		var buffer [maxName]byte
		return h.compare(appendHostname(buffer[:0], e, h.podNames))
	case e.Hostname != "":
		is = e.Hostname == h.name
	case h.podNames && isLabel(e.PodName):
		is = e.PodName == h.name
	default:
		is = h.addr.IsValid() && e.Addr == h.addr
	}
	if is {
		return itself
	}
	return unrelated
}

func (h host) compare(name []byte) relation {
	rest := len(name) - len(h.name)
	switch {
	case rest < 0 || string(name[rest:]) != h.name:
		return unrelated
	case rest == 0:
		return itself
	case name[rest-1] == '.':
		return parent
	}
	return unrelated
}
