package zone

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/miekg/dns"
)

const (
	reverse4 = "in-addr.arpa."
	reverse6 = "ip6.arpa."
)

// IsReverse reports whether a zone is for reverse names: in-addr.arpa, ip6.arpa
// or one below them.
func IsReverse(origin string) bool {
	for _, root := range []string{reverse4, reverse6} {
		if origin == root || strings.HasSuffix(origin, "."+root) {
			return true
		}
	}
	return false
}

// pointers has the Services that each address leads to. The records are made when
// somebody asks.
type pointers struct{ table[*owners] }

// owners are the Services that an address leads to, by "name.namespace", sorted.
// Mostly there is one; all addresses of that one share a value. Immutable.
type owners struct{ services []string }

// reverse answers for a whole reverse name, or for part of one, which is an empty
// non-terminal if an address below it has records.
func (x *Index) reverse(name string, qtype uint16) Answer {
	prefix, ok := parseReverse(name)
	switch {
	case name == reverse4 || name == reverse6: // in a zone above them
		return Answer{Outcome: NoData}
	case !ok:
		return Answer{Outcome: NXDomain}
	case prefix.IsSingleIP():
		if found, ok := x.pointers.get(prefix.Addr()); ok {
			records := found.records(name, prefix.Addr(), x.primary.services.get, MaxRecords)
			if len(records) > 0 {
				return rrset{qtype: dns.TypePTR, records: records}.answer(qtype)
			}
		}
	case x.pointers.hasIn(prefix):
		return Answer{Outcome: NoData}
	}
	return Answer{Outcome: NXDomain}
}

