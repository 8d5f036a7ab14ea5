package allocator

import (
	"math/bits"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
)

// Misfit is that a Service asks for what the service CIDRs do not have: another
// service_cidr mends it, and that of many Services at once.
type Misfit struct {
	Family cluster.Family
	Addrs  []netip.Addr // of the family, which it demands
	text   string
}

// Error implements error.
func (m *Misfit) Error() string { return m.text }

// standard are suggested where no address says what range is meant.
var standard = map[cluster.Family]netip.Prefix{
	cluster.IPv4: netip.MustParsePrefix("10.43.0.0/16"),
	cluster.IPv6: netip.MustParsePrefix("fd00:43::/112"),
}

// Fitting returns service CIDRs that have what some Services ask for and, where addresses
// are held in them, those that there are. It is a guess: of the range that a cluster has
// given addresses from only the addresses are known.
func (a *Allocator) Fitting(misfits []*Misfit) []netip.Prefix {
	var outside []netip.Addr
	missing := make(map[cluster.Family]bool)
	for _, m := range misfits {
		outside = append(outside, m.Addrs...)
		missing[m.Family] = true
	}
	found := covering(outside)
	for family := range missing {
		if !slices.ContainsFunc(found, func(p netip.Prefix) bool { return cluster.FamilyOf(p.Addr()) == family }) {
			found = append(found, standard[family])
		}
	}
	var all []netip.Prefix
	for _, r := range a.ranges {
		used := r.used.static+r.used.dynamic > 0 || !missing[r.family]
		if used && !slices.ContainsFunc(found, r.prefix.Overlaps) {
			all = append(all, r.prefix)
		}
	}
	// The first says which family is the default.
	primary := a.ranges[0].family
	slices.SortStableFunc(found, func(p, q netip.Prefix) int { return rankOf(p, primary) - rankOf(q, primary) })
	if len(all) > 0 && cluster.FamilyOf(all[0].Addr()) == primary {
		return append(all, found...)
	}
	return append(found, all...)
}

func rankOf(p netip.Prefix, primary cluster.Family) int {
	if cluster.FamilyOf(p.Addr()) == primary {
		return 0
	}
	return 1
}

// covering returns prefixes that have the addresses. Those near each other are in one, as
// far apart as the largest usual ranges reach (kubeadm has a /12) and no smaller than the
// usual ones, a /16 and a /112.
func covering(addrs []netip.Addr) []netip.Prefix {
	addrs = slices.SortedFunc(slices.Values(addrs), netip.Addr.Compare)
	var out []netip.Prefix
	for _, addr := range addrs {
		longest, shortest := 16, 12
		if addr.Is6() {
			longest, shortest = 112, 64
		}
		if n := len(out); n > 0 && out[n-1].Addr().BitLen() == addr.BitLen() {
			if same := commonBits(out[n-1].Addr(), addr); same >= shortest {
				out[n-1] = netip.PrefixFrom(addr, min(same, out[n-1].Bits())).Masked()
				continue
			}
		}
		out = append(out, netip.PrefixFrom(addr, longest).Masked())
	}
	return out
}

// commonBits is how many bits at the beginning two addresses of one family share.
func commonBits(a, b netip.Addr) int {
	x, y := a.AsSlice(), b.AsSlice()
	for i := range x {
		if d := x[i] ^ y[i]; d != 0 {
			return 8*i + bits.LeadingZeros8(d)
		}
	}
	return 8 * len(x)
}
