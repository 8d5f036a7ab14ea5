// Package conntrack has the kernel forget UDP and SCTP flows that point at
// endpoints which no longer serve.
//
// The kernel translates a flow as it did its first packet for as long as packets
// keep coming. A TCP client notices when its endpoint goes and connects anew, from
// another port, so TCP flows are never touched. A UDP client goes on sending into the
// void; one that sent before the Service had endpoints keeps going past the NAT; and SCTP
// clients mostly keep their port too. Such flows are deleted, so that their next packet
// is translated afresh. UDP flows to an endpoint that terminates go when they are idle: a
// client may come again from the same port when the endpoint is gone.
//
// It needs CAP_NET_ADMIN and the nf_conntrack netlink interface.
package conntrack

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/hostaddrs"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Stale collects the UDP and SCTP frontends of one IP family whose flows are to be looked
// at, each with the endpoints, sorted, that flows may go on using. More may be noted while a
// look is under way: it judges flows by what is known at its end. The zero value is empty.
type Stale struct {
	mu sync.Mutex
	noted
	looking noted // what a look is under way for
}

// noted is what is to be looked at.
type noted struct {
	serving map[plan.Key][]netip.AddrPort
	unknown []plan.Range // any other frontend in these ranges that is nobody's has no endpoint
}

// Changed adds the frontends that lose an endpoint, get their first one or go,
// when the old plans give way to the new.
func (s *Stale) Changed(changes []plan.Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
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
			_, looking := s.looking.serving[frontend]
			first := len(before[frontend]) == 0 && len(serving) > 0
			if pending || looking || first || lost(before[frontend], serving) {
				s.add(frontend, serving)
			}
		}
	}
}

// All adds every frontend of all Services. Of ranges of ClusterIPs, if any are given, it
// adds what is nobody's, which may be of Services that are gone. It is for the start, when
// nobody knows what changed since the flows began.
func (s *Stale) All(services []plan.Service, ranges []plan.Range) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, service := range services {
		for frontend, serving := range frontends(service) {
			s.add(frontend, serving)
		}
	}
	if len(ranges) > 0 {
		s.unknown = ranges
	}
}

// Empty reports whether there is nothing to look at but what a look is under way for.
func (s *Stale) Empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.serving)+len(s.unknown) == 0
}

// Begin notes that a look begins, for what is noted by now. What is to be kept is to be looked
// at once more after it.
func (s *Stale) Begin(keep bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !keep {
		s.looking, s.noted = s.noted, noted{}
	}
}

// End notes that the look is over. After an error all stays noted.
func (s *Stale) End(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.looking
	if s.looking = (noted{}); err == nil {
		return
	}
	for frontend, serving := range was.serving {
		if _, newer := s.serving[frontend]; !newer {
			s.add(frontend, serving)
		}
	}
	if len(s.unknown) == 0 {
		s.unknown = was.unknown
	}
}

// matches reports whether a flow is stale.
func (s *Stale) matches(own map[netip.Addr]bool, protocol cluster.Protocol, to, replier netip.AddrPort) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	serving, ok := at(s.serving, own, protocol, to)
	if !ok {
		serving, ok = at(s.looking.serving, own, protocol, to)
	}
	if ok {
		return !plan.Contains(serving, replier)
	}
	nobodys := func(r plan.Range) bool { return r.Nobodys(to.Addr()) }
	return slices.ContainsFunc(s.unknown, nobodys) || slices.ContainsFunc(s.looking.unknown, nobodys)
}

func (s *Stale) add(f plan.Key, serving []netip.AddrPort) {
	if s.serving == nil {
		s.serving = make(map[plan.Key][]netip.AddrPort)
	}
	s.serving[f] = serving
}

