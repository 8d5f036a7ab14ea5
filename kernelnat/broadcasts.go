package kernelnat

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/hostaddrs"
)

// broadcasts returns the broadcast addresses of this node's networks, sorted. What is
// sent there is for every host of the network; a rule for it would take it from the
// node. Without an answer of the kernel there are none.
func broadcasts() []netip.Addr {
	found, err := hostaddrs.List()
	if err != nil {
		return nil
	}
	var out []netip.Addr
	for _, p := range found {
		if !p.Addr().Is4() || p.Bits() > 30 || p.Addr().IsLoopback() {
			continue // IPv6 has none, nor have links between two hosts (RFC 3021)
		}
		first := p.Masked().Addr().As4()
		last := binary.BigEndian.Uint32(first[:]) | 1<<(32-p.Bits()) - 1
		out = append(out, netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, last))))
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}
