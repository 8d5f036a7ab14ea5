package nattest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The addresses of every Node. Pods take theirs from the networks of GatewayIPv4
// and GatewayIPv6; what lies outside them is outside the cluster.
var (
	GatewayIPv4 = netip.MustParsePrefix("10.42.0.1/16")
	GatewayIPv6 = netip.MustParsePrefix("fd00:10:42::1/64")
	NodeIPv4    = netip.MustParsePrefix("192.0.2.1/24")
	NodeIPv6    = netip.MustParsePrefix("2001:db8::1/64")
	OutsideIPv4 = netip.MustParsePrefix("192.0.2.2/24")
	OutsideIPv6 = netip.MustParsePrefix("2001:db8::2/64")
)

// Names of the links in a Node.
const (
	Bridge = "cni0" // the pods' bridge, with the gateway addresses
	Uplink = "eth0" // the node's way to Outside, and its default route
)

// Node is a cluster node: it forwards between its pods, and between them and the
// host Outside, so all their packets pass its netfilter hooks. It filters and
// translates nothing by itself. AddPod and Close are not for concurrent use.
//
// Pods have no route to each other but through the node, so that a reply is
// translated back even where br_netfilter is not loaded.
type Node struct {
	*Host
	Outside *Host

	pods  []*Host
	links int // how many pod links were ever made, to name the next
}

// NewNode makes a node without pods. The caller closes it.
func NewNode() (*Node, error) {
	n := &Node{}
	if err := n.build(); err != nil {
		n.Close()
		return nil, fmt.Errorf("make node: %w", err)
	}
	return n, nil
}

func (n *Node) build() error {
	var err error
	n.Host, err = newHost("node", NodeIPv4.Addr(), NodeIPv6.Addr(), GatewayIPv4.Addr(), GatewayIPv6.Addr())
	if err != nil {
		return err
	}
	if n.Outside, err = newHost("outside", OutsideIPv4.Addr(), OutsideIPv6.Addr()); err != nil {
		return err
	}
	err = n.Do(func() error {
		return errors.Join(setForwarding(), addBridge(), addVeth(Uplink, n.Outside))
	})
	if err != nil {
		return err
	}
	if err := n.Outside.configure(Uplink, OutsideIPv4, OutsideIPv6); err != nil {
		return err
	}
	if err := n.configure(Uplink, NodeIPv4, NodeIPv6); err != nil {
		return err
	}
	// The node needs a default route too: a packet to a ClusterIP is routed
	// once before the output hook translates it.
	return errors.Join(
		n.Outside.defaultRoutes(Uplink, NodeIPv4.Addr(), NodeIPv6.Addr()),
		n.defaultRoutes(Uplink, OutsideIPv4.Addr(), OutsideIPv6.Addr()),
	)
}

// AddPod makes a pod with the addresses, at most one of each family, out of the
// gateways' networks. The pod can be closed on its own; Close of the node does
// it otherwise.
func (n *Node) AddPod(name string, addrs ...netip.Addr) (*Host, error) {
	if len(addrs) == 0 {
		return nil, fmt.Errorf("add pod %s: it needs an address", name)
	}
	pod, err := newHost(name, addrs...)
	if err != nil {
		return nil, fmt.Errorf("add pod %s: %w", name, err)
	}
	n.pods = append(n.pods, pod)
	if err := n.connect(pod); err != nil {
		return nil, errors.Join(fmt.Errorf("add pod %s: %w", name, err), pod.Close())
	}
	return pod, nil
}

func (n *Node) connect(pod *Host) error {
	n.links++
	link := fmt.Sprintf("veth%d", n.links)
	err := n.Do(func() error {
		if err := addVeth(link, pod); err != nil {
			return err
		}
		return attach(link)
	})
	if err != nil {
		return err
	}
	for _, a := range pod.Addrs {
		gateway := GatewayIPv4.Addr()
		if a.Is6() {
			gateway = GatewayIPv6.Addr()
		}
		if err := pod.configure(Uplink, netip.PrefixFrom(a, a.BitLen())); err != nil {
			return err
		}
		if err := pod.defaultRoutes(Uplink, gateway); err != nil {
			return err
		}
	}
	return nil
}

// Close ends the node, its pods and Outside.
func (n *Node) Close() error {
	var errs []error
	for _, h := range append(n.pods, n.Outside, n.Host) {
		if h != nil {
			errs = append(errs, h.Close())
		}
	}
	return errors.Join(errs...)
}

// The functions below act on the namespace of the calling thread.

// setForwarding makes a router of the namespace. Redirects are off: they would
// tell pods to talk past the node.
func setForwarding() error {
	return writeSysctls(map[string]string{
		"net/ipv4/ip_forward":                  "1",
		"net/ipv4/conf/all/send_redirects":     "0",
		"net/ipv4/conf/default/send_redirects": "0",
		"net/ipv6/conf/all/forwarding":         "1",
	})
}

func writeSysctls(values map[string]string) error {
	for key, value := range values {
		// /proc/sys/net shows the namespace of the thread that opens it.
		if err := os.WriteFile("/proc/sys/"+key, []byte(value), 0); err != nil {
			return fmt.Errorf("set sysctl: %w", err)
		}
	}
	return nil
}

func addBridge() error {
	snooping := false // needs a querier, and IPv6 neighbours are found by multicast
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: Bridge}, MulticastSnooping: &snooping}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("add bridge %s: %w", Bridge, err)
	}
	return errors.Join(addAddress(bridge, GatewayIPv4), addAddress(bridge, GatewayIPv6), netlink.LinkSetUp(bridge))
}

// addVeth makes a link whose other end is the link Uplink of the peer.
func addVeth(name string, peer *Host) error {
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: name},
		PeerName:      Uplink,
		PeerNamespace: netlink.NsFd(peer.handle),
		// Made from the address, so that the node's neighbour table stays
		// right when another pod gets the address of one that is gone.
		PeerHardwareAddr: hardwareAddr(peer.Addrs[0]),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("add link %s: %w", name, err)
	}
	return netlink.LinkSetUp(veth)
}

func hardwareAddr(a netip.Addr) net.HardwareAddr {
	ip := a.AsSlice()
	return append(net.HardwareAddr{0x0a, 0x58}, ip[len(ip)-4:]...)
}

// attach makes a link a port of the bridge. Hairpin mode lets a pod reach itself
// through its own Service where bridged frames are translated.
func attach(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	bridge, err := netlink.LinkByName(Bridge)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetMaster(link, bridge); err != nil {
		return fmt.Errorf("attach link %s to %s: %w", name, Bridge, err)
	}
	return netlink.LinkSetHairpin(link, true)
}

func addAddress(link netlink.Link, p netip.Prefix) error {
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
	if p.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD // else nothing can bind it for a moment
	}
	if err := netlink.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("add address %s to link %s: %w", p, link.Attrs().Name, err)
	}
	return nil
}

// addDefaultRoute adds a default route through a gateway that need not be in a
// network of the link.
func addDefaultRoute(link netlink.Link, gateway netip.Addr) error {
	bits := gateway.BitLen()
	route := &netlink.Route{
		LinkIndex: link.Attrs().Index,
		Dst:       &net.IPNet{IP: make(net.IP, bits/8), Mask: net.CIDRMask(0, bits)},
		Gw:        gateway.AsSlice(),
		Flags:     int(netlink.FLAG_ONLINK),
	}
	if err := netlink.RouteAdd(route); err != nil {
		return fmt.Errorf("add default route through %s: %w", gateway, err)
	}
	return nil
}
