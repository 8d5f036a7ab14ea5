// Package machine looks at the machine that it runs on, for package preflight: at /proc,
// and by netlink at routes, links and nf_tables. It changes nothing and needs root to see
// all of it. All is looked at in the network namespace of the calling thread.
package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/backends"
	"github.com/clusterip/clusterip/kernelnat/iptables"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/preflight"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Look returns what the machine is like, as far as that matters to a Corefile.
func Look(ctx context.Context, c preflight.Config) preflight.Machine {
	m := preflight.Machine{Sysctls: make(map[string]string), Unrouted: make(map[netip.Prefix]string), Unreached: make(map[netip.Addr]string)}
	unseen := func(err error) {
		if err != nil {
			m.Unseen = append(m.Unseen, err)
		}
	}
	m.Self, _ = os.Executable()
	if c.NAT != nil {
		unseen(network(&m, c.NAT))
	}
	unseen(sockets(&m, portsOf(c, m)))
	if c.NAT == nil {
		return m
	}
	if m.Lacks = lacks(); !slices.Contains(m.Lacks, "CAP_NET_ADMIN") {
		unseen(rules(ctx, &m, c.NAT))
	}
	unseen(proxies(&m))
	for _, name := range preflight.Sysctls {
		sysctl(&m, name)
	}
	for _, a := range m.Addresses {
		sysctl(&m, preflight.FilterOf(a.Interface))
	}
	m.ReadOnly = unix.Access(sysctlFile("net.ipv4.ip_forward"), unix.W_OK) != nil
	return m
}

// portsOf are the ports that sockets matter at.
func portsOf(c preflight.Config, m preflight.Machine) map[uint16]bool {
	ports := make(map[uint16]bool)
	for _, p := range c.Ports {
		ports[p.At.Port()] = true
	}
	own := make(map[netip.Addr]bool)
	for _, a := range m.Addresses {
		own[a.Addr()] = true
	}
	if c.NAT != nil {
		for _, e := range c.NAT.Endpoints {
			if own[e.At.Addr()] {
				ports[e.At.Port()] = true
			}
		}
	}
	return ports
}

// capabilities are those that NAT needs, by their number (capability.h).
var capabilities = []struct {
	name   string
	number uint
}{{"CAP_NET_ADMIN", unix.CAP_NET_ADMIN}, {"CAP_NET_RAW", unix.CAP_NET_RAW}}

// lacks returns the capabilities that this thread does not have. Both numbers are below 32.
func lacks() (all []string) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	err := unix.Capget(&header, &data[0])
	for _, c := range capabilities {
		if err != nil || data[0].Effective&(1<<c.number) == 0 {
			all = append(all, c.name)
		}
	}
	return all
}

// missing says why the kernel cannot choose by some of these policies.
func missing(b backends.Backend, policies []string) (all []error) {
	for _, name := range policies {
		if p, err := cluster.ParsePolicy(name); err == nil {
			all = append(all, b.Missing(p))
		}
	}
	return slices.DeleteFunc(all, func(err error) bool { return err == nil })
}

// patience is how long the tools of iptables may take, all together: one may hang.
const patience = 20 * time.Second

