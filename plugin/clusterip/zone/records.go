package zone

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// Records is everything one Service has in one forward zone, with the reverse
// pointers to it. Immutable; made by Compile.
type Records struct {
	// names are relative to the Service ("" is the Service itself) and sorted.
	// Empty non-terminals, such as "_tcp", are among them.
	names []node
	// pointers are sorted by address.
	pointers []*pointer
	zonal    *zonal // nil if there are no such names
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

// pointer ties an address to the name of a Service or of an endpoint. Immutable.
type pointer struct {
	addr netip.Addr
	// service is the "name.namespace" that the pointer belongs to.
	service string
	// virtual is set for a ClusterIP, which wins over endpoints.
	virtual bool
	ptr     dns.PTR
}

// lookup answers for a name relative to the Service.
func (r *Records) lookup(name string, qtype uint16) Answer {
	if n := find(r.names, name); n != nil {
		return n.answer(qtype)
	}
	if r.zonal != nil {
		return r.zonal.lookup(name, qtype, r)
	}
	return Answer{Outcome: NXDomain}
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
