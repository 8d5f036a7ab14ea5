// Package preflight says what on a machine keeps names or NAT from working there, before
// the server is started: ports that are taken, another writer of rules, sysctls, routes.
//
// It only computes: Judge goes from what a Corefile asks for and what a machine is like to
// findings. Package machine below looks at the machine, and changes nothing there. What can
// be known from the Corefile and the manifests alone is not looked at here.
package preflight

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// Config is what a Corefile asks for.
type Config struct {
	Ports []Port
	NAT   *NAT // nil if nothing is written to the kernel
}

// Port is one that the server opens.
type Port struct {
	Place string // in the Corefile, file:line
	What  string // listens there, such as "the plugin ready"
	UDP   bool   // or else TCP
	At    netip.AddrPort
	// Later says that the server starts without it, and tries again.
	Later bool
	Mend  string // besides ending what has it
}

// NAT is what is asked of the kernel.
type NAT struct {
	// Place returns where an option of kernelnat is, or the directive.
	Place   func(options ...string) string
	Backend string // iptables, nftables or ipvs
	// Policies are the names of those that endpoints are chosen by.
	Policies     []string
	ServiceCIDRs []netip.Prefix
	CIDRPlace    string // where they come from
	ClusterCIDRs []netip.Prefix
	Bridge       string // of the pods; "" if it is not known
	// NodePorts are the first and the last that there may be.
	NodePorts  [2]uint16
	AtLoopback bool // they are at 127.0.0.1 too
	// Endpoints are those of a folder's Services, as packets go to them.
	Endpoints []Endpoint
	// Tracked is how many connections the kernel is to track, which is set at the start;
	// 0 leaves the kernel's value.
	Tracked int
}

// Endpoint takes connections to a Service.
type Endpoint struct {
	Place func() string // in the folder, with the Service
	UDP   bool          // or else TCP
	At    netip.AddrPort
}

// Finding is one thing that is wrong, or may be.
type Finding struct {
	Place string // in the Corefile, or on the machine
	What  string
	Mend  string
	// Fault says that the server will not start, or that Services will not be reached. Anything
	// else may be as it should.
	Fault bool
}

// String returns place, what is wrong and the mend, on one line.
func (f Finding) String() string { return fmt.Sprintf("%s: %s: %s", f.Place, f.What, f.Mend) }

// Judge says what on a machine is in the way of a Corefile, faults first.
func Judge(c Config, m Machine) []Finding {
	all := append(addresses(c.Ports, m), ports(c.Ports, m)...)
	if c.NAT != nil {
		for _, judge := range []func(*NAT, Machine) []Finding{
			unseen, privileges, writers, backend, variants, routes, clients, deaf, unreached, localPorts, forwarding, entries, loopback, paths, bridges, connections,
		} {
			all = append(all, judge(c.NAT, m)...)
		}
	}
	slices.SortStableFunc(all, func(a, b Finding) int { return cmp.Compare(rank(a), rank(b)) })
	return all
}

func rank(f Finding) int {
	if f.Fault {
		return 0
	}
	return 1
}
