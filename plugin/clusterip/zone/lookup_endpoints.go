package zone

import (
	"cmp"
	"net/netip"
	"slices"
	"sort"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/plugin/clusterip/zone/addrs"
	"github.com/miekg/dns"
)

// endpoint answers for the name of an endpoint, given in full and relative to the
// Service.
func (r *Records) endpoint(full, name string, qtype uint16) Hit {
	asked := newHost(name, r.options().EndpointPodNames)
	candidates := r.candidates(asked, lazyLimit+1)
	if len(candidates) > lazyLimit {
		return Hit{later: func() Hit { return r.endpointAmong(full, r.candidates(asked, MaxRecords), asked, qtype) }}
	}
	return r.endpointAmong(full, candidates, asked, qtype)
}

// endpointAmong is endpoint for a name that none but some candidates may have.
func (r *Records) endpointAmong(full string, candidates []cluster.Endpoint, asked host, qtype uint16) Hit {
	var first *cluster.Endpoint
	count, ports, above := 0, 0, false
	for i := range candidates {
		switch e := &candidates[i]; asked.of(e) {
		case itself:
			ports += len(e.Ports())
			if count++; first == nil {
				first = e
			}
		case parent:
			above = true
		}
	}
	switch {
	case count == 0 && above:
		return Hit{Outcome: NoData}
	case count == 0:
		return Hit{Outcome: NXDomain}
	case qtype == dns.TypeA, qtype == dns.TypeAAAA:
		if count == 1 && addressType(first.Addr) == qtype {
			return Hit{Outcome: Success, address: first.Addr}
		}
		return r.endpointAddresses(full, candidates, count, asked, qtype)
	case qtype != dns.TypeSRV && qtype != dns.TypeANY:
		return Hit{Outcome: NoData}
	case max(count, ports) > quickLimit:
		return Hit{later: func() Hit { return r.endpoints(candidates, asked, qtype) }}
	}
	return r.endpoints(candidates, asked, qtype)
}

// endpointAddresses answers with the addresses of all endpoints of one name, so many.
func (r *Records) endpointAddresses(full string, candidates []cluster.Endpoint, count int, asked host, qtype uint16) Hit {
	ips := make([]netip.Addr, 0, count)
	for i := range candidates {
		if e := &candidates[i]; e.Addr.Is4() == (qtype == dns.TypeA) && asked.of(e) == itself {
			ips = append(ips, e.Addr)
		}
	}
	return rrset{qtype: qtype, records: addressRecords(at(full, slices.Compact(ips)), r.options().TTL)}.hit(qtype)
}

// endpoints is endpoint for questions that are rare.
func (r *Records) endpoints(candidates []cluster.Endpoint, asked host, qtype uint16) Hit {
	var all []cluster.Endpoint
	for i := range candidates {
		if asked.of(&candidates[i]) == itself {
			all = append(all, candidates[i])
		}
	}
	if named := r.nameEndpoints(all).nodes(); len(named) > 0 {
		return named[0].hit(qtype)
	}
	return Hit{Outcome: NXDomain}
}

// candidates returns the endpoints that may have a name, in order, and one that may be
// below it: all of a few, and of many those that have. Where those have to be gathered, it
// is so many of a family at most.
func (r *Records) candidates(asked host, most int) []cluster.Endpoint {
	switch {
	case len(r.usable) <= lazyLimit:
		return r.usable
	case r.byAddress:
		from, to := r.endpointsAt(asked.addr)
		return r.usable[from:to]
	}
	label, in, _ := strings.Cut(asked.name, ".")
	names := r.sortedNames()
	exact := names[r.place(names, in, label, false):r.place(names, in, label, true)]
	v4 := sort.Search(len(exact), func(i int) bool { return !r.usable[exact[i]].Addr.Is4() })
	found := make([]cluster.Endpoint, 0, 1+min(v4, most)+min(len(exact)-v4, most))
	if below := r.place(names, label, "", false); in == "" && below < len(names) && r.usable[names[below]].Cluster() == label {
		found = append(found, r.usable[names[below]])
	}
	for _, family := range [][]int32{exact[:v4], exact[v4:]} {
		for _, i := range family[:min(len(family), most)] {
			found = append(found, r.usable[i])
		}
	}
	return found
}

// place returns where a name is among the sorted ones, or after it.
func (r *Records) place(names []int32, in, label string, after bool) int {
	return sort.Search(len(names), func(i int) bool {
		c := r.compareName(names[i], in, label)
		return c > 0 || c == 0 && !after
	})
}

// sortedNames returns the endpoints in the order of their names, by cluster and label.
// The first question that needs it makes it.
func (r *Records) sortedNames() []int32 {
	if made := r.names.Load(); made != nil {
		return *made
	}
	labels := make([]string, len(r.usable))
	made := make([]int32, len(r.usable))
	for i := range r.usable {
		made[i], labels[i] = int32(i), string(appendLabel(nil, &r.usable[i], r.options().EndpointPodNames))
	}
	slices.SortFunc(made, func(a, b int32) int {
		return cmp.Or(cmp.Compare(r.usable[a].Cluster(), r.usable[b].Cluster()), cmp.Compare(labels[a], labels[b]), cmp.Compare(a, b))
	})
	r.names.CompareAndSwap(nil, &made)
	return *r.names.Load()
}

// compareName compares the name of an endpoint with one that is given by cluster and
// label.
func (r *Records) compareName(i int32, in, label string) int {
	e := &r.usable[i]
	if c := cmp.Compare(e.Cluster(), in); c != 0 {
		return c
	}
	var buffer [maxName]byte
	return cmp.Compare(string(appendLabel(buffer[:0], e, r.options().EndpointPodNames)), label)
}

// host is a name that may be one of an endpoint, relative to the Service.
type host struct {
	name     string
	addr     netip.Addr // that the name spells, or the zero Addr
	podNames bool
}

func newHost(name string, podNames bool) host {
	h := host{name: name, podNames: podNames}
	if ip, ok := addrs.ParseDashed(name); ok && (ip.Is4() || string(addrs.AppendDashed(nil, ip)) == name) {
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

// Hostname is the label of an endpoint below its Service.
func (x *Index) Hostname(e *cluster.Endpoint) string {
	return string(appendLabel(nil, e, x.options.EndpointPodNames))
}
