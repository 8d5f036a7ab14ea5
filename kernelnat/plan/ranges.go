package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
)

// Range is a range of ClusterIPs with what else is in it. An address in it that is no
// frontend of a Service and not exempt is nobody's: packets to it are refused, and flows
// to it are of Services that are gone.
type Range struct {
	CIDR netip.Prefix
	// Exempt are the parts of it that are somebody's: sorted, disjoint, and at most
	// MaxExempt.
	Exempt []netip.Prefix
	// Open says that nothing in it is known to be nobody's.
	Open bool
}

// MaxExempt is how many parts of one range are exempt at most. A packet that is to be
// refused passes a rule for each. Where there are more, the whole range is.
const MaxExempt = 64

// Equal reports whether two ranges say the same.
func (r Range) Equal(o Range) bool {
	return r.CIDR == o.CIDR && r.Open == o.Open && slices.Equal(r.Exempt, o.Exempt)
}

// Nobodys reports whether an address is in the range, and nobody's but a Service's.
func (r Range) Nobodys(a netip.Addr) bool {
	return !r.Open && r.CIDR.Contains(a) && !slices.ContainsFunc(r.Exempt, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Known is something that has addresses, in one prefix.
type Known struct {
	At netip.Prefix
	// What it is, in words: "a Node's address". What has the same words is told as
	// one. "" if nobody need be told.
	What string
}

// KnownAt returns a Known of one address.
func KnownAt(a netip.Addr, what string) Known {
	a = a.Unmap().WithZone("")
	return Known{netip.PrefixFrom(a, a.BitLen()), what}
}

// Overlap is that a range of ClusterIPs holds what is somebody's.
type Overlap struct {
	CIDR netip.Prefix
	What string
	// Example is where, which may be left out; Whole, that this is all of the range.
	Example netip.Prefix
	Whole   bool
}

// String says what that means, for a log.
func (o Overlap) String() string {
	if o.Whole {
		return fmt.Sprintf("the range of ClusterIPs %s overlaps %s: nothing in it is refused, and a Service that gets an address of somebody there takes it away. "+
			"Choose a range that is used for nothing else", o.CIDR, o.What)
	}
	example := ""
	if o.Example.IsValid() {
		example = fmt.Sprintf(", such as %s", o.Example)
	}
	return fmt.Sprintf("the range of ClusterIPs %s overlaps %s%s: that is not refused, and a Service that gets an address there takes it away. "+
		"Choose a range that is used for nothing else", o.CIDR, o.What, example)
}

// special are blocks of addresses (RFC 6890) that no range of ClusterIPs can hold
// any of, by mistake or not: the node itself needs them.
var special = []Known{
	{netip.MustParsePrefix("0.0.0.0/8"), "addresses of this host (0.0.0.0/8)"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback addresses"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local addresses"},
	{netip.MustParsePrefix("224.0.0.0/3"), "multicast and reserved addresses"},
	{netip.MustParsePrefix("::/64"), "loopback and mapped addresses"},
	{netip.MustParsePrefix("fe80::/10"), "link-local addresses"},
	{netip.MustParsePrefix("ff00::/8"), "multicast addresses"},
}

// The shortest prefixes of a range that is taken seriously: what is larger than the
// largest private network must be a mistake.
const (
	shortestIPv4 = 8
	shortestIPv6 = 32
)

// Ranges returns the ranges of one family with what is exempt, and what they overlap:
// each kind of thing once for each range, in the order given.
func Ranges(cidrs []netip.Prefix, family cluster.Family, known []Known) ([]Range, []Overlap) {
	var ranges []Range
	var overlaps []Overlap
	for _, cidr := range cidrs {
		if cluster.FamilyOf(cidr.Addr()) != family {
			continue
		}
		r, found := rangeOf(cidr.Masked(), known)
		ranges, overlaps = append(ranges, r), append(overlaps, found...)
	}
	return ranges, overlaps
}

func rangeOf(cidr netip.Prefix, known []Known) (Range, []Overlap) {
	if what := impossible(cidr); what != "" {
		return Range{CIDR: cidr, Open: true}, []Overlap{{CIDR: cidr, What: what, Example: cidr, Whole: true}}
	}
	r := Range{CIDR: cidr}
	var overlaps []Overlap
	told := make(map[string]int) // what by its index in overlaps
	for _, k := range known {
		if !k.At.Overlaps(cidr) {
			continue
		}
		whole := k.At.Bits() <= cidr.Bits()
		if r.Open = r.Open || whole; !whole {
			r.Exempt = append(r.Exempt, k.At.Masked())
		}
		at, again := told[k.What]
		switch {
		case k.What == "":
		case !again:
			told[k.What] = len(overlaps)
			overlaps = append(overlaps, Overlap{CIDR: cidr, What: k.What, Example: k.At, Whole: whole})
		default:
			overlaps[at].Whole = overlaps[at].Whole || whole
		}
	}
	if r.Exempt = joined(r.Exempt); len(r.Exempt) > MaxExempt {
		overlaps = append(overlaps, Overlap{CIDR: cidr, What: fmt.Sprintf("more than %d addresses and networks", MaxExempt), Example: cidr, Whole: true})
		r.Open = true
	}
	if r.Open = r.Open || len(r.Exempt) == 1 && r.Exempt[0] == cidr; r.Open {
		r.Exempt = nil
	}
	return r, overlaps
}

// impossible says why no ClusterIPs can be meant with a range, or "".
func impossible(cidr netip.Prefix) string {
	shortest := shortestIPv4
	if cidr.Addr().Is6() {
		shortest = shortestIPv6
	}
	if cidr.Bits() < shortest {
		return fmt.Sprintf("addresses of others, since it is larger than a /%d", shortest)
	}
	for _, s := range special {
		if s.At.Overlaps(cidr) {
			return s.What
		}
	}
	return ""
}

// joined returns the same addresses in as few prefixes as there can be, sorted.
func joined(all []netip.Prefix) []netip.Prefix {
	slices.SortFunc(all, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	var out []netip.Prefix
	for _, p := range all {
		if n := len(out); n > 0 && out[n-1].Overlaps(p) {
			continue // the one before begins no later and is no smaller
		}
		// Two halves are one.
		for n := len(out); n > 0 && out[n-1].Bits() == p.Bits() && parent(out[n-1]) == parent(p); n = len(out) {
			p, out = parent(p), out[:n-1]
		}
		out = append(out, p)
	}
	return out
}

func parent(p netip.Prefix) netip.Prefix {
	if p.Bits() == 0 {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(p.Addr(), p.Bits()-1).Masked()
}
