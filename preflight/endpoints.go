package preflight

import (
	"fmt"
	"net/netip"
)

// maxTold of a kind are told; more help no one.
const maxTold = 100

// told bounds findings of one kind, and says how many more there are.
func told(all []Finding, what string) []Finding {
	more := len(all) - maxTold
	if more <= 0 {
		return all
	}
	return append(all[:maxTold:maxTold], Finding{Here, fmt.Sprintf("there are %d more %s", more, what), "mend those above, and look again", all[0].Fault})
}

// deaf says which endpoints are addresses of this machine where nobody listens. Pods in network
// namespaces of their own have addresses that are not this machine's.
func deaf(n *NAT, m Machine) []Finding {
	type socket struct {
		udp bool
		at  netip.AddrPort
	}
	own, listening := make(map[netip.Addr]string), make(map[socket]bool)
	for _, a := range m.Addresses {
		own[a.Addr()] = a.Interface
	}
	for _, s := range m.Sockets {
		listening[socket{s.UDP, s.At}] = true
	}
	var all []Finding
	for _, e := range n.Endpoints {
		link, is := own[e.At.Addr()]
		everywhere := []netip.Addr{e.At.Addr(), netip.IPv6Unspecified()}
		if e.At.Addr().Is4() {
			everywhere = append(everywhere, netip.IPv4Unspecified())
		}
		for _, addr := range everywhere {
			is = is && !listening[socket{e.UDP, netip.AddrPortFrom(addr, e.At.Port())}]
		}
		if !is {
			continue
		}
		network := "TCP"
		if e.UDP {
			network = "UDP"
		}
		all = append(all, Finding{e.Place(), fmt.Sprintf("its endpoint %s/%s is at this machine's own address (%s), and nobody listens there, so the connections that it gets are refused", e.At, network, link),
			fmt.Sprintf("start the process, have it listen at %s or at all addresses, or correct the port", e.At.Addr()), false})
	}
	return told(all, "endpoints at addresses of this machine where nobody listens")
}

// unreached says which endpoints have addresses that no route leads to, each address once.
func unreached(n *NAT, m Machine) []Finding {
	var all []Finding
	known := make(map[netip.Addr]bool)
	for _, e := range n.Endpoints {
		addr := e.At.Addr()
		why, is := m.Unreached[addr]
		if !is || known[addr] {
			continue
		}
		known[addr] = true
		all = append(all, Finding{e.Place(), fmt.Sprintf("this machine has no route to its endpoint %s (%s), so the connections that it gets fail", addr, why),
			fmt.Sprintf("correct the address, or add a route: ip route add %s via GATEWAY", addr), true})
	}
	return told(all, "addresses of endpoints that no route leads to")
}
