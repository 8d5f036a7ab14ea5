package preflight

import (
	"fmt"
	"net/netip"
)

// Here is the place of findings that no line of a Corefile is about.
const Here = "this machine"

// Machine is what a machine is like, as far as it could be looked at.
type Machine struct {
	// Unseen is what could not be looked at, and why.
	Unseen []error
	// Lacks are the capabilities for NAT that this process does not have.
	Lacks []string

	// Sockets listen, at the ports that were asked for and those of endpoints at addresses
	// of this machine.
	Sockets []Socket
	// Proxies are the kube-proxies that run in this network namespace.
	Proxies []Process
	// Running is the process that runs kernelnat here; nil if none does.
	Running *Process
	Self    string // the executable of this process
	// ProxyTables are those of nf_tables that kube-proxy has there, such as "ip kube-proxy".
	ProxyTables []string

	Backend  error   // why the backend cannot be used
	Missing  []error // why policies cannot be used
	IPTables IPTables

	Addresses []Address
	// Unrouted are the ranges of ClusterIPs that no route leads to, with what the kernel says.
	Unrouted map[netip.Prefix]string
	// ForwardDrops are the chains that drop what is forwarded, unless one of their rules accepts it.
	ForwardDrops []string
	// InputDrops are those that drop so what comes to this machine, if the first packets of connections do, at
	// addresses of Entries.
	InputDrops []string
	Entries    []netip.Prefix
	// Unreached are the addresses of endpoints that no route leads to.
	Unreached map[netip.Addr]string
	Bridges   []string

	// Sysctls are those that were looked at, by their names as sysctl(8) has them; those
	// that the kernel does not have are missing.
	Sysctls map[string]string
	// ReadOnly says that sysctls cannot be set by this process.
	ReadOnly bool
}

// Socket listens.
type Socket struct {
	UDP bool
	At  netip.AddrPort
	By  *Process // nil if it cannot be seen
}

// Process is one that runs. The zero value cannot be seen from here.
type Process struct {
	ID         int
	Name       string
	Executable string // "" if it cannot be seen
}

// String names it, for a sentence.
func (p *Process) String() string {
	if p == nil || p.ID == 0 {
		return "a process that cannot be seen from here"
	}
	return fmt.Sprintf("%s (process %d)", p.Name, p.ID)
}

// Address is one of the machine's own.
type Address struct {
	netip.Prefix
	Interface string
	Uplink    bool // a default route leads out of the interface
}

// IPTables are the variants of iptables.
type IPTables struct {
	Uses string // the variant that the backend takes here
	// Foreign is how many rules of others each variant has, and Own names the variants that
	// have chains of kube-proxy or of an earlier run.
	Foreign map[string]int
	Own     []string
}

// Sysctls are the names of those that Judge looks at, but for what is one for each interface.
var Sysctls = []string{
	ipForward, ipv6Forwarding, routeLocalnet, filterAll, localRange, localReserved,
	bridgeIPv4, bridgeIPv6, trackedMax, trackedNow,
}

const (
	ipForward      = "net.ipv4.ip_forward"
	ipv6Forwarding = "net.ipv6.conf.all.forwarding"
	routeLocalnet  = "net.ipv4.conf.all.route_localnet"
	filterAll      = "net.ipv4.conf.all.rp_filter"
	localRange     = "net.ipv4.ip_local_port_range"
	localReserved  = "net.ipv4.ip_local_reserved_ports"
	bridgeIPv4     = "net.bridge.bridge-nf-call-iptables"
	bridgeIPv6     = "net.bridge.bridge-nf-call-ip6tables"
	trackedMax     = "net.netfilter.nf_conntrack_max"
	trackedNow     = "net.netfilter.nf_conntrack_count"
)

// FilterOf is the sysctl rp_filter of an interface.
func FilterOf(link string) string { return "net.ipv4.conf." + link + ".rp_filter" }
