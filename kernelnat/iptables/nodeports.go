package iptables

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/hostaddrs"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// NodePorts says at which addresses of this node NodePorts are. The zero value:
// at all.
type NodePorts struct {
	// Primary is those of the Node object.
	Primary bool
	// Ranges is those of the node's interfaces that lie in one of them.
	Ranges []netip.Prefix
}

// addresses are addresses of this node; all of them, or those listed. Sorted.
type addresses struct {
	all  bool
	list []netip.Addr
}

func (a *addresses) equal(o *addresses) bool { return a.all == o.all && slices.Equal(a.list, o.list) }

// loopback reports whether an address of the loopback interface is among them.
func (a *addresses) loopback() bool {
	return a.all || slices.ContainsFunc(a.list, netip.Addr.IsLoopback)
}

// Addresses are those of the node in one family that NodePorts are at; the unspecified
// address stands for all.
func (n NodePorts) Addresses(family cluster.Family, node plan.Node) ([]netip.Addr, error) {
	found, err := n.at(family, node)
	switch {
	case err != nil:
		return nil, err
	case found.all:
		return []netip.Addr{anyAddress(family).Addr()}, nil
	}
	return found.list, nil
}

func (n NodePorts) at(family cluster.Family, node plan.Node) (*addresses, error) {
	var list []netip.Addr
	switch {
	case n.Primary:
		list = slices.Clone(node.Addresses)
	case len(n.Ranges) == 0:
		return &addresses{all: true}, nil
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
	return &addresses{list: slices.Compact(list)}, nil
}

// setRouteLocalnet lets packets, for "1", to and from 127.0.0.0/8 leave the loopback interface
// (ip-sysctl: route_localnet). KUBE-FIREWALL keeps those of others out.
func setRouteLocalnet(value string) error {
	const file = "/proc/sys/net/ipv4/conf/all/route_localnet"
	if now, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(now)) == value {
		return nil
	}
	return os.WriteFile(file, []byte(value), 0)
}

// conntrackLiberal reports whether the kernel lets TCP packets outside the window
// count as part of their connection (nf_conntrack-sysctl).
func conntrackLiberal() bool {
	value, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal")
	return err == nil && strings.TrimSpace(string(value)) == "1"
}
