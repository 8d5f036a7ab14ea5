package ipvs

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"

	"github.com/cloudflare/ipvs"
	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// proxyLink is what kube-proxy in its IPVS mode has the addresses of Services on.
const proxyLink = "kube-ipvs0"

// LeaveProxy removes what kube-proxy in its IPVS mode has left in one family besides rules: virtual
// servers at addresses of kube-ipvs0, with those addresses, and at NodePorts of Services where this
// machine has the address. New connections are translated before they come there. Of those that are
// older all packets go by these servers: if they are to be waited for, servers that have any stay, for
// no new ones, and LeaveProxy returns how many there are. With the last one go the sets that
// kube-proxy's rules, which are gone, have looked into.
func LeaveProxy(family cluster.Family, services []plan.Service, wait bool) (connections int, err error) {
	if connections, err = leaveServers(family, services, wait); connections > 0 || err != nil {
		return connections, err
	}
	return 0, removeSets(family)
}

func leaveServers(family cluster.Family, services []plan.Service, wait bool) (connections int, err error) {
	link, err := netlink.LinkByName(proxyLink)
	if _, none := errors.AsType[netlink.LinkNotFoundError](err); none {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look for %s: %w", proxyLink, err)
	}
	p := &proxyServers{family: family, link: link, nodePorts: nodePortsOf(services), busy: make(map[netip.Addr]bool)}
	if p.addresses, err = netlink.AddrList(link, netlink.FAMILY_ALL); err != nil {
		return 0, fmt.Errorf("list the addresses of %s: %w", proxyLink, err)
	}
	if p.own, err = netlink.AddrList(nil, netlink.FAMILY_ALL); err != nil {
		return 0, fmt.Errorf("list the addresses of this machine: %w", err)
	}
	if connections, err = p.removeServers(new(client), wait); err != nil {
		return connections, fmt.Errorf("remove the virtual servers of kube-proxy: %w", err)
	}
	if err := p.removeAddresses(); err != nil {
		return connections, fmt.Errorf("remove addresses of %s: %w", proxyLink, err)
	}
	return connections, nil
}

// nodePortsOf returns those of Services, as keys of a frontend's place.
func nodePortsOf(services []plan.Service) map[plan.Key]bool {
	out := make(map[plan.Key]bool)
	for i := range services {
		for _, f := range services[i].Frontends {
			if f.Kind == plan.NodePort {
				out[f.Key] = true
			}
		}
	}
	return out
}

// proxyServers is what kube-proxy has left in one family.
type proxyServers struct {
	family    cluster.Family
	link      netlink.Link
	addresses []netlink.Addr // of both families
	own       []netlink.Addr // of the whole machine
	nodePorts map[plan.Key]bool
	busy      map[netip.Addr]bool // those of servers that stay
}

func (p *proxyServers) removeServers(c *client, wait bool) (connections int, err error) {
	var all []ipvs.ServiceExtended
	err = c.send(func(k ipvs.Client) (err error) { all, err = k.Services(); return err })
	if errors.Is(err, errNotLoaded) || errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for _, s := range all {
		if !p.has(s.Service) {
			continue
		}
		n, err := p.removeServer(c, s.Service, wait)
		if connections += n; err != nil {
			return connections, err
		}
		p.busy[s.Address] = p.busy[s.Address] || n > 0
	}
	return connections, nil
}

// has reports whether kube-proxy has made a virtual server.
func (p *proxyServers) has(s ipvs.Service) bool {
	if s.FWMark != 0 || cluster.FamilyOf(s.Address) != p.family {
		return false
	}
	at := func(a netlink.Addr) bool { return a.IP.Equal(s.Address.AsSlice()) }
	return slices.ContainsFunc(p.addresses, at) ||
		p.nodePorts[plan.NodePortKey(p.family, s.Port, cluster.Protocol(s.Protocol))] && slices.ContainsFunc(p.own, at)
}

func (p *proxyServers) removeServer(c *client, s ipvs.Service, wait bool) (connections int, err error) {
	all, err := c.destinations(s)
	if err != nil {
		return 0, err
	}
	for _, d := range all {
		connections += int(d.ActiveConnections + d.InactiveConnections)
	}
	if connections == 0 || !wait {
		return 0, c.send(func(k ipvs.Client) error { return k.RemoveService(s) })
	}
	for _, d := range all {
		if d.Weight == 0 {
			continue
		}
		d.Weight = 0
		if err := c.send(func(k ipvs.Client) error { return k.UpdateDestination(s, d.Destination) }); err != nil {
			return connections, err
		}
	}
	return connections, nil
}

// removeAddresses removes those that no server needs, and the link if none is left. The other family
// may do so at the same time: the one that looks last finds none.
func (p *proxyServers) removeAddresses() error {
	for _, a := range p.addresses {
		addr := addrOf(a)
		if cluster.FamilyOf(addr) != p.family || p.busy[addr] {
			continue
		}
		if err := netlink.AddrDel(p.link, &a); err != nil && !isGone(err) {
			return fmt.Errorf("%s: %w", addr, err)
		}
	}
	left, err := netlink.AddrList(p.link, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(left, func(a netlink.Addr) bool { return !addrOf(a).IsLinkLocalUnicast() }) {
		return nil
	}
	if err := netlink.LinkDel(p.link); err != nil && !isGone(err) {
		return err
	}
	return nil
}

func addrOf(a netlink.Addr) netip.Addr {
	addr, _ := netip.AddrFromSlice(a.IP)
	return addr.Unmap()
}

// isGone is true of the kernel's error if the link or its address is not there.
func isGone(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EADDRNOTAVAIL)
}
