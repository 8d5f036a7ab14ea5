package zone

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/miekg/dns"
)

// endpointSet is endpoints of a Service, sorted by address, with their names.
type endpointSet struct {
	endpoints []cluster.Endpoint
	base      string // the full name of the Service
	ttl       uint32
	full      []string // the full name of each endpoint; "" if DNS cannot hold it
	addresses []dns.RR // of all endpoints at their names, sorted by owner, those of IPv4 first
}

func nameEndpoints(endpoints []cluster.Endpoint, base string, o *Options) *endpointSet {
	s := &endpointSet{endpoints: endpoints, base: base, ttl: o.TTL, full: fullNames(endpoints, base, o.EndpointPodNames)}
	named := make([]address, 0, len(endpoints))
	for i, full := range s.full {
		if full != "" {
			named = append(named, address{full, endpoints[i].Addr})
		}
	}
	slices.SortFunc(named, func(a, b address) int { return cmp.Or(cmp.Compare(a.owner, b.owner), a.ip.Compare(b.ip)) })
	s.addresses = addressRecords(slices.Compact(named), s.ttl)
	return s
}

// fullNames returns the full name of each endpoint, all in one piece of memory.
func fullNames(endpoints []cluster.Endpoint, base string, podNames bool) []string {
	text, ends := make([]byte, 0, len(endpoints)*(len("255-255-255-255.")+len(base))), make([]int, len(endpoints))
	for i := range endpoints {
		from := len(text)
		text = append(append(appendHostname(text, &endpoints[i], podNames), '.'), base...)
		if len(text)-from > maxName {
			text = text[:from]
		}
		ends[i] = len(text)
	}
	out, from, all := make([]string, len(endpoints)), 0, string(text)
	for i, end := range ends {
		out[i], from = all[from:end], end
	}
	return out
}

// services returns the SRV records of ports of all endpoints.
func (s *endpointSet) services(which PortPattern) []srv {
	out := make([]srv, 0, len(s.endpoints))
	var ports []cluster.EndpointPort
	var labels []string
	for i := range s.endpoints {
		if its := s.endpoints[i].Ports(); !slices.Equal(ports, its) {
			ports, labels = its, labels[:0]
			for _, p := range ports {
				labels = append(labels, portName(p.Name, p.Protocol))
			}
		}
		for k, p := range ports {
			if which.Matches(p.Name, p.Protocol) {
				out = append(out, srv{labels[k], s.full[i], p.Port})
			}
		}
	}
	return out
}

// headless returns the names of a headless Service, those of endpoints left out.
func (s *endpointSet) headless() []node {
	if len(s.endpoints) == 0 {
		return nil
	}
	return append(portNodes(s.services(PortPattern{}), s.base, s.ttl, s.targets), s.at("", s.base))
}

// at returns a name, given also in full, with the addresses and ports of all
// endpoints.
func (s *endpointSet) at(name, full string) node {
	ips := make([]netip.Addr, len(s.endpoints))
	for i := range s.endpoints {
		ips[i] = s.endpoints[i].Addr
	}
	return ownNode(name, full, addressRecords(at(full, slices.Compact(ips)), s.ttl), s.services(PortPattern{}), s.ttl, s.targets)
}

// targets returns the addresses of the names that SRV records, which are sorted,
// point to. Mostly that is all addresses there are, in the same memory.
func (s *endpointSet) targets(services []dns.RR) []dns.RR {
	var of []dns.RR
	last := ""
	for _, rr := range services {
		target := rr.(*dns.SRV).Target
		if target == last {
			continue // another port of it
		}
		last = target
		from, _ := slices.BinarySearchFunc(s.addresses, target, func(address dns.RR, owner string) int {
			return cmp.Compare(address.Header().Name, owner)
		})
		own := s.addresses[from:]
		of = append(of, own[:span(own, func(address dns.RR) bool { return address.Header().Name == target })]...)
	}
	if len(of) == len(s.addresses) {
		return s.addresses
	}
	return slices.Clip(of)
}

// nodes returns the names of endpoints, each with A, AAAA and SRV records.
func (s *endpointSet) nodes() []node {
	services := s.services(PortPattern{})
	slices.SortFunc(services, srv.compareTargets)
	var out []node
	for addresses := s.addresses; len(addresses) > 0; {
		owner := addresses[0].Header().Name
		n := span(addresses, func(rr dns.RR) bool { return rr.Header().Name == owner })
		services = services[span(services, func(s srv) bool { return s.target < owner }):]
		ports := services[:span(services, func(s srv) bool { return s.target == owner })]
		own := addresses[:n:n]
		extra := func([]dns.RR) []dns.RR { return own }
		out = append(out, ownNode(owner[:len(owner)-len(s.base)-1], owner, own, ports, s.ttl, extra))
		addresses = addresses[n:]
	}
	return out
}

// appendHostname appends the name of an endpoint below its Service: its label, and
// behind it its cluster, if it has one, since clusters may have endpoints of the same
// name.
func appendHostname(b []byte, e *cluster.Endpoint, podNames bool) []byte {
	b = appendLabel(b, e, podNames)
	if in := e.Cluster(); in != "" {
		b = append(append(b, '.'), in...)
	}
	return b
}

// appendLabel appends the hostname of an endpoint, else the name of its pod if asked
// for, else its address with dashes.
func appendLabel(b []byte, e *cluster.Endpoint, podNames bool) []byte {
	if e.Hostname != "" {
		return append(b, e.Hostname...)
	}
	if podNames && isLabel(e.PodName) {
		return append(b, e.PodName...)
	}
	return appendDashed(b, e.Addr)
}

// appendDashed spells an address as a label. A label must not end in a dash, so
// "2001:db8::" becomes "2001-db8--0".
func appendDashed(b []byte, ip netip.Addr) []byte {
	from := len(b)
	b = ip.AppendTo(b)
	for i := from; i < len(b); i++ {
		if b[i] == '.' || b[i] == ':' {
			b[i] = '-'
		}
	}
	if b[len(b)-1] == '-' {
		b = append(b, '0')
	}
	return b
}

// isLabel reports whether s is a label of lower-case letters, digits and dashes.
// Names of pods may have dots, and names of ports in hand-made EndpointSlices
// anything.
func isLabel(s string) bool {
	for i := range len(s) {
		if c := s[i]; c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return s != "" && len(s) <= maxLabel
}
