// Package zone compiles Services to DNS records and looks names up in them.
//
// Data flows in one direction, and the files are named after its steps:
//
//   - compile: Records has all that one Service has in one zone.
//   - index: an Index keeps the Records of the zones of one server block, and knows who
//     is at which address. Index.Apply takes over what changed.
//   - lookup: Zone.Lookup answers a question. Zone.Find is for threads that cannot wait.
//   - transfer: a Snapshot is all of a zone; delta: a Change is what became different.
//
// There are two levels. A zone maps "service.namespace" to the Records of a Service,
// which have everything below that name. A change swaps the Records as a whole in one
// atomic store, so all names of a Service change together. It copies one small map, a
// shard of the zone, and for each address that came or went a path in a tree (package
// addrs). So it costs what its Service costs. Lookups take no locks. They touch only
// what never changes, but for what the first question to a Service compiles.
//
// The package is pure: no I/O, clock, logging or goroutines. Only which part of a very
// long list is answered is left to chance. It does not write messages, follow aliases
// or fall through; the handler in plugin/clusterip does. Names passed in are lower case
// (see Lower) and fully qualified, in the escaped form of miekg/dns.
//
// Start with Records, then Index.Apply and Zone.Lookup.
package zone

import (
	"sync/atomic"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/plugin/clusterip/zone/addrs"
	"github.com/miekg/dns"
)

const (
	maxLabel = 63  // octets, RFC 1035 section 2.3.4
	maxName  = 254 // characters with the final dot: 255 octets on the wire
)

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

// IsReverse reports whether a zone is for reverse names: in-addr.arpa, ip6.arpa
// or one below them.
func IsReverse(origin string) bool {
	return Contains(addrs.Reverse4, origin) || Contains(addrs.Reverse6, origin)
}

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

func join(name, origin string) string {
	if origin == "." {
		return name + "."
	}
	return name + "." + origin
}

// key is what a Service is found by: the two labels that its names share.
func key(name cluster.ServiceName) string { return name.Name + "." + name.Namespace }

// IsName reports whether DNS can hold a name: the API server takes labels of any
// length, and one record that cannot be packed breaks off a whole transfer.
func IsName(name string) bool {
	_, ok := dns.IsDomainName(name) // allows one octet too many
	return ok && len(dns.Fqdn(name)) <= maxName
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

// portLabels returns the two labels that a named port has, such as "_http._tcp", or ""
// if it has no name in DNS.
func portLabels(name string, protocol cluster.Protocol) string {
	if !IsPortName(name) {
		return ""
	}
	return "_" + name + "._" + protocol.Lower()
}

// IsPortName reports whether a port has a name in DNS: not if it is unnamed, nor if
// its name has 63 characters, which the underscore makes too long.
func IsPortName(name string) bool { return isLabel(name) && len(name)+1 <= maxLabel }

// appendFullName appends the full name of an endpoint, whose Service has the name base,
// or nothing if DNS cannot hold it.
func appendFullName(b []byte, e *cluster.Endpoint, base string, podNames bool) []byte {
	full := append(append(appendHostname(b, e, podNames), '.'), base...)
	if len(full)-len(b) > maxName {
		return b
	}
	return full
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
	return addrs.AppendDashed(b, e.Addr)
}
