package zone

import (
	"fmt"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/miekg/dns"
)

// Listed is the records of one type at one name, for people and programs to read.
type Listed struct {
	Name string // without the final dot
	Type string // A, AAAA, CNAME or SRV
	// Values are addresses, the target of an alias, or "port target" of SRV, with "weight n"
	// behind it where weights differ. Names are without the final dot, and the order is that
	// of an answer.
	Values []string
}

// List returns the records that a Service has, or would have, in the zones of an Index, which
// need not know it: by zone, and in one zone by name and type. Left out is what follows from
// addresses alone and goes with them: reverse pointers, and the names of endpoints that have no
// hostname. Where ports have names, their SRV records are listed there, and not again at other
// names.
func (x *Index) List(service *cluster.Service) []Listed {
	if !x.exposed(service.Name.Namespace) {
		return nil
	}
	var out []Listed
	for _, z := range x.local {
		if z.hidden {
			continue
		}
		r := newRecords(service, z)
		var named []cluster.Endpoint
		for _, e := range r.usable {
			if e.Hostname != "" {
				named = append(named, e)
			}
		}
		sets := r.setsWith(named)
		portNames := slices.ContainsFunc(sets, rrset.isOfPort)
		for _, set := range sets {
			again := portNames && set.qtype == dns.TypeSRV && !set.isOfPort()
			if !again && x.Match(set.owner()) == z {
				out = append(out, set.listed())
			}
		}
	}
	return out
}

// owner is the name that a set is at.
func (s rrset) owner() string { return s.records[0].Header().Name }

// isOfPort reports whether a set is at the name of a port.
func (s rrset) isOfPort() bool { return strings.HasPrefix(s.owner(), "_") }

func (s rrset) listed() Listed {
	l := Listed{
		Name: withoutDot(s.owner()), Type: dns.TypeToString[s.qtype],
		Values: make([]string, 0, len(s.records)),
	}
	weighted := slices.ContainsFunc(s.records, func(rr dns.RR) bool {
		srv, ok := rr.(*dns.SRV)
		return ok && srv.Weight != s.records[0].(*dns.SRV).Weight
	})
	for _, rr := range s.records {
		switch rr := rr.(type) {
		case *dns.A:
			l.Values = append(l.Values, rr.A.String())
		case *dns.AAAA:
			l.Values = append(l.Values, rr.AAAA.String())
		case *dns.CNAME:
			l.Values = append(l.Values, withoutDot(rr.Target))
		case *dns.SRV:
			value := fmt.Sprintf("%d %s", rr.Port, withoutDot(rr.Target))
			if weighted {
				value += fmt.Sprintf(" weight %d", rr.Weight)
			}
			l.Values = append(l.Values, value)
		}
	}
	return l
}

// withoutDot drops the final dot of a name, which is not the root's.
func withoutDot(fqdn string) string { return strings.TrimSuffix(fqdn, ".") }
