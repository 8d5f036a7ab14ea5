package zone

import (
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/miekg/dns"
)

// What follows the topology zone in a zonal name, relative to the Service.
const (
	pin    = "pin._zone"    // the endpoints there
	prefer = "prefer._zone" // the endpoints there, or all if there are none
)

// zonal answers for the zonal names of a headless Service, such as
// "us-west-2a.pin._zone". They exist for every zone that anybody may ask for;
// only those of zones with endpoints are compiled.
type zonal struct {
	base  string // the full name of the Service
	names []node // sorted
}

// compileZonal narrows the Service to the endpoints in each zone and gives what
// it then has at its own name to the zone's two names. Which endpoints are usable
// is decided before, so that no zone has endpoints that the Service has not.
func compileZonal(r *Records) *zonal {
	z := &zonal{base: r.base}
	byZone := make(map[string][]cluster.Endpoint)
	for _, e := range r.usable {
		// Names are compared without case, labels of Nodes are not.
		topology := Lower(e.Zone())
		byZone[topology] = append(byZone[topology], e)
	}
	for topology, endpoints := range byZone {
		if !isDotted(topology) {
			continue
		}
		narrowed := nameEndpoints(endpoints, r.base, r.options())
		for _, directive := range []string{pin, prefer} {
			name := topology + "." + directive
			if full := name + "." + r.base; len(full) <= maxName {
				z.names = append(z.names, narrowed.at(name, full))
			}
		}
	}
	slices.SortFunc(z.names, func(a, b node) int { return strings.Compare(a.name, b.name) })
	return z
}

// isDotted reports whether a topology zone can be written as labels with dots
// between them.
func isDotted(topology string) bool {
	return topology != "" && !slices.Contains(strings.Split(topology, "."), "")
}

// moved returns copies of records with another owner.
func moved(rrs []dns.RR, owner string) []dns.RR {
	out := make([]dns.RR, len(rrs))
	for i, rr := range rrs {
		out[i] = dns.Copy(rr)
		out[i].Header().Name = owner
	}
	return out
}

// lookup answers for a name that the Service has not got otherwise; all are those
// that it has.
func (z *zonal) lookup(name string, qtype uint16, all []node) Answer {
	if n := find(z.names, name); n != nil {
		return n.answer(qtype)
	}
	switch {
	case name == "_zone", name == pin, name == prefer, strings.HasSuffix(name, "."+pin):
		return Answer{Outcome: NoData}
	case !strings.HasSuffix(name, "."+prefer):
		return Answer{Outcome: NXDomain}
	}
	own := find(all, "")
	if own == nil {
		return Answer{Outcome: NoData}
	}
	a := own.answer(qtype)
	a.Answer = moved(a.Answer, name+"."+z.base)
	return a
}
