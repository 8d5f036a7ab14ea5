// Package conntrack has the kernel forget UDP and SCTP flows that point at
// endpoints which no longer serve.
//
// The kernel translates a flow as it did its first packet for as long as packets
// keep coming. A TCP client notices when its endpoint goes and connects anew, from
// another port; a UDP client goes on sending into the void, one that sent before
// the Service had endpoints keeps going past the NAT, and SCTP clients mostly keep
// their port too. Such flows are deleted, so that their next packet is translated
// afresh. TCP flows are never touched.
//
// It needs CAP_NET_ADMIN and the nf_conntrack netlink interface.
package conntrack

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Stale collects the UDP and SCTP frontends of one IP family whose flows are to be looked
// at, each with the endpoints, sorted, that flows may go on using. The zero value is empty.
type Stale struct {
	serving map[frontend][]netip.AddrPort
	unknown []plan.Range // any other frontend in these ranges that is nobody's has no endpoint
}

// frontend is where clients send to. A NodePort is at the unspecified address,
// which stands for every address of this node.
type frontend struct {
	protocol cluster.Protocol
	at       netip.AddrPort
}

// Changed adds the frontends that lose an endpoint, get their first one or go,
// when the old plans give way to the new.
func (s *Stale) Changed(changes []plan.Change) {
	for _, change := range changes {
		after := frontends(change.New)
		for frontend := range frontends(change.Old) {
			if _, kept := after[frontend]; !kept {
				s.add(frontend, nil)
			}
		}
	}
	// Second, since a Service may take over a frontend that another gave up.
	for _, change := range changes {
		before := frontends(change.Old)
		for frontend, serving := range frontends(change.New) {
			_, pending := s.serving[frontend]
			first := len(before[frontend]) == 0 && len(serving) > 0
			if pending || first || lost(before[frontend], serving) {
				s.add(frontend, serving)
			}
		}
	}
}

// All adds every frontend of all Services there are, and whatever else is in the
// ranges of ClusterIPs, if any are given, and nobody's, since a Service may have gone.
// It is for the start, when nobody knows what changed since the flows began.
func (s *Stale) All(services []plan.Service, ranges []plan.Range) {
	for _, service := range services {
		for frontend, serving := range frontends(service) {
			s.add(frontend, serving)
		}
	}
	if len(ranges) > 0 {
		s.unknown = ranges
	}
}

// Empty reports whether there is nothing to look at.
func (s *Stale) Empty() bool { return len(s.serving)+len(s.unknown) == 0 }

func (s *Stale) add(f frontend, serving []netip.AddrPort) {
	if s.serving == nil {
		s.serving = make(map[frontend][]netip.AddrPort)
	}
	s.serving[f] = serving
}

// frontends returns the UDP and SCTP frontends of a plan with all endpoints that
// may serve existing flows, sorted.
func frontends(service plan.Service) map[frontend][]netip.AddrPort {
	out := make(map[frontend][]netip.AddrPort)
	for _, p := range service.Ports {
		if p.Protocol == cluster.TCP {
			continue
		}
		serving := slices.Concat(p.Endpoints, p.LocalEndpoints, p.Draining)
		slices.SortFunc(serving, netip.AddrPort.Compare)
		out[frontend{p.Protocol, p.Frontend}] = serving
		for _, ip := range slices.Concat(p.External.IPs, p.External.LoadBalancers) {
			out[frontend{p.Protocol, netip.AddrPortFrom(ip, p.Frontend.Port())}] = serving
		}
		if p.External.NodePort != 0 {
			out[frontend{p.Protocol, anyNode(p.Frontend.Addr(), p.External.NodePort)}] = serving
		}
	}
	return out
}

func anyNode(like netip.Addr, port uint16) netip.AddrPort {
	if like.Is4() {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), port)
	}
	return netip.AddrPortFrom(netip.IPv6Unspecified(), port)
}

func lost(before, after []netip.AddrPort) bool {
	kept := make(map[netip.AddrPort]bool, len(after))
	for _, endpoint := range after {
		kept[endpoint] = true
	}
	for _, endpoint := range before {
		if !kept[endpoint] {
			return true
		}
	}
	return false
}

// Delete removes the stale flows of the family from the kernel and returns how
// many there were. It reads the flow table once. After an error some flows may be
// left; Delete may be repeated.
func (s *Stale) Delete(family cluster.Family) (deleted uint, err error) {
	inet := netlink.InetFamily(unix.AF_INET)
	if family == cluster.IPv6 {
		inet = unix.AF_INET6
	}
	own, err := ownAddresses()
	if err != nil {
		return 0, err
	}
	deleted, err = netlink.ConntrackDeleteFilters(netlink.ConntrackTable, inet, filter{s, own})
	if err != nil {
		return deleted, fmt.Errorf("delete stale %s conntrack entries: %w", family, err)
	}
	return deleted, nil
}

// ownAddresses returns the addresses of this node, which NodePorts are at. A port
// alone would match flows that only pass through.
func ownAddresses() (map[netip.Addr]bool, error) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list this node's addresses: %w", err)
	}
	own := make(map[netip.Addr]bool, len(addresses))
	for _, a := range addresses {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			own[prefix.Addr().Unmap()] = true
		}
	}
	return own, nil
}

// filter implements netlink.CustomConntrackFilter.
type filter struct {
	*Stale
	own map[netip.Addr]bool
}

// MatchConntrackFlow reports whether a flow is stale: it is for one of the
// frontends, and the address its replies come from is none that serves it.
func (f filter) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	protocol := cluster.Protocol(flow.Forward.Protocol)
	if protocol != cluster.UDP && protocol != cluster.SCTP {
		return false
	}
	to := addrPort(flow.Forward.DstIP, flow.Forward.DstPort)
	serving, ok := f.serving[frontend{protocol, to}]
	if !ok && f.own[to.Addr()] {
		serving, ok = f.serving[frontend{protocol, anyNode(to.Addr(), to.Port())}]
	}
	if !ok {
		return slices.ContainsFunc(f.unknown, func(r plan.Range) bool { return r.Nobodys(to.Addr()) })
	}
	replier := addrPort(flow.Reverse.SrcIP, flow.Reverse.SrcPort)
	_, serves := slices.BinarySearchFunc(serving, replier, netip.AddrPort.Compare)
	return !serves
}

func addrPort(ip net.IP, port uint16) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(addr.Unmap(), port)
}
