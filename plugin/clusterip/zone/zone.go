// Package zone compiles Services to DNS records and looks names up in them.
//
// Records has all names of one Service; an Index keeps them for the zones of one
// server block and answers from them. Lookups take no locks and touch only immutable
// data, but for the records of a Service, which the first lookup makes. A change swaps
// the Records of one Service in one atomic store, so all its names change together. It
// costs no more than that Service, one small map, and for each address that came or
// went a path in the tree of addresses, which is swapped in one atomic store for all
// of an update.
//
// The package is pure: no I/O, clock, logging or goroutines. It does not write
// messages, follow aliases or fall through; the handler in plugin/clusterip
// does. Names passed in are lower case (see Lower) and fully qualified, in the
// escaped form of miekg/dns.
//
// Start with Records, then Index.Apply and Zone.Lookup.
package zone

import (
	"strings"
	"sync/atomic"

	"github.com/miekg/dns"
)

// Version is the schema version of the Kubernetes DNS specification that the
// records follow; it is served as dns-version.<zone>.
const Version = "1.1.0"

// versionTTL is the TTL in the example of section 2.2 of the specification.
const versionTTL = 28800

// Outcome says what a lookup found. The zero value is invalid.
type Outcome uint8

const (
	// Success has records.
	Success Outcome = iota + 1
	// NoData: the name exists, or a name below it does, without such records.
	NoData
	// NXDomain: neither the name nor one below it exists.
	NXDomain
	// NotReady: the source has not been read yet. No lookup returns it.
	NotReady
)

// Answer is what a lookup found. The slices are shared with other queries and
// have no spare capacity: they may be appended to, never written to.
type Answer struct {
	Outcome   Outcome
	Answer    []dns.RR
	Authority []dns.RR // the SOA, with NoData and NXDomain
	Extra     []dns.RR
	// Alias is the target still to be looked up, when Answer holds a CNAME and
	// records of another type were asked for.
	Alias string
}

// InCaseOf returns the answer with owner names in the letter case of the
// question. Shared records are copied, never renamed.
func (a Answer) InCaseOf(question string) Answer {
	a.Answer = recase(a.Answer, question)
	a.Authority = recase(a.Authority, question)
	return a
}

// recase renames records whose owner is the question, or a zone it is in.
func recase(rrs []dns.RR, question string) []dns.RR {
	if len(rrs) == 0 {
		return rrs
	}
	out := make([]dns.RR, len(rrs))
	for i, rr := range rrs {
		out[i] = dns.Copy(rr)
		out[i].Header().Name = question[len(question)-len(rr.Header().Name):]
	}
	return out
}

// Lower returns name in lower case. It changes ASCII letters only, as RFC 4343
// has it, so that the length stays the same; a lower-case name is returned as it
// is, without allocation.
func Lower(name string) string {
	for i := range len(name) {
		if c := name[i]; 'A' <= c && c <= 'Z' {
			return lower(name, i)
		}
	}
	return name
}

func lower(name string, from int) string {
	b := []byte(name)
	for i := from; i < len(b); i++ {
		if c := b[i]; 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// Zone answers for the names of one zone, forward or reverse. It is safe for
// concurrent use.
type Zone struct {
	origin   string
	reverse  bool
	above    bool // reverse names are in this forward zone too: it is "." or "arpa."
	hidden   bool // nobody asks for it: see New
	index    *Index
	version  rrset // dns-version.<zone>
	services shards
	soa      atomic.Pointer[serialSOA]
}

// Origin returns the name of the zone, in lower case and fully qualified.
func (z *Zone) Origin() string { return z.origin }

// Contains reports whether name is origin or lies below it, without allocating;
// both are lower case and fully qualified.
func Contains(origin, name string) bool {
	cut := len(name) - len(origin)
	if cut < 0 || name[cut:] != origin {
		return false
	}
	return cut == 0 || origin == "." || name[cut-1] == '.' && !escaped(name, cut-1)
}

// escaped reports whether the character at i is escaped: "\." is a dot inside a
// label.
func escaped(name string, i int) bool {
	backslashes := 0
	for i > 0 && name[i-1] == '\\' {
		backslashes++
		i--
	}
	return backslashes%2 == 1
}

// Relative cuts the origin, and the dot before it, off a name in the zone.
func (z *Zone) Relative(name string) string {
	cut := len(name) - len(z.origin)
	if cut == 0 {
		return ""
	}
	if z.origin == "." {
		return name[:cut]
	}
	return name[:cut-1]
}

// Lookup answers the question for a name in the zone, in class IN. The serial
// goes into the SOA. It allocates only for a new serial, the first time that a
// Service is asked for, and for what is not kept: reverse pointers, endpoints, pods,
// and the addresses of name servers.
func (z *Zone) Lookup(name string, qtype uint16, serial uint32) Answer {
	var a Answer
	switch rel := z.Relative(name); {
	case rel == "":
		a = z.apex(qtype, serial)
	case z.reverse, z.above && IsReverse(name):
		a = z.index.reverse(name, qtype)
	default:
		a = z.forward(name, rel, qtype)
	}
	if a.Outcome != Success {
		a.Authority = z.SOA(serial)
	}
	return a
}

// forward answers for a name below the origin of a forward zone. Splitting at
// every dot is safe though labels may hold escaped ones: a piece that ends in a
// backslash equals no name that exists.
func (z *Zone) forward(name, rel string, qtype uint16) Answer {
	if z.above && Contains(name, reverse4) {
		return Answer{Outcome: NoData} // arpa.
	}
	switch rel {
	case "svc", "pod", "dns":
		return Answer{Outcome: NoData}
	case "dns-version":
		return z.version.answer(qtype)
	case "ns.dns":
		return z.nameserver(qtype)
	}
	if base, ok := strings.CutSuffix(rel, ".svc"); ok {
		return z.service(name, base, qtype)
	}
	if base, ok := strings.CutSuffix(rel, ".pod"); ok {
		return z.index.pod(name, base, qtype)
	}
	return Answer{Outcome: NXDomain}
}

// service answers for [sub.]service.namespace, or a namespace alone; name is the
// whole name.
func (z *Zone) service(name, base string, qtype uint16) Answer {
	dot := strings.LastIndexByte(base, '.')
	if dot < 0 {
		return z.index.namespaces.answer(base)
	}
	start := strings.LastIndexByte(base[:dot], '.') + 1
	records := z.services.get(base[start:])
	if records == nil {
		return Answer{Outcome: NXDomain}
	}
	return records.lookup(name, base[:max(start-1, 0)], qtype)
}