// rules looks at what others have written, and at whether the backend can be used.
func rules(ctx context.Context, m *preflight.Machine, n *preflight.NAT) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	b, err := backends.Find(n.Backend)
	if err != nil {
		return err
	}
	if m.Backend = b.Probe(ctx); m.Backend == nil {
		m.Missing = missing(b, n.Policies)
	}
	found, _ := iptables.Presence(ctx) // the error matters to the backend alone
	m.IPTables = preflight.IPTables{Uses: found.Uses, Foreign: found.Foreign}
	for variant, own := range found.Own {
		if own {
			m.IPTables.Own = append(m.IPTables.Own, variant)
		}
	}
	slices.Sort(m.IPTables.Own)
	var errs []error
	for family, of := range map[cluster.Family]string{cluster.IPv4: "ip ", cluster.IPv6: "ip6 "} {
		there, err := netfilter.HasProxyTable(family)
		if errs = append(errs, err); there {
			m.ProxyTables = append(m.ProxyTables, of+netfilter.ProxyTable)
		}
	}
	slices.Sort(m.ProxyTables)
	for _, family := range cluster.Families {
		drops, err := netfilter.FindDrops(family)
		m.ForwardDrops, errs = append(m.ForwardDrops, drops.Forward...), append(errs, err)
		if entry := b.Entry(family); entry.IsValid() {
			m.Entries, m.InputDrops = append(m.Entries, entry), append(m.InputDrops, drops.Input...)
		}
	}
	for _, drops := range []*[]string{&m.ForwardDrops, &m.InputDrops} {
		slices.Sort(*drops)
		*drops = slices.Compact(*drops) // tables of inet are of both
	}
	return errors.Join(errs...)
}

// network looks at addresses and bridges, and at the way to ranges and endpoints.
func network(m *preflight.Machine, n *preflight.NAT) error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	uplinks := make(map[int]bool)
	for _, r := range routes {
		if r.Dst != nil && !isDefault(r.Dst) {
			continue
		}
		uplinks[r.LinkIndex] = true
		for _, hop := range r.MultiPath {
			uplinks[hop.LinkIndex] = true
		}
	}
	for _, l := range links {
		if l.Type() == "bridge" {
			m.Bridges = append(m.Bridges, l.Attrs().Name)
		}
		addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
		if err != nil {
			return fmt.Errorf("list the addresses of %s: %w", l.Attrs().Name, err)
		}
		for _, a := range addrs {
			ip, _ := netip.AddrFromSlice(a.IP)
			ones, _ := a.Mask.Size()
			m.Addresses = append(m.Addresses, preflight.Address{Prefix: netip.PrefixFrom(ip.Unmap(), ones), Interface: l.Attrs().Name, Uplink: uplinks[l.Attrs().Index]})
		}
	}
	slices.Sort(m.Bridges)
	return ways(m, n)
}

// ways asks the kernel for the way to ranges and endpoints.
func ways(m *preflight.Machine, n *preflight.NAT) error {
	var addrs []netip.Addr
	for _, cidr := range n.ServiceCIDRs {
		addrs = append(addrs, cidr.Addr().Next())
	}
	for _, e := range n.Endpoints {
		addrs = append(addrs, e.At.Addr())
	}
	unrouted, err := netfilter.Unrouted(addrs)
	if err != nil {
		return err
	}
	for _, cidr := range n.ServiceCIDRs {
		if why, is := unrouted[cidr.Addr().Next()]; is {
			m.Unrouted[cidr] = why
		}
	}
	for _, e := range n.Endpoints {
		if why, is := unrouted[e.At.Addr()]; is {
			m.Unreached[e.At.Addr()] = why
		}
	}
	return nil
}

func isDefault(to *net.IPNet) bool {
	ones, _ := to.Mask.Size()
	return ones == 0
}

func sysctl(m *preflight.Machine, name string) {
	if text, err := os.ReadFile(sysctlFile(name)); err == nil || !errors.Is(err, fs.ErrNotExist) {
		m.Sysctls[name] = strings.TrimSpace(string(text))
	}
}

// sysctlFile is where a sysctl is. Names of interfaces may have dots, which are "/" in names
// of sysctls (sysctl.d(5)); here they come between dots that are not.
func sysctlFile(name string) string {
	if rest, ok := strings.CutPrefix(name, "net.ipv4.conf."); ok {
		at := strings.LastIndexByte(rest, '.')
		return "/proc/sys/net/ipv4/conf/" + rest[:at] + "/" + rest[at+1:]
	}
	return "/proc/sys/" + strings.ReplaceAll(name, ".", "/")
}
