package plan

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
)

// Range is a range of ClusterIPs in which what is no frontend of a Service is refused,
// but for parts that somebody is known to live in.
type Range struct {
	Prefix netip.Prefix
	But    []netip.Prefix // sorted, none inside another
}

// Equal reports whether two ranges are the same.
func (r Range) Equal(o Range) bool { return r.Prefix == o.Prefix && slices.Equal(r.But, o.But) }

// Contains reports whether an address is in the range and not left out.
func (r Range) Contains(a netip.Addr) bool {
	return r.Prefix.Contains(a) && !slices.ContainsFunc(r.But, func(but netip.Prefix) bool { return but.Contains(a) })
}

// Overlap says that a range of ClusterIPs holds addresses that are somebody else's.
type Overlap struct {
	Range netip.Prefix
	Text  string // for a log
}

// maxBut is how many parts of a range are left out before it is not refused at all: it
// is plainly not for ClusterIPs alone.
const maxBut = 64

// The widest ranges that are refused. A wider one is a mistake, or holds the half of
// somebody's network.
const (
	minBits4 = 8
	minBits6 = 48
)

// everywhere are addresses that mean the same on every machine.
var everywhere = []cluster.Occupied{
	{Prefix: netip.MustParsePrefix("127.0.0.0/8"), By: "loopback"},
	{Prefix: netip.MustParsePrefix("169.254.0.0/16"), By: "link-local addresses"},
	{Prefix: netip.MustParsePrefix("224.0.0.0/3"), By: "multicast and reserved addresses"},
	{Prefix: netip.MustParsePrefix("::1/128"), By: "loopback"},
	{Prefix: netip.MustParsePrefix("fe80::/10"), By: "link-local addresses"},
	{Prefix: netip.MustParsePrefix("ff00::/8"), By: "multicast addresses"},
}

// Refuse returns in which of the ranges of ClusterIPs what is no frontend is to be
// refused, given who else is known to be where, and where the two overlap. A
// mistaken range must not cut a node off from anybody: what is known is left out, and a
// range is not refused at all if somebody else's contains it, if it is very wide, or if
// too much is to be left out.
func Refuse(ranges []netip.Prefix, occupied []cluster.Occupied) (refused []Range, overlaps []Overlap) {
	occupied = slices.Concat(everywhere, occupied)
	for _, r := range ranges {
		if bits := minBits(r); r.Bits() < bits {
			overlaps = append(overlaps, Overlap{r, fmt.Sprintf("range %s of ClusterIPs is wider than /%d, so what is in it is not refused", r, bits)})
			continue
		}
		but, own := leftOut(r, occupied)
		overlaps = append(overlaps, own...)
		switch {
		case slices.Contains(but, r):
		case len(but) > maxBut:
			overlaps = append(overlaps, Overlap{r, fmt.Sprintf("range %s of ClusterIPs has more than %d addresses and networks of others in it, so nothing in it is refused", r, maxBut)})
		default:
			refused = append(refused, Range{r, but})
		}
	}
	return refused, overlaps
}

// Exclusive returns the ranges that are for ClusterIPs alone, as far as is known: no
// range that somebody else's contains, and none that is very wide.
func Exclusive(ranges []netip.Prefix, occupied []cluster.Occupied) []netip.Prefix {
	var out []netip.Prefix
	for _, r := range ranges {
		but, _ := leftOut(r, slices.Concat(everywhere, occupied))
		if r.Bits() >= minBits(r) && !slices.Contains(but, r) {
			out = append(out, r)
		}
	}
	return out
}

func minBits(r netip.Prefix) int {
	if r.Addr().Is4() {
		return minBits4
	}
	return minBits6
}

// leftOut returns the parts of a range that are others', and says whose. Those of nobody
// in particular are told together.
func leftOut(r netip.Prefix, occupied []cluster.Occupied) (but []netip.Prefix, overlaps []Overlap) {
	services := false
	for _, o := range occupied {
		if !r.Overlaps(o.Prefix) {
			continue
		}
		if o.By == "" {
			but, services = append(but, o.Prefix.Masked()), true
			continue
		}
		part, effect := o.Prefix.Masked(), "which is not refused"
		if part.Bits() <= r.Bits() {
			part, effect = r, "so nothing in the range is refused"
		}
		but = append(but, part)
		overlaps = append(overlaps, Overlap{r, fmt.Sprintf("range %s of ClusterIPs overlaps %s, %s, %s: give the cluster ranges that nobody else uses", r, o.Prefix, o.By, effect)})
	}
	if services {
		overlaps = append(overlaps, Overlap{r, fmt.Sprintf("range %s of ClusterIPs has endpoints of Services in it, or ClusterIPs that another proxy serves, which are not refused", r)})
	}
	slices.SortFunc(but, netip.Prefix.Compare)
	var out []netip.Prefix
	for _, p := range slices.Compact(but) {
		if n := len(out); n == 0 || !out[n-1].Overlaps(p) {
			out = append(out, p)
		}
	}
	return out, overlaps
}
