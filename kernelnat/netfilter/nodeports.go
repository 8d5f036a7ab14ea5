// Package netfilter is what the backends of kernelnat share, whichever way they write
// their rules: where NodePorts are, the sysctls that rules depend on, who has written
// to nf_tables, and what kube-proxy may have left there.
package netfilter

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/hostaddrs"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// DefaultMasqueradeBit is kube-proxy's default.
const DefaultMasqueradeBit = 14

// Settings are those that all backends have.
type Settings struct {
	// MasqueradeBit is the bit, 0 to 31, of the mark of packets that are to be
	// masqueraded.
	MasqueradeBit uint8
	// NodePorts says at which addresses of this node NodePorts are.
	NodePorts NodePorts
}

// NodePorts says at which addresses of this node NodePorts are. The zero value:
// at all.
type NodePorts struct {
	// Primary is those of the Node object.
	Primary bool
	// Ranges is those of the node's interfaces that lie in one of them.
	Ranges []netip.Prefix
}

// NodeAddresses are addresses of this node in one IP family: all of them, or those listed.
type NodeAddresses struct {
	All  bool
	List []netip.Addr // sorted; nil if All
}

// Equal reports whether both are the same addresses.
func (a *NodeAddresses) Equal(o *NodeAddresses) bool {
	return a.All == o.All && slices.Equal(a.List, o.List)
}

// Loopback reports whether an address of the loopback interface is among them.
func (a *NodeAddresses) Loopback() bool {
	return a.All || slices.ContainsFunc(a.List, netip.Addr.IsLoopback)
}

// At returns the addresses of one family that NodePorts are at, as they are now. It
// fails if the interfaces cannot be listed.
func (n NodePorts) At(family cluster.Family, node plan.Node) (*NodeAddresses, error) {
	var list []netip.Addr
	switch {
	case n.Primary:
		list = slices.Clone(node.Addresses)
	case len(n.Ranges) == 0:
		return &NodeAddresses{All: true}, nil
	default:
		found, err := hostaddrs.List()
		if err != nil {
			return nil, fmt.Errorf("list this node's addresses for NodePorts: %w", err)
		}
		for _, f := range found {
			if slices.ContainsFunc(n.Ranges, func(r netip.Prefix) bool { return r.Contains(f.Addr()) }) {
				list = append(list, f.Addr())
			}
		}
	}
	list = slices.DeleteFunc(list, func(a netip.Addr) bool {
		// Replies to ::1 cannot be routed.
		return cluster.FamilyOf(a) != family || a == netip.IPv6Loopback()
	})
	slices.SortFunc(list, netip.Addr.Compare)
	return &NodeAddresses{List: slices.Compact(list)}, nil
}

// Addresses are what At returns, as addresses to listen on: the unspecified one stands
// for all.
func (n NodePorts) Addresses(family cluster.Family, node plan.Node) ([]netip.Addr, error) {
	found, err := n.At(family, node)
	switch {
	case err != nil:
		return nil, err
	case !found.All:
		return found.List, nil
	case family == cluster.IPv4:
		return []netip.Addr{netip.IPv4Unspecified()}, nil
	}
	return []netip.Addr{netip.IPv6Unspecified()}, nil
}
