package zone

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/clusterip/clusterip/cluster"
	"github.com/miekg/dns"
)

// Records is everything one Service has in one forward zone. Made by newRecords;
// to its users it is immutable.
//
// A change of a Service makes no records unless it is large, and one that nobody asks
// for never has any. What a Service has at its own name and those of its ports is
// compiled when it is first asked for, and kept. The names of endpoints and the reverse
// pointers, which would take ten times the memory, are made for each question.
type Records struct {
	service *cluster.Service
	zone    *Zone
	base    string // the full name of the Service
	// usable are the endpoints that have names, sorted by address; none for an
	// alias.
	usable []cluster.Endpoint
	// byAddress says that the endpoints are known by their addresses alone.
	byAddress bool
	kept      atomic.Pointer[compiled]
	names     atomic.Pointer[[]int32]
}

func newRecords(service *cluster.Service, z *Zone) *Records {
	r := &Records{service: service, zone: z, base: join(key(service.Name)+".svc", z.origin)}
	if service.Kind != cluster.KindExternalName {
		r.usable = cluster.Usable(service.Endpoints)
	}
	r.byAddress = !slices.ContainsFunc(r.usable, func(e cluster.Endpoint) bool {
		return e.Hostname != "" || e.Cluster() != "" || e.PodName != "" && z.index.options.EndpointPodNames
	})
	return r
}

// key is key(r.service.Name), in the memory of the full name.
func (r *Records) key() string {
	name := r.service.Name
	return r.base[:len(name.Name)+1+len(name.Namespace)]
}

func (r *Records) options() *Options { return &r.zone.index.options }

// lazyLimit is how many endpoints a headless Service has at most whose records the
// first question makes. Of a larger one the change makes them: all who ask before the
// first has done make the same, and where that takes long they keep each other from it.
const lazyLimit = 100

// isLarge reports whether making the records takes long.
func (r *Records) isLarge() bool {
	return r.service.Kind == cluster.KindHeadless && len(r.usable) > lazyLimit
}

// isZonal reports whether there are names for topology zones.
func (r *Records) isZonal() bool {
	return r.options().Zonal && r.service.Kind == cluster.KindHeadless && !r.isImported()
}

// isImported reports whether the Service is another cluster's.
func (r *Records) isImported() bool { return slices.Contains(r.options().Multicluster, r.zone.origin) }

// compiled returns what is compiled. Those who ask first at the same time all make it,
// and one of them has it kept.
func (r *Records) compiled() *compiled {
	if c := r.kept.Load(); c != nil {
		return c
	}
	r.kept.CompareAndSwap(nil, r.compile())
	return r.kept.Load()
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
	switch {
	case name == "" || name[0] == '_': // not an endpoint's
		if n := find(r.compiled().names, name); n != nil {
			if a := n.answer(qtype); a.Outcome == Success || name == "" {
				return a
			}
		}
	default:
		if a := r.endpoint(full, name, qtype); a.Outcome != NXDomain {
			return a
		}
	}
	if a := r.port(full, name, qtype); a.Outcome != NXDomain || !r.isZonal() {
		return a
	}
	c := r.compiled()
	return c.zonal.lookup(name, qtype, c.names)
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
	s = s.window()
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

// MaxRecords of a set, and of what goes with it, are in an answer. A record takes 16
// octets at least, so that no message holds more, and one with as many is truncated.
const MaxRecords = 4096

// window returns the part of a set that is in one answer.
func (s rrset) window() rrset {
	if len(s.records) > MaxRecords {
		return rrset{qtype: s.qtype, records: Window(s.records)} // no room for more
	}
	s.extra = s.extra[:min(len(s.extra), MaxRecords):min(len(s.extra), MaxRecords)]
	return s
}

// Window returns as many elements of a list, in a row, as an answer holds. Each part of
// a longer list has its turn, by chance, so that none is left out for ever.
func Window[T any](all []T) []T {
	n := len(all)
	if n <= MaxRecords {
		return all
	}
	from := min(rand.IntN((n+MaxRecords-1)/MaxRecords)*MaxRecords, n-MaxRecords)
	return all[from : from+MaxRecords : from+MaxRecords]
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

// all returns the names with those of endpoints. A transfer asks for all Services,
// which is no reason to keep what it gets.
func (r *Records) all() []node {
	c := r.kept.Load()
	if c == nil {
		c = r.compile()
	}
	if len(r.usable) == 0 {
		return c.names
	}
	return withParents(slices.Concat(c.names, nameEndpoints(r.usable, r.base, r.options()).nodes()))
}
