package zone

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

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
	weightOf  func(*cluster.Endpoint) cluster.Weight
}

func (r *Records) nameEndpoints(endpoints []cluster.Endpoint) *endpointSet {
	o := r.options()
	s := &endpointSet{
		endpoints: endpoints, base: r.base, ttl: o.TTL, full: fullNames(endpoints, r.base, o.EndpointPodNames),
		weightOf: r.service.WeightOf,
	}
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
		text = appendFullName(text, &endpoints[i], base, podNames)
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
				labels = append(labels, portLabels(p.Name, p.Protocol))
			}
		}
		weight := s.weightOf(&s.endpoints[i])
		for k, p := range ports {
			if which.Matches(p.Name, p.Protocol) {
				out = append(out, srv{labels[k], s.full[i], p.Port, weight})
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
	addresses := addressRecords(at(full, addressesOf(s.endpoints)), s.ttl)
	return ownNode(name, full, addresses, s.services(PortPattern{}), s.ttl, s.targets)
}

// addressesOf returns those of endpoints, which are sorted by them.
func addressesOf(endpoints []cluster.Endpoint) []netip.Addr {
	ips := make([]netip.Addr, len(endpoints))
	for i := range endpoints {
		ips[i] = endpoints[i].Addr
	}
	return slices.Compact(ips)
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

// What follows the topology zone in a zonal name, relative to the Service. There are
// such names, as "us-west-2a.pin._zone", for every zone that anybody may ask for; only
// those of zones with endpoints are compiled.
const (
	pin    = "pin._zone"    // the endpoints there
	prefer = "prefer._zone" // the endpoints there, or all if there are none
)

// topologyZones narrows a headless Service to the endpoints in each zone and gives what
// it then has at its own name to the zone's two names. Which endpoints are usable is
// decided before, so that no zone has endpoints that the Service has not.
func (r *Records) topologyZones() []node {
	var names []node
	byZone := make(map[string][]cluster.Endpoint)
	for _, e := range r.usable {
		// Names are compared without case, labels of Nodes are not.
		topology := Lower(e.Zone())
		byZone[topology] = append(byZone[topology], e)
	}
	for topology, endpoints := range byZone {
		if slices.Contains(strings.Split(topology, "."), "") {
			continue // no labels with dots between them
		}
		narrowed := r.nameEndpoints(endpoints)
		for _, directive := range []string{pin, prefer} {
			name := topology + "." + directive
			if full := name + "." + r.base; len(full) <= maxName {
				names = append(names, narrowed.at(name, full))
			}
		}
	}
	slices.SortFunc(names, func(a, b node) int { return strings.Compare(a.name, b.name) })
	return names
}
