// Package endurance shows what becomes of connections while the rules in the kernel change,
// are flushed by others, or have lost their process. The networks are of namespaces. How
// much is tried is small in go test; flags make it as large as the claims in docs/testing.md.
package endurance

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/vishvananda/netlink"
)

// place is what a network has in one IP family.
type place struct {
	clusterIP netip.Addr
	// The first addresses of clients in the cluster and outside, and of endpoints. They are
	// routed to hosts that do not have them, so that the hosts' own IP leaves packets alone.
	inside, outside, endpoints netip.Addr
	beside                     netip.Addr // the ClusterIP of the first of the other Services
	node                       netip.Addr // the node's address
	external                   netip.Addr // an address of the Service's
	routes                     map[netip.Prefix]netip.Addr
}

var places = map[cluster.Family]place{
	cluster.IPv4: {
		netip.MustParseAddr("10.43.0.7"), netip.MustParseAddr("10.44.0.1"), netip.MustParseAddr("10.45.0.1"), netip.MustParseAddr("10.46.0.1"),
		netip.MustParseAddr("10.43.1.1"), netlab.NodeIPv4.Addr(), netip.MustParseAddr("198.51.100.1"),
		map[netip.Prefix]netip.Addr{
			netip.MustParsePrefix("10.44.0.0/16"): netip.MustParseAddr("10.42.0.2"), netip.MustParsePrefix("10.46.0.0/16"): netip.MustParseAddr("10.42.3.1"),
		},
	},
	cluster.IPv6: {
		netip.MustParseAddr("fd00:10:43::7"), netip.MustParseAddr("fd00:10:44::1"), netip.MustParseAddr("fd00:10:45::1"), netip.MustParseAddr("fd00:10:46::1"),
		netip.MustParseAddr("fd00:10:43::1:1"), netlab.NodeIPv6.Addr(), netip.MustParseAddr("2001:db8:1::1"),
		map[netip.Prefix]netip.Addr{
			netip.MustParsePrefix("fd00:10:44::/64"): netip.MustParseAddr("fd00:10:42::2"), netip.MustParsePrefix("fd00:10:46::/64"): netip.MustParseAddr("fd00:10:42::3:1"),
		},
	},
}

// network is a node with clients and servers that are there for many addresses.
type network struct {
	testing.TB
	node            *netlab.Node
	client, servers *netlab.Host
}

func newNetwork(t testing.TB) *network {
	t.Helper()
	netlab.Require(t)
	node, err := netlab.NewNode()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Close(); err != nil {
			t.Errorf("close node: %v", err)
		}
	})
	n := &network{TB: t, node: node}
	n.client = n.pod("client", "10.42.0.2", "fd00:10:42::2")
	n.servers = n.pod("servers", "10.42.3.1", "fd00:10:42::3:1")
	for _, h := range []*netlab.Host{n.client, n.servers, node.Outside} {
		n.must(h.Do(func() error {
			return set(map[string]string{"ipv4/ip_forward": "0", "ipv6/conf/all/forwarding": "0"})
		}))
	}
	n.must(node.Do(func() error {
		// Each refusal is told to its client, however many there are.
		errs := []error{set(map[string]string{"ipv4/icmp_ratelimit": "0", "ipv4/icmp_ratemask": "0", "ipv6/icmp/ratelimit": "0", "ipv6/icmp/ratemask": "255"})}
		link, err := netlink.LinkByName(netlab.Bridge)
		if err != nil {
			return err
		}
		for _, p := range places {
			for to, through := range p.routes {
				errs = append(errs, netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: through.AsSlice(),
					Dst: &net.IPNet{IP: to.Addr().AsSlice(), Mask: net.CIDRMask(to.Bits(), to.Addr().BitLen())}}))
			}
		}
		return errors.Join(errs...)
	}))
	n.know(n.client, netlab.Bridge)
	n.know(n.servers, netlab.Bridge)
	n.know(node.Outside, netlab.Uplink)
	return n
}

// know has the node know a neighbour: of the packets that wait until one is found, some are
// dropped.
func (n *network) know(host *netlab.Host, link string) {
	n.Helper()
	var mac net.HardwareAddr
	n.must(host.Do(func() error {
		l, err := net.InterfaceByName(netlab.Uplink)
		if err == nil {
			mac = l.HardwareAddr
		}
		return err
	}))
	n.must(n.node.Do(func() error {
		l, err := netlink.LinkByName(link)
		if err != nil {
			return err
		}
		var errs []error
		for _, a := range host.Addrs {
			errs = append(errs, netlink.NeighSet(&netlink.Neigh{LinkIndex: l.Attrs().Index, State: netlink.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: mac}))
		}
		return errors.Join(errs...)
	}))
}

// set sets values below /proc/sys/net, which is that of the thread's namespace.
func set(values map[string]string) error {
	var errs []error
	for key, value := range values {
		errs = append(errs, os.WriteFile("/proc/sys/net/"+key, []byte(value), 0))
	}
	return errors.Join(errs...)
}

func (n *network) must(err error) {
	n.Helper()
	if err != nil {
		n.Fatal(err)
	}
}

func (n *network) pod(name string, addrs ...string) *netlab.Host {
	n.Helper()
	var all []netip.Addr
	for _, a := range addrs {
		all = append(all, netip.MustParseAddr(a))
	}
	pod, err := n.node.AddPod(name, all...)
	n.must(err)
	return pod
}

// mac is the address of a link of the node.
func (n *network) mac(link string) (mac net.HardwareAddr) {
	n.Helper()
	n.must(n.node.Do(func() error {
		l, err := net.InterfaceByName(link)
		if err == nil {
			mac = l.HardwareAddr
		}
		return err
	}))
	return mac
}

// serve has the servers answer as endpoints, and if there is a trap a host outside for
// whatever comes there, until the end that it returns is called.
func (n *network) serve(family cluster.Family, trap bool) (end func()) {
	n.Helper()
	var stop atomic.Bool
	var running sync.WaitGroup
	start := func(host *netlab.Host, who func(to []byte) byte) {
		w, err := openWire(host, family)
		n.must(err)
		running.Go(func() {
			defer w.close()
			if err := serve(w, family, who, stop.Load); err != nil {
				n.Errorf("%s: %v", host.Name, err)
			}
		})
	}
	base := places[family].endpoints.AsSlice()
	start(n.servers, func(to []byte) byte { return to[len(to)-1] - base[len(base)-1] })
	if trap {
		start(n.node.Outside, func([]byte) byte { return trapped })
	}
	return func() { stop.Store(true); running.Wait() }
}
