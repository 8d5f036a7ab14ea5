// Package netfilter is what the backends of kernelnat share, whichever way they write
// their rules: where NodePorts are, the sysctls that rules depend on, who has written
// to nf_tables, and what kube-proxy may have left there.
package netfilter

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

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
	// CountEndpoints has the connections of each endpoint counted, where a backend can:
	// the kernel takes 16 bytes for each processor and endpoint.
	CountEndpoints bool
	// KeepLocalnet has Cleanup leave route_localnet alone, because other rules need it; see
	// SetRouteLocalnet.
	KeepLocalnet bool
	// IPVS is for how long IPVS remembers connections, where it chooses endpoints.
	IPVS IPVSTimeouts
}

// IPVSTimeouts are how long after its last packet a connection counts as one of its endpoint, in whole
// seconds. 0 leaves the kernel's value: 15 minutes, 2 minutes and 5 minutes.
type IPVSTimeouts struct{ TCP, TCPFin, UDP time.Duration }

// MaxIPVSTimeout is the most that each may be: the kernel takes no more ticks than fit into 31 bits, of which
// there are a thousand a second at most.
const MaxIPVSTimeout = 14 * 24 * time.Hour

// NodePorts says at which addresses of this node NodePorts are. The zero value:
// at all.
type NodePorts struct {
	// Primary is those of the Node object.
	Primary bool
	// Ranges is those of the node's interfaces that lie in one of them.
	Ranges []netip.Prefix
}

// Addresses returns the addresses of this node in one family that NodePorts are at, as they
// are now, sorted; the unspecified address stands for all. It fails if the interfaces
// cannot be listed.
func (n NodePorts) Addresses(family cluster.Family, node plan.Node) ([]netip.Addr, error) {
	var list []netip.Addr
	switch {
	case n.Primary:
		list = slices.Clone(node.Addresses)
	case len(n.Ranges) == 0:
		list = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
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
	return slices.Compact(list), nil
}

// AtLoopback reports whether they are at 127.0.0.1 too.
func (n NodePorts) AtLoopback(node plan.Node) bool {
	at, err := n.Addresses(cluster.IPv4, node)
	return err == nil && slices.ContainsFunc(at, func(a netip.Addr) bool { return a.IsUnspecified() || a.IsLoopback() })
}

// Nowhere returns an error that says so if NodePorts are at no address of this node.
func (n NodePorts) Nowhere(node plan.Node) error {
	for _, family := range cluster.Families {
		if at, err := n.Addresses(family, node); err != nil || len(at) > 0 {
			return err
		}
	}
	if n.Primary {
		return fmt.Errorf("nodeport_addresses is primary, and there is no Node %q with status.addresses, so NodePorts lead nowhere: add them, or name CIDRs", node.Name)
	}
	return fmt.Errorf("this machine has no address in nodeport_addresses %v, so NodePorts lead nowhere: correct the CIDRs, or add the address", n.Ranges)
}
