package ipvs

import (
	"net/netip"

	"github.com/clusterip/clusterip/cluster"
)

// Where virtual servers are: addresses that are nobody's on any wire. Of the first range packets
// once went to the next router between IPv4 and IPv6, which nobody has any more (RFC 7526). The
// second one is for what leads nowhere (RFC 9780).
var ranges = map[cluster.Family]netip.Prefix{
	cluster.IPv4: netip.MustParsePrefix("192.88.99.0/24"),
	cluster.IPv6: netip.MustParsePrefix("100:0:0:1::/64"),
}

// Range is where virtual servers are in one IP family.
func Range(family cluster.Family) netip.Prefix { return ranges[family] }

// There are so many ports at each of so many addresses.
const (
	addresses = 256
	ports     = 1<<16 - 1
)

// numbers gives out addresses and ports of virtual servers, none of them again before all others
// were: a packet may be on its way to one that has just gone.
type numbers struct {
	within netip.Prefix
	next   uint32 // from 0
}

// take returns the next one that is free.
func (n *numbers) take(used func(netip.AddrPort) bool) (at netip.AddrPort, ok bool) {
	for range addresses * ports {
		at = n.at(n.next)
		n.next = (n.next + 1) % (addresses * ports)
		if !used(at) {
			return at, true
		}
	}
	return netip.AddrPort{}, false
}

func (n *numbers) at(number uint32) netip.AddrPort {
	addr := n.within.Addr().AsSlice()
	addr[len(addr)-1] = byte(number / ports)
	a, _ := netip.AddrFromSlice(addr)
	return netip.AddrPortFrom(a, uint16(number%ports+1))
}
