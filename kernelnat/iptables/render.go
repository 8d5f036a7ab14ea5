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

func (c *chain) add(rule string) { c.rules = append(c.rules, rule) }

// rendering is what one Service needs.
type rendering struct {
	chains []chain          // in nat
	shared [places][]string // rules in chains that others use too
}

// render is pure: equal plans give equal renderings.
func render(service plan.Service) rendering {
	var r rendering
	for i := range service.Ports {
		r.port(service, i)
	}
	r.once()
	return r
}

// renderPort is what one port of a Service needs.
func renderPort(service plan.Service, i int) rendering {
	var r rendering
	r.port(service, i)
	r.once()
	return r
}

func (r *rendering) port(service plan.Service, i int) {
	p := &portRendering{Port: &service.Ports[i], name: portName(service.Name, service.Ports[i].Name), out: r}
	p.render()
	if port := service.HealthCheckNodePort; port != 0 {
		// One for each of the Service's ports, as kube-proxy has it.
		r.add(filterNodePorts, fmt.Sprintf("-p tcp %s -m tcp --dport %d -j ACCEPT", comment(p.name+" health check node port"), port))
	}
}

func (r *rendering) add(p place, rule string) { r.shared[p] = append(r.shared[p], rule) }

// once leaves rules out that are there already: an address can be both external and
// a load balancer's.
func (r *rendering) once() {
	for p, rules := range r.shared {
		if len(rules) < 2 {
			continue
		}
		seen := make(map[string]bool, len(rules))
		r.shared[p] = slices.DeleteFunc(rules, func(rule string) bool {
			again := seen[rule]
			seen[rule] = true
			return again
		})
	}
}

// portRendering renders one port of a Service.
type portRendering struct {
	*plan.Port
	name string // as it is in comments and hashes
	out  *rendering
}

// chain returns the name of a chain of this port.
func (p *portRendering) chain(prefix string) string {
	return prefix + hash(p.name, p.Protocol.Lower())
}

// policy returns the chain that chooses an endpoint.
func (p *portRendering) policy(local bool) string {
	if local {
		return p.chain(prefixLocal)
	}
	return p.chain(prefixService)
}

func (p *portRendering) render() {
	if p.Verdict == plan.Forward {
		p.out.add(natServices, p.match(p.Frontend, "cluster IP", nobody)+" -j "+p.policy(p.Local))
	} else {
		p.out.add(filterServices, p.match(p.Frontend, reason(p.Verdict), nobody)+p.refusal(p.Verdict))
	}
	p.endpointChains()
	p.policyChain(false, p.Endpoints)
	p.policyChain(true, p.LocalEndpoints)
	if p.External.Any() {
		p.external()
	}
}

// policyChain chooses among endpoints. If packets to the ClusterIP come here, it
// has some masqueraded first.
func (p *portRendering) policyChain(local bool, endpoints []netip.AddrPort) {
	if len(endpoints) == 0 {
		return
	}
	c := chain{name: p.policy(local)}
	if local == p.Local {
		if m := p.Masquerade; m.All || m.Outside.Known() {
			c.add(p.match(p.Frontend, "cluster IP", m.Outside) + " -j " + chainMarkMasq)
		}
	}
	if p.AffinitySeconds > 0 {
		for _, e := range endpoints {
			c.add(fmt.Sprintf("%s -m recent --rcheck --seconds %d --reap %s -j %s",
				p.to(e), p.AffinitySeconds, p.recent(e), p.endpointChain(e)))
		}
	}
	for i, e := range endpoints {
		// Of those that pass the rules before, an equal share is taken.
		chance := ""
		if left := len(endpoints) - i; left > 1 {
			chance = fmt.Sprintf(" -m statistic --mode random --probability %.10f", 1/float64(left))
		}
		c.add(p.to(e) + chance + " -j " + p.endpointChain(e))
	}
	p.out.chains = append(p.out.chains, c)
}

func (p *portRendering) to(e netip.AddrPort) string { return comment(p.name + " -> " + e.String()) }

func (p *portRendering) endpointChain(e netip.AddrPort) string {
	return prefixEndpoint + hash(p.name, p.Protocol.Lower(), e.String())
}

// recent names the list of an endpoint's clients, by their whole address.
func (p *portRendering) recent(e netip.AddrPort) string {
	mask := "255.255.255.255"
	if e.Addr().Is6() {
		mask = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
	}
	return "--name " + p.endpointChain(e) + " --mask " + mask + " --rsource"
}

func (p *portRendering) endpointChains() {
	done := make(map[netip.AddrPort]bool)
	protocol := p.Protocol.Lower()
	for _, endpoints := range [][]netip.AddrPort{p.Endpoints, p.LocalEndpoints} {
		for _, e := range endpoints {
			if done[e] {
				continue
			}
			done[e] = true
			set := ""
			if p.AffinitySeconds > 0 {
				set = "-m recent --set " + p.recent(e) + " "
			}
			p.out.chains = append(p.out.chains, chain{name: p.endpointChain(e), rules: []string{
				// An endpoint that reaches itself must not see its own address
				// as the source: it would answer past the translation.
				"-s " + single(e.Addr()) + " " + comment(p.name) + " -j " + chainMarkMasq,
				"-p " + protocol + " " + comment(p.name) + " " + set + "-m " + protocol + " -j DNAT --to-destination " + e.String(),
			}})
		}
	}
}

var nobody plan.Clients

// match selects the packets to a frontend, but for those of some clients.
func (p *portRendering) match(frontend netip.AddrPort, text string, but plan.Clients) string {
	protocol, source, in := p.Protocol.Lower(), "", ""
	switch {
	case but.Range.IsValid():
		source = "! -s " + but.Range.String() + " "
	case but.Interface != "":
		in = " ! -i " + but.Interface
	}
	return fmt.Sprintf("%s-d %s%s -p %s %s -m %s --dport %d",
		source, single(frontend.Addr()), in, protocol, comment(p.name+" "+text), protocol, frontend.Port())
}

// reason says in a comment why packets are refused.
func reason(v plan.Verdict) string {
	if v == plan.Drop {
		return "has no local endpoints"
	}
	return "has no endpoints"
}

// refusal is the end of a rule for packets that are not forwarded. Its reject is
// the kernel's default for IPv4, as kube-proxy has it. Over IPv6 an ICMP error
// takes effect only when a TCP client tries again, after a second; a reset at once.
func (p *portRendering) refusal(v plan.Verdict) string {
	switch {
	case v == plan.Drop:
		return " -j DROP"
	case p.Frontend.Addr().Is4():
		return " -j REJECT --reject-with icmp-port-unreachable"
	case p.Protocol == cluster.TCP:
		return " -j REJECT --reject-with tcp-reset"
	}
	return " -j REJECT --reject-with icmp6-port-unreachable"
}

// comment needs no escapes: names are DNS labels.
func comment(text string) string { return `-m comment --comment "` + text + `"` }

func single(a netip.Addr) string { return netip.PrefixFrom(a, a.BitLen()).String() }
