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
	i, found := slices.BinarySearchFunc(r.names, name, compareNode)
	if !found {
		return Answer{Outcome: NXDomain}
	}
	for _, set := range r.names[i].sets {
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
