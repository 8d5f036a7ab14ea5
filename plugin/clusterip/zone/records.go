package zone

import (
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/miekg/dns"
)

// Records is everything one Service has in one forward zone. Immutable; made by
// Compile.
//
// What is asked for often is compiled: the Service's own name and those of its
// ports. The rest, the names of endpoints and the reverse pointers, would take ten
// times the memory; it is made of the Service when somebody asks.
type Records struct {
	service *cluster.Service
	options *Options
	base    string // the full name of the Service
	// names are relative to the Service ("" is the Service itself) and sorted.
	// Empty non-terminals, such as "_tcp", are among them.
	names []node
	// usable are the endpoints that have names, sorted by address.
	usable []cluster.Endpoint
	// hosts are the full names of usable, where those are compiled anyway, for the
	// SRV records of a headless Service; else nil.
	hosts []string
	zonal *zonal // nil if there are no such names
}

// node is a name with its records; none for an empty non-terminal. Where there
// is a CNAME, there is nothing else.
type node struct {
	name string
	sets []rrset
}

// rrset holds the records that answer a question for one type.
type rrset struct {
	qtype   uint16
	records []dns.RR
	extra   []dns.RR
}

// lookup answers for a name, which is given in full and relative to the Service.
func (r *Records) lookup(full, name string, qtype uint16) Answer {
	if n := find(r.names, name); n != nil {
		return n.answer(qtype)
	}
	if a := r.endpoint(full, name, qtype); a.Outcome != NXDomain || r.zonal == nil {
		return a
	}
	return r.zonal.lookup(name, qtype, r)
}

// find searches a sorted list; nil means that the name is not there.
func find(nodes []node, name string) *node {
	i, found := slices.BinarySearchFunc(nodes, name, compareNode)
	if !found {
		return nil
	}
	return &nodes[i]
}

func (n *node) answer(qtype uint16) Answer {
	for _, set := range n.sets {
		if a := set.answer(qtype); a.Outcome == Success {
			return a
		}
	}
	return Answer{Outcome: NoData}
}

func compareNode(n node, name string) int { return strings.Compare(n.name, name) }

// answer gives the set to questions for its type, a CNAME to all, and to ANY
// whichever set is asked first, as RFC 8482 section 4.1 allows.
func (s rrset) answer(qtype uint16) Answer {
	a := Answer{Outcome: Success, Answer: s.records, Extra: s.extra}
	switch {
	case len(s.records) == 0:
		return Answer{Outcome: NoData}
	case s.qtype == qtype, qtype == dns.TypeANY:
		return a
	case s.qtype == dns.TypeCNAME:
		a.Alias = s.records[0].(*dns.CNAME).Target
		return a
	}
	return Answer{Outcome: NoData}
}

// sets returns what a Service has, but for zonal names, sorted by owner and type;
// nothing for nil.
func (r *Records) sets() []rrset {
	if r == nil {
		return nil
	}
	var out []rrset
	for _, n := range r.all() {
		out = append(out, n.sets...)
	}
	slices.SortFunc(out, compareSets)
	return out
}

// all returns the names with those of endpoints.
func (r *Records) all() []node {
	if len(r.usable) == 0 {
		return r.names
	}
	b := newBuilder(r.service, r.base, r.options)
	if r.service.Kind == cluster.KindClusterIP {
		b.clusterIPs()
	}
	b.endpoints(r.usable)
	return b.finish()
}