// records returns the pointers from an address, whose reverse name is given: to
// the first Service that has it as its ClusterIP, as CoreDNS does, else to all
// endpoints, or as many as are asked for. It returns none for nil.
func (o *owners) records(name string, ip netip.Addr, service func(string) *Records, most int) []dns.RR {
	if o == nil {
		return nil
	}
	var targets []pointer
	var ttl uint32
	var first bool
	for _, k := range o.services {
		r := service(k)
		if r == nil {
			continue // it goes, and the address is about to
		}
		ttl, first = r.options().TTL, r.options().PTRFirst
		if slices.Contains(r.service.ClusterIPs, ip) && len(r.base) <= maxName {
			return onePointer(name, r.base, ttl)
		}
		if target, only := r.onlyHost(ip); only && len(o.services) == 1 {
			return onePointer(name, target, ttl)
		}
		for i := r.firstAt(ip); i < len(r.usable) && r.usable[i].Addr == ip && len(targets) < most; i++ {
			if target := r.fullHost(i); target != "" {
				targets = append(targets, r.pointer(i, target))
			}
		}
	}
	if first {
		targets = firstOfEachPod(targets)
	}
	targets = ranked(targets)
	records := make([]dns.RR, len(targets))
	for i, p := range targets {
		records[i] = &dns.PTR{Hdr: header(name, dns.TypePTR, ttl), Ptr: p.target}
	}
	return records
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

// onlyHost returns the full name of the endpoint at an address, if it is one and
// has a name.
func (r *Records) onlyHost(ip netip.Addr) (target string, only bool) {
	i := r.firstAt(ip)
	if i == len(r.usable) || r.usable[i].Addr != ip || i+1 < len(r.usable) && r.usable[i+1].Addr == ip {
		return "", false
	}
	target = r.fullHost(i)
	return target, target != ""
}

// firstAt returns the place of the first endpoint at an address, or where it would
// be.
func (r *Records) firstAt(ip netip.Addr) int {
	i, _ := slices.BinarySearchFunc(r.usable, ip, func(e cluster.Endpoint, ip netip.Addr) int { return e.Addr.Compare(ip) })
	return i
}

// fullHost returns the full name of an endpoint, or "" if DNS cannot hold it.
func (r *Records) fullHost(i int) string {
	if c := r.kept.Load(); c != nil && c.hosts != nil {
		return c.hosts[i]
	}
	var buffer [maxName]byte
	full := appendHostname(buffer[:0], &r.usable[i], r.options().EndpointPodNames)
	full = append(append(full, '.'), r.base...)
	if len(full) > maxName {
		return ""
	}
	return string(full)
}

// addresses returns those that lead to the Service, sorted; none for nil.
func (r *Records) addresses() []netip.Addr {
	if r == nil {
		return nil
	}
	var all []netip.Addr
	if len(r.base) <= maxName {
		all = append(all, r.service.ClusterIPs...)
	}
	for i := range r.usable {
		if r.isNamed(i) {
			all = append(all, r.usable[i].Addr)
		}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

// isNamed reports whether DNS can hold the name of an endpoint, without making it.
func (r *Records) isNamed(i int) bool {
	var buffer [maxName]byte
	return len(appendHostname(buffer[:0], &r.usable[i], r.options().EndpointPodNames))+1+len(r.base) <= maxName
}

// replace has a Service found at other addresses than before. Both lists are
// sorted; addresses in both are left alone.
func replace(e *edit[*owners], service string, before, after []netip.Addr) {
	alone := &owners{[]string{service}}
	for len(before) > 0 || len(after) > 0 {
		switch {
		case len(after) == 0 || len(before) > 0 && before[0].Less(after[0]):
			disown(e, before[0], service)
			before = before[1:]
		case len(before) == 0 || after[0].Less(before[0]):
			own(e, after[0], service, alone)
			after = after[1:]
		default:
			before, after = before[1:], after[1:]
		}
	}
}

// own adds a Service to those at an address; alone is for where there is none.
func own(e *edit[*owners], ip netip.Addr, service string, alone *owners) {
	others, ok := e.get(ip)
	if !ok {
		e.put(ip, alone)
		return
	}
	at, _ := slices.BinarySearch(others.services, service)
	if e.unseen && len(others.services) > 1 {
		// Made in this edit for this address: to copy it for each Service of a
		// first load would take time quadratic in those that share an address.
		others.services = slices.Insert(others.services, at, service)
		return
	}
	e.put(ip, &owners{slices.Insert(slices.Clone(others.services), at, service)})
}

func disown(e *edit[*owners], ip netip.Addr, service string) {
	all, ok := e.get(ip)
	if !ok {
		return
	}
	rest := slices.DeleteFunc(slices.Clone(all.services), func(s string) bool { return s == service })
	if len(rest) == 0 {
		e.remove(ip)
		return
	}
	e.put(ip, &owners{slices.Clip(rest)})
}

// parseReverse reads a reverse name as the network it stands for: an address if
// it has all labels. Octets have no leading zeros.
func parseReverse(name string) (netip.Prefix, bool) {
	if labels, ok := strings.CutSuffix(name, "."+reverse4); ok {
		return parseLabels(labels, 4, parseOctet)
	}
	if labels, ok := strings.CutSuffix(name, "."+reverse6); ok {
		return parseLabels(labels, 32, parseNibble)
	}
	return netip.Prefix{}, false
}

// parseLabels reads at most most labels, each a digit of the address, from the
// right.
func parseLabels(labels string, most int, digit func(string) (byte, bool)) (netip.Prefix, bool) {
	var b [16]byte
	n := 0
	for more := true; more; n++ {
		dot := strings.LastIndexByte(labels, '.')
		value, ok := digit(labels[dot+1:])
		if !ok || n == most {
			return netip.Prefix{}, false
		}
		if most == 4 {
			b[n] = value
		} else {
			b[n/2] |= value << (4 * (1 - n%2))
		}
		more = dot >= 0
		labels = labels[:max(dot, 0)]
	}
	if most == 4 {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(b[:4])), 8*n), true
	}
	return netip.PrefixFrom(netip.AddrFrom16(b), 4*n), true
}

func parseOctet(label string) (byte, bool) {
	if label == "" || len(label) > 3 || label[0] == '0' && label != "0" {
		return 0, false
	}
	n := 0
	for i := range len(label) {
		c := label[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return byte(n), n <= 255
}

func parseNibble(label string) (byte, bool) {
	if len(label) != 1 {
		return 0, false
	}
	switch c := label[0]; {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}

// reverseName is the name that parseReverse reads as the address.
func reverseName(ip netip.Addr) string {
	name, err := dns.ReverseAddr(ip.String())
	if err != nil {
		panic(err) // an address is one
	}
	return name
}
