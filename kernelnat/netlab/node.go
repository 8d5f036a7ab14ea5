package netlab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

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

// Those of the node that AddNode makes. Its pods' networks are part of the first
// node's, as node ranges are part of a cluster's.
var (
	SecondGatewayIPv4 = netip.MustParsePrefix("10.42.200.1/24")
	SecondGatewayIPv6 = netip.MustParsePrefix("fd00:10:42::c8:1/112")
	SecondNodeIPv4    = netip.MustParsePrefix("192.0.2.3/24")
	SecondNodeIPv6    = netip.MustParsePrefix("2001:db8::3/64")
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

	own   addresses
	pods  []*Host
	nodes []*Node // that AddNode made
}

// addresses are those of a node, in its own networks and in that of Outside.
type addresses struct {
	gateways, uplinks []netip.Prefix
}

func (a addresses) all() []netip.Addr {
	var out []netip.Addr
	for _, p := range slices.Concat(a.uplinks, a.gateways) {
		out = append(out, p.Addr())
	}
	return out
}

// NewNode makes a node without pods. The caller closes it.
func NewNode() (*Node, error) {
	n := &Node{own: addresses{[]netip.Prefix{GatewayIPv4, GatewayIPv6}, []netip.Prefix{NodeIPv4, NodeIPv6}}}
	err := n.buildOutside()
	if err == nil {
		err = n.build("node")
	}
	if err == nil {
		err = n.Outside.defaultRoutes(NodeIPv4.Addr(), NodeIPv6.Addr())
	}
	if err != nil {
		n.Close()
		return nil, fmt.Errorf("make node: %w", err)
	}
	return n, nil
}

// AddNode makes a second node in the network of Outside. The nodes route the
// packets of pods to each other. Close of the first ends it too.
func (n *Node) AddNode() (*Node, error) {
	second := &Node{Outside: n.Outside, own: addresses{
		[]netip.Prefix{SecondGatewayIPv4, SecondGatewayIPv6}, []netip.Prefix{SecondNodeIPv4, SecondNodeIPv6}}}
	n.nodes = append(n.nodes, second)
	err := second.build("node-2")
	for i, gateway := range second.own.gateways {
		if err == nil {
			err = errors.Join(n.route(gateway.Masked(), second.own.uplinks[i].Addr()), second.route(n.own.gateways[i].Masked(), n.own.uplinks[i].Addr()))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("add node: %w", err)
	}
	return second, nil
}

// buildOutside makes the host Outside, which is the switch of the nodes as well.
func (n *Node) buildOutside() error {
	var err error
	if n.Outside, err = newHost("outside", OutsideIPv4.Addr(), OutsideIPv6.Addr()); err != nil {
		return err
	}
	return n.Outside.Do(func() error { return addBridge(Uplink, OutsideIPv4, OutsideIPv6) })
}

func (n *Node) build(name string) error {
	var err error
	if n.Host, err = newHost(name, n.own.all()...); err != nil {
		return err
	}
	if err := n.Do(func() error { return errors.Join(setForwarding(), addBridge(Bridge, n.own.gateways...)) }); err != nil {
		return err
	}
	if err := n.Outside.Do(func() error { return addPort(Uplink, name, n.Host) }); err != nil {
		return err
	}
	if err := n.configure(n.own.uplinks...); err != nil {
		return err
	}
	// The node needs a default route too: a packet to a ClusterIP is routed
	// once before the output hook translates it.
	return n.defaultRoutes(OutsideIPv4.Addr(), OutsideIPv6.Addr())
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
	link := fmt.Sprintf("veth%d", len(n.pods)) // no pod ever leaves the list
	if err := n.Do(func() error { return addPort(Bridge, link, pod) }); err != nil {
		return err
	}
	for _, a := range pod.Addrs {
		gateway := n.own.gateways[0].Addr()
		if a.Is6() {
			gateway = n.own.gateways[1].Addr()
		}
		if err := pod.configure(netip.PrefixFrom(a, a.BitLen())); err != nil {
			return err
		}
		if err := pod.defaultRoutes(gateway); err != nil {
			return err
		}
	}
	return nil
}

// Close ends the node, its pods, Outside, and the nodes that were added.
func (n *Node) Close() error {
	var errs []error
	for _, second := range n.nodes {
		errs = append(errs, second.Close())
	}
	for _, h := range append(n.pods, n.Host, n.Outside) {
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

func addBridge(name string, addrs ...netip.Prefix) error {
	snooping := false // needs a querier, and IPv6 neighbours are found by multicast
	bridge := &netlink.Bridge{MulticastSnooping: &snooping, LinkAttrs: netlink.LinkAttrs{
		Name: name,
		// Otherwise it is that of some port, and changes when ports come.
		HardwareAddr: hardwareAddr(addrs[0].Addr()),
	}}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("add bridge %s: %w", name, err)
	}
	var errs []error
	for _, a := range addrs {
		errs = append(errs, addAddress(bridge, a))
	}
	return errors.Join(append(errs, netlink.LinkSetUp(bridge))...)
}

// addPort makes a link that is a port of a bridge, and whose other end is the link
// Uplink of the peer. Hairpin mode lets a pod reach itself through its own Service where
// bridged frames are translated.
func addPort(bridge, name string, peer *Host) error {
	to, err := netlink.LinkByName(bridge)
	if err != nil {
		return err
	}
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: name, MasterIndex: to.Attrs().Index},
		PeerName:      Uplink,
		PeerNamespace: netlink.NsFd(peer.handle),
		// Made from the address, so that the node's neighbour table stays
		// right when another pod gets the address of one that is gone.
		PeerHardwareAddr: hardwareAddr(peer.Addrs[0]),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("add link %s to %s: %w", name, bridge, err)
	}
	return errors.Join(netlink.LinkSetHairpin(veth, true), netlink.LinkSetUp(veth))
}

func hardwareAddr(a netip.Addr) net.HardwareAddr {
	ip := a.AsSlice()
	return append(net.HardwareAddr{0x0a, 0x58}, ip[len(ip)-4:]...)
}

func addAddress(link netlink.Link, p netip.Prefix) error {
	addr := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD // else nothing can bind it for a moment
	}
	if err := netlink.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("add address %s to link %s: %w", p, link.Attrs().Name, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
