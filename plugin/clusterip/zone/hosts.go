package zone

import (
	"net/netip"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/miekg/dns"
)

// endpoint answers for the name of an endpoint, given in full and relative to the
// Service.
func (r *Records) endpoint(full, name string, qtype uint16) Answer {
	asked := newHost(name, r.options().EndpointPodNames)
	var first *cluster.Endpoint
	count := 0
	for i := range r.usable {
		if e := &r.usable[i]; asked.isOf(e) {
			if first == nil {
				first = e
			}
			count++
		}
	}
	switch {
	case count == 0:
		return Answer{Outcome: NXDomain}
	case count > 1, first.Cluster() != "", qtype != dns.TypeA && qtype != dns.TypeAAAA:
		return r.endpoints(asked, qtype)
	case first.Addr.Is4() != (qtype == dns.TypeA):
		return Answer{Outcome: NoData}
	}
	return Answer{Outcome: Success, Answer: oneAddress(full, first.Addr, r.options().TTL)}
}

// endpoints is endpoint for several of one name and for questions that are rare.
func (r *Records) endpoints(asked host, qtype uint16) Answer {
	var all []cluster.Endpoint
	for i := range r.usable {
		if asked.isOf(&r.usable[i]) {
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

// isOf reports whether it is the name of an endpoint, or of the cluster that has it
// (which is an empty non-terminal). It says what hostname says, without allocating
// where an endpoint has no Cluster.
func (h host) isOf(e *cluster.Endpoint) bool {
	switch {
	case e.Cluster() != "":
		name := hostname(e, h.podNames)
		return name == h.name || strings.HasSuffix(name, "."+h.name)
	case e.Hostname != "":
		return e.Hostname == h.name
	case h.podNames && isLabel(e.PodName):
		return e.PodName == h.name
	}
	return h.addr.IsValid() && e.Addr == h.addr
}
