package zone

import (
	"cmp"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/plugin/clusterip/wire"
	"github.com/miekg/dns"
)

// rrset holds the records that answer a question for one type.
type rrset struct {
	qtype   uint16
	records []dns.RR
	extra   []dns.RR
}

// answer gives the set to questions for its type, a CNAME to all, and to ANY
// whichever set is asked first, as RFC 8482 section 4.1 allows.
func (s rrset) hit(qtype uint16) Hit {
	h := Hit{Outcome: Success, set: s.window()}
	switch {
	case len(s.records) == 0:
		return Hit{Outcome: NoData}
	case s.qtype == qtype, qtype == dns.TypeANY:
		return h
	case s.qtype == dns.TypeCNAME:
		h.Alias = s.records[0].(*dns.CNAME).Target
		return h
	}
	return Hit{Outcome: NoData}
}

// MaxRecords of a set, and of what goes with it, are in an answer. One with as many is
// truncated.
const MaxRecords = wire.MaxRecords

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
		octets, _ = a.ip.AppendBinary(octets) // never fails
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

func addressType(ip netip.Addr) uint16 {
	if ip.Is4() {
		return dns.TypeA
	}
	return dns.TypeAAAA
}

// oneAddress returns a record of an address, in one allocation.
func oneAddress(owner string, ip netip.Addr, ttl uint32) []dns.RR {
	if ip.Is4() {
		one := &struct {
			records [1]dns.RR
			a       dns.A
			ip      [4]byte
		}{ip: ip.As4()}
		one.a = dns.A{Hdr: header(owner, dns.TypeA, ttl), A: one.ip[:]}
		one.records[0] = &one.a
		return one.records[:]
	}
	one := &struct {
		records [1]dns.RR
		aaaa    dns.AAAA
		ip      [16]byte
	}{ip: ip.As16()}
	one.aaaa = dns.AAAA{Hdr: header(owner, dns.TypeAAAA, ttl), AAAA: one.ip[:]}
	one.records[0] = &one.aaaa
	return one.records[:]
}

// onePointer returns a PTR record, in one allocation.
func onePointer(owner, target string, ttl uint32) []dns.RR {
	one := &struct {
		records [1]dns.RR
		ptr     dns.PTR
	}{ptr: dns.PTR{Hdr: header(owner, dns.TypePTR, ttl), Ptr: target}}
	one.records[0] = &one.ptr
	return one.records[:]
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
	weight cluster.Weight
}

func (s srv) compare(o srv) int {
	return cmp.Or(cmp.Compare(s.label, o.label), s.compareTargets(o))
}

func (s srv) compareTargets(o srv) int {
	return cmp.Or(cmp.Compare(s.target, o.target), cmp.Compare(s.port, o.port), cmp.Compare(o.weight, s.weight))
}

func (s srv) sameTarget(o srv) bool { return s.target == o.target && s.port == o.port }

// equalWeight returns the weight of each record where all are to weigh the same: together
// they come to about 100, as in CoreDNS. It is false if weights differ.
func equalWeight(ports []srv) (weight uint16, ok bool) {
	for i := range ports {
		if ports[i].weight != ports[0].weight {
			return 0, false
		}
	}
	return shareOf(len(ports)), true
}

func shareOf(n int) uint16 { return uint16(max(100/max(n, 1), 1)) }

// serviceSet returns SRV records, with priority 0, and what goes with them. It sorts the
// ports by target; of a target that is there with several weights the heaviest counts.
func serviceSet(owner string, ports []srv, ttl uint32, extra func([]dns.RR) []dns.RR) rrset {
	slices.SortFunc(ports, srv.compareTargets)
	counts := func(i int) bool {
		return ports[i].target != "" && (i == 0 || !ports[i].sameTarget(ports[i-1]))
	}
	n := 0
	for i := range ports {
		if counts(i) {
			n++
		}
	}
	equal, same := equalWeight(ports)
	made, records := make([]dns.SRV, 0, n), make([]dns.RR, 0, n)
	for i, s := range ports {
		if counts(i) {
			weight := s.weight
			if same {
				weight = equal
			}
			made = append(made, dns.SRV{Hdr: header(owner, dns.TypeSRV, ttl), Weight: weight, Port: s.port, Target: s.target})
			records = append(records, &made[len(made)-1])
		}
	}
	return rrset{qtype: dns.TypeSRV, records: records, extra: extra(records)}
}

// atName returns copies of records of one type at another name. Those of addresses take
// a handful of allocations, however many there are.
func atName(name string, rrs []dns.RR) []dns.RR {
	addresses := make([]address, 0, len(rrs))
	for _, rr := range rrs {
		var ip netip.Addr
		switch rr := rr.(type) {
		case *dns.A:
			ip, _ = netip.AddrFromSlice(rr.A)
		case *dns.AAAA:
			ip, _ = netip.AddrFromSlice(rr.AAAA)
		default:
			return renamed(rrs, func(string) string { return name })
		}
		addresses = append(addresses, address{name, ip})
	}
	if len(rrs) == 0 {
		return nil
	}
	return addressRecords(addresses, rrs[0].Header().Ttl)
}

// renamed returns copies of records with other owners.
func renamed(rrs []dns.RR, owner func(old string) string) []dns.RR {
	out := make([]dns.RR, len(rrs))
	for i, rr := range rrs {
		out[i] = dns.Copy(rr)
		out[i].Header().Name = owner(rr.Header().Name)
	}
	return out
}