// frontends returns the UDP and SCTP frontends of a plan with all endpoints that
// may serve existing flows, sorted.
func frontends(service plan.Service) map[plan.Key][]netip.AddrPort {
	var out map[plan.Key][]netip.AddrPort
	serving, of := []netip.AddrPort(nil), -1
	for _, f := range service.Frontends {
		if f.Protocol == cluster.TCP {
			continue
		}
		if f.Pool != of {
			serving, of = service.Pools[f.Pool].Serving(), f.Pool
		}
		if out == nil {
			out = make(map[plan.Key][]netip.AddrPort)
		}
		out[f.Key] = serving
	}
	return out
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

// Flows are those that the kernel tracks in one IP family.
type Flows struct {
	Family cluster.Family
	// kernel has a socket that lasts: before the kernel closes one of netfilter, it waits for
	// what nf_tables has yet to free, which takes some 15 ms after each transaction.
	kernel *netlink.Handle
}

// patience is how long the kernel may take to answer.
const patience = time.Minute

func (f *Flows) open() (err error) {
	if f.kernel != nil {
		return nil
	}
	if f.kernel, err = netlink.NewHandle(unix.NETLINK_NETFILTER); err != nil {
		f.kernel = nil
		return fmt.Errorf("open a netlink socket: %w", err)
	}
	return f.kernel.SetSocketTimeout(patience)
}

// Close lets go of what is open.
func (f *Flows) Close() {
	if f.kernel != nil {
		f.kernel.Close()
		f.kernel = nil
	}
}

// Forget returns a function that removes the stale flows from the kernel, says how many there
// were, and has those to draining endpoints expire. It reads the flow table once, and may run in
// another goroutine while more is noted; until it has returned there is no other Forget and no
// Close. After an error some flows may be left.
func (f *Flows) Forget(stale *Stale, draining *Draining) (look func() (deleted uint, err error), err error) {
	if err := f.open(); err != nil {
		return nil, err
	}
	own, err := ownAddresses()
	if err != nil {
		return nil, err
	}
	next, _ := draining.Next()
	return func() (deleted uint, err error) {
		of := filter{stale, own, draining, nil}
		if deleted, err = f.forget(&of); err != nil {
			f.Close() // there may be answers left
		} else {
			draining.looked(next, len(of.waning) > 0)
		}
		return deleted, err
	}, nil
}

func (f *Flows) forget(of *filter) (deleted uint, err error) {
	inet := netlink.InetFamily(unix.AF_INET)
	if f.Family == cluster.IPv6 {
		inet = unix.AF_INET6
	}
	deleted, err = f.kernel.ConntrackDeleteFilters(netlink.ConntrackTable, inet, of)
	if err != nil {
		return deleted, fmt.Errorf("delete stale %s conntrack entries: %w", f.Family, err)
	}
	if err := expire(f.kernel, of.waning, inet); err != nil {
		return deleted, fmt.Errorf("shorten the timeout of %s conntrack entries: %w", f.Family, err)
	}
	return deleted, nil
}

// ownAddresses returns the addresses of this node, which NodePorts are at. A port
// alone would match flows that only pass through.
func ownAddresses() (map[netip.Addr]bool, error) {
	addresses, err := hostaddrs.List()
	if err != nil {
		return nil, fmt.Errorf("list this node's addresses: %w", err)
	}
	own := make(map[netip.Addr]bool, len(addresses))
	for _, a := range addresses {
		own[a.Addr()] = true
	}
	return own, nil
}

// filter implements netlink.CustomConntrackFilter.
type filter struct {
	stale    *Stale
	own      map[netip.Addr]bool
	draining *Draining
	waning   []*netlink.ConntrackFlow // those to draining endpoints that are not stale
}

// MatchConntrackFlow reports whether a flow is stale: it is for one of the
// frontends, and the address its replies come from is none that serves it.
func (f *filter) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	protocol := cluster.Protocol(flow.Forward.Protocol)
	if protocol != cluster.UDP && protocol != cluster.SCTP {
		return false
	}
	to := addrPort(flow.Forward.DstIP, flow.Forward.DstPort)
	replier := addrPort(flow.Reverse.SrcIP, flow.Reverse.SrcPort)
	if f.stale.matches(f.own, protocol, to, replier) {
		return true
	}
	leaves, abandoned := f.draining.matches(f.own, protocol, to, replier)
	if leaves && !abandoned {
		f.waning = append(f.waning, flow)
	}
	return abandoned
}

// at returns the endpoints of the frontend that an address belongs to.
func at(all map[plan.Key][]netip.AddrPort, own map[netip.Addr]bool, protocol cluster.Protocol, to netip.AddrPort) ([]netip.AddrPort, bool) {
	endpoints, ok := all[plan.Key{At: to, Protocol: protocol}]
	if !ok && own[to.Addr()] {
		endpoints, ok = all[plan.NodePortKey(cluster.FamilyOf(to.Addr()), to.Port(), protocol)]
	}
	return endpoints, ok
}

func addrPort(ip net.IP, port uint16) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(addr.Unmap(), port)
}
