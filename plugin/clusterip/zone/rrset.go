package zone

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/miekg/dns"
)

func header(owner string, qtype uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: qtype, Class: dns.ClassINET, Ttl: ttl}
}

// address is a record of an address before it is made.
type address struct {
	owner string
	ip    netip.Addr
}

// at gives addresses an owner.
func at(owner string, ips []netip.Addr) []address {
	out := make([]address, len(ips))
	for i, ip := range ips {
		out[i] = address{owner, ip}
	}
	return out
}

// addressRecords returns A and AAAA records, in the same order. They share memory: a
// handful of allocations, however many there are.
func addressRecords(addresses []address, ttl uint32) []dns.RR {
	v4 := 0
	for _, a := range addresses {
		if a.ip.Is4() {
			v4++
		}
	}
	v6 := len(addresses) - v4
	as, aaaas := make([]dns.A, 0, v4), make([]dns.AAAA, 0, v6)
	octets := make([]byte, 0, v4*4+v6*16)
	out := make([]dns.RR, len(addresses))
	for i, a := range addresses {
		from := len(octets)
		octets = appendOctets(octets, a.ip)
		ip := octets[from:len(octets):len(octets)]
		if a.ip.Is4() {
			as = append(as, dns.A{Hdr: header(a.owner, dns.TypeA, ttl), A: ip})
			out[i] = &as[len(as)-1]
		} else {
			aaaas = append(aaaas, dns.AAAA{Hdr: header(a.owner, dns.TypeAAAA, ttl), AAAA: ip})
			out[i] = &aaaas[len(aaaas)-1]
		}
	}
	return out
}

func appendOctets(b []byte, ip netip.Addr) []byte {
	if ip.Is4() {
		octets := ip.As4()
		return append(b, octets[:]...)
	}
	octets := ip.As16()
	return append(b, octets[:]...)
}

// addressSets divides records of one owner, those of IPv4 first, by type.
func addressSets(records []dns.RR) []rrset {
	v4 := span(records, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeA })
	sets := make([]rrset, 0, 3)
	if v4 > 0 {
		sets = append(sets, rrset{qtype: dns.TypeA, records: records[:v4:v4]})
	}
	if v4 < len(records) {
		sets = append(sets, rrset{qtype: dns.TypeAAAA, records: records[v4:]})
	}
	return sets
}

// span returns how many elements from the first on are in.
func span[T any](list []T, in func(T) bool) int {
	if n := slices.IndexFunc(list, func(v T) bool { return !in(v) }); n >= 0 {
		return n
	}
	return len(list)
}

// srv is an SRV record before it is made. One that is there twice counts twice for
// the weight, as in CoreDNS.
type srv struct {
	label  string // of the port, such as "_http._tcp"; "" if it has no name in DNS
	target string // in full; "" if DNS cannot hold it, and there is no record
	port   uint16
}

func (s srv) compare(o srv) int {
	return cmp.Or(cmp.Compare(s.label, o.label), s.compareTargets(o))
}

func (s srv) compareTargets(o srv) int {
	return cmp.Or(cmp.Compare(s.target, o.target), cmp.Compare(s.port, o.port))
}

// serviceSet returns SRV records, which are given sorted by target, with priority 0
// and equal weights that come to about 100.
func serviceSet(owner string, sorted []srv, ttl uint32) rrset {
	counts := func(i int) bool {
		return sorted[i].target != "" && (i == 0 || sorted[i].compareTargets(sorted[i-1]) != 0)
	}
	n := 0
	for i := range sorted {
		if counts(i) {
			n++
		}
	}
	made, records := make([]dns.SRV, 0, n), make([]dns.RR, 0, n)
	for i, s := range sorted {
		if counts(i) {
			weight := uint16(max(100/len(sorted), 1))
			made = append(made, dns.SRV{Hdr: header(owner, dns.TypeSRV, ttl), Weight: weight, Port: s.port, Target: s.target})
			records = append(records, &made[len(made)-1])
		}
	}
	return rrset{qtype: dns.TypeSRV, records: records}
}

// portName is the pair of labels that stands for a named port, or "" if there
// are none.
func portName(name string, protocol cluster.Protocol) string {
	if !IsPortName(name) {
		return ""
	}
	return "_" + name + "._" + protocol.Lower()
}

// IsPortName reports whether a port has a name in DNS: not if it is unnamed, nor if
// its name has 63 characters, which the underscore makes too long.
func IsPortName(name string) bool { return isLabel(name) && len(name)+1 <= maxLabel }
