package iptables

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// chain is a chain with its rules: what follows "-A NAME" in a line. Rules are
// spelled as iptables-save prints them, all but the probabilities, so that
// Sync can tell what the kernel has already.
type chain struct {
	name  string
	rules []string
}

// rendering is what one Service needs.
type rendering struct {
	chains   []chain  // in nat
	dispatch []string // rules of KUBE-SERVICES in nat
	filter   []string // rules of KUBE-SERVICES in filter
}

// render is pure: equal plans give equal renderings.
func render(service plan.Service) rendering {
	var r rendering
	for i := range service.Ports {
		p := &service.Ports[i]
		r.addPort(portName(service.Name, p.Name), p)
	}
	return r
}

func (r *rendering) addPort(name string, p *plan.Port) {
	switch p.Verdict {
	case plan.Forward:
		r.addForward(name, p)
	case plan.Reject:
		r.filter = append(r.filter, match(p, name+" has no endpoints")+" -j REJECT --reject-with "+rejectWith(p))
	case plan.Drop:
		r.filter = append(r.filter, match(p, name+" has no local endpoints")+" -j DROP")
	}
}

func (r *rendering) addForward(name string, p *plan.Port) {
	protocol := p.Protocol.Lower()
	service := chain{name: prefixService + hash(name, protocol)}
	if p.Local {
		service.name = prefixLocal + hash(name, protocol)
	}
	toClusterIP := match(p, name+" cluster IP")
	r.dispatch = append(r.dispatch, toClusterIP+" -j "+service.name)

	switch outside := p.Masquerade.Outside; {
	case p.Masquerade.All:
		service.rules = append(service.rules, toClusterIP+" -j "+chainMarkMasq)
	case outside.IsValid():
		service.rules = append(service.rules, "! -s "+outside.Masked().String()+" "+toClusterIP+" -j "+chainMarkMasq)
	}
	var endpoints []chain
	for i, e := range p.Endpoints {
		endpoint := prefixEndpoint + hash(name, protocol, e.String())
		// Of those that pass the rules before, an equal share is taken.
		chance := ""
		if left := len(p.Endpoints) - i; left > 1 {
			chance = fmt.Sprintf(" -m statistic --mode random --probability %.10f", 1/float64(left))
		}
		service.rules = append(service.rules, comment(name+" -> "+e.String())+chance+" -j "+endpoint)
		endpoints = append(endpoints, chain{name: endpoint, rules: []string{
			// An endpoint that reaches itself must not see its own address
			// as the source: it would answer past the translation.
			"-s " + single(e.Addr()) + " " + comment(name) + " -j " + chainMarkMasq,
			"-p " + protocol + " " + comment(name) + " -m " + protocol + " -j DNAT --to-destination " + e.String(),
		}})
	}
	// Endpoints first: a rule can only jump to a chain that exists.
	r.chains = append(append(r.chains, endpoints...), service)
}

// match selects the packets to a port's frontend.
func match(p *plan.Port, text string) string {
	protocol := p.Protocol.Lower()
	return fmt.Sprintf("-d %s -p %s %s -m %s --dport %d",
		single(p.Frontend.Addr()), protocol, comment(text), protocol, p.Frontend.Port())
}

// comment needs no escapes: names are DNS labels.
func comment(text string) string { return `-m comment --comment "` + text + `"` }

func single(a netip.Addr) string { return netip.PrefixFrom(a, a.BitLen()).String() }

// rejectWith is the kernel's default for IPv4, as kube-proxy has it. ICMPv6 errors
// are limited to one a second for each client: a TCP client that is told nothing
// tries again after a second, one that is reset knows at once.
func rejectWith(p *plan.Port) string {
	switch {
	case p.Frontend.Addr().Is4():
		return "icmp-port-unreachable"
	case p.Protocol == cluster.TCP:
		return "tcp-reset"
	}
	return "icmp6-port-unreachable"
}

// jump is a rule of a built-in chain that leads to one of ours.
type jump struct {
	table, from, rule string
}

// jumps are inserted at the head of their chains in this order, so the last of a
// chain comes first in it.
var jumps = []jump{
	{tableNAT, "OUTPUT", comment("kubernetes service portals") + " -j " + chainServices},
	{tableNAT, "PREROUTING", comment("kubernetes service portals") + " -j " + chainServices},
	{tableNAT, "POSTROUTING", comment("kubernetes postrouting rules") + " -j " + chainPostrouting},
	{tableFilter, "FORWARD", "-m conntrack --ctstate NEW " + comment("kubernetes service portals") + " -j " + chainServices},
	{tableFilter, "OUTPUT", "-m conntrack --ctstate NEW " + comment("kubernetes service portals") + " -j " + chainServices},
	{tableFilter, "FORWARD", comment("kubernetes forwarding rules") + " -j " + chainForward},
}

// masqueradeChains are what the chains of Services jump to, and what it leads to.
func masqueradeChains(bit uint8, randomFully bool) []chain {
	mark := fmt.Sprintf("%#x", uint32(1)<<bit)
	masquerade := comment("kubernetes service traffic requiring SNAT") + " -j MASQUERADE"
	if randomFully {
		// Without it two clients can be given one port: their packets race
		// for the conntrack entry, and one is dropped.
		masquerade += " --random-fully"
	}
	return []chain{
		{chainMarkMasq, []string{"-j MARK --set-xmark " + mark + "/" + mark}},
		{chainPostrouting, []string{
			"-m mark ! --mark " + mark + "/" + mark + " -j RETURN",
			// Taken off again, or a packet that passes twice (through a
			// tunnel) would be masqueraded twice.
			"-j MARK --set-xmark " + mark + "/0x0",
			masquerade,
		}},
	}
}

func forwardChain(bit uint8) chain {
	mark := fmt.Sprintf("%#x", uint32(1)<<bit)
	return chain{chainForward, []string{
		comment("kubernetes forwarding rules") + " -m mark --mark " + mark + "/" + mark + " -j ACCEPT",
		comment("kubernetes forwarding conntrack rule") + " -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
	}}
}

// dispatchChain is KUBE-SERVICES of nat.
func dispatchChain(rules []string, family cluster.Family) chain {
	nodePorts := comment("kubernetes service nodeports; NOTE: this must be the last rule in this chain") +
		" -m addrtype --dst-type LOCAL -j " + chainNodePorts
	if family == cluster.IPv6 {
		// Replies from ::1 cannot be routed.
		nodePorts = "! -d ::1/128 " + nodePorts
	}
	return chain{chainServices, append(slices.Clip(rules), nodePorts)}
}
