package zone

import (
	"net/netip"
	"slices"
	"strings"

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

// pointers has the reverse records of all Services.
type pointers struct{ table[*reversed] }

// reversed is what is known of one address. Immutable.
type reversed struct {
	all     []*pointer
	records []dns.RR // those of all that are the answer
}

// answer returns the records, none for nil.
func (r *reversed) answer() []dns.RR {
	if r == nil {
		return nil
	}
	return r.records
}

// lookup answers for a whole reverse name, or for part of one, which is an empty
// non-terminal if an address below it has records.
func (p *pointers) lookup(name string, qtype uint16) Answer {
	prefix, ok := parseReverse(name)
	switch {
	case name == reverse4 || name == reverse6: // in a zone above them
		return Answer{Outcome: NoData}
	case !ok:
		return Answer{Outcome: NXDomain}
	case prefix.IsSingleIP():
		if found, ok := p.get(prefix.Addr()); ok {
			return rrset{qtype: dns.TypePTR, records: found.records}.answer(qtype)
		}
	case p.hasIn(prefix):
		return Answer{Outcome: NoData}
	}
	return Answer{Outcome: NXDomain}
}

// replace exchanges the pointers to one Service. Both lists are sorted by
// address; addresses whose pointers stay the same are left alone.
func replace(e *edit[*reversed], service string, before, after []*pointer, changes *tracker) {
	for len(before) > 0 || len(after) > 0 {
		var ip netip.Addr
		switch {
		case len(before) == 0:
			ip = after[0].addr
		case len(after) == 0 || before[0].addr.Compare(after[0].addr) <= 0:
			ip = before[0].addr
		default:
			ip = after[0].addr
		}
		var gone, come []*pointer
		gone, before = cutAddress(before, ip)
		come, after = cutAddress(after, ip)
		if slices.EqualFunc(gone, come, samePointer) {
			continue
		}
		old, _ := e.get(ip)
		replaceAt(e, ip, service, come)
		now, _ := e.get(ip)
		changes.replaced(old.answer(), now.answer())
	}
}

// cutAddress splits off the pointers from ip, with which the list may begin.
func cutAddress(list []*pointer, ip netip.Addr) (of, rest []*pointer) {
	n := 0
	for n < len(list) && list[n].addr == ip {
		n++
	}
	return list[:n], list[n:]
}

func samePointer(a, b *pointer) bool {
	return a.virtual == b.virtual && a.ptr.Ptr == b.ptr.Ptr && a.ptr.Hdr.Ttl == b.ptr.Hdr.Ttl
}

// replaceAt exchanges the pointers from one address to one Service.
func replaceAt(e *edit[*reversed], ip netip.Addr, service string, come []*pointer) {
	all := slices.Clone(come)
	if old, ok := e.get(ip); ok {
		for _, p := range old.all {
			if p.service != service {
				all = append(all, p)
			}
		}
	}
	if len(all) == 0 {
		e.remove(ip)
		return
	}
	slices.SortFunc(all, func(a, b *pointer) int { return strings.Compare(a.ptr.Ptr, b.ptr.Ptr) })
	e.put(ip, &reversed{slices.Clip(all), choose(all)})
}

// choose takes the first Service that has the address as its ClusterIP, as
// CoreDNS does, else all endpoints.
func choose(all []*pointer) []dns.RR {
	records := make([]dns.RR, 0, len(all))
	for _, p := range all {
		if p.virtual {
			return []dns.RR{&p.ptr}
		}
		records = append(records, &p.ptr)
	}
	return records
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
