package iptables

import (
	"fmt"
	"iter"
	"net/netip"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// chain is a chain with its rules: what follows "-A NAME" in a line. Rules are
// spelled as iptables-save prints them, all but the probabilities, so that
// Sync can tell what the kernel has already.
type chain struct {
	name  string
	rules []string
	// needs are the matches in it that not every Service has.
	needs []string
}

func (c *chain) add(rule string) { c.rules = append(c.rules, rule) }

// rule is one in a chain that several Services have rules in.
type rule struct {
	// Key says what packets it is for. Its address is the zero Addr if it is for any,
	// as that of a NodePort.
	plan.Key
	text string
}

// rendering is what one Service needs.
type rendering struct {
	chains []chain        // in nat
	shared [places][]rule // rules in chains that others use too
}

// render is pure: equal plans give equal renderings.
func render(service plan.Service) rendering {
	var r rendering
	for i := range service.Pools {
		r.pool(service, i)
	}
	return r
}

// renderPool is what one port of a Service needs.
func renderPool(service plan.Service, i int) rendering {
	var r rendering
	r.pool(service, i)
	return r
}

// chainsOf yields the chains of a Service port by port: those of a large one are not all
// there at once.
func chainsOf(service plan.Service) iter.Seq[chain] {
	return func(yield func(chain) bool) {
		for i := range service.Pools {
			for _, c := range renderPool(service, i).chains {
				if !yield(c) {
					return
				}
			}
		}
	}
}

// addShared adds the rules of a Service in shared chains.
func addShared(rules *[places][]rule, service plan.Service) {
	for i := range service.Pools {
		for p, more := range renderPool(service, i).shared {
			rules[p] = append(rules[p], more...)
		}
	}
}

func (r *rendering) pool(service plan.Service, i int) {
	pool := &service.Pools[i]
	p := &poolRendering{Pool: pool, frontends: service.Of(i), name: portName(service.Name, pool.Port), out: r}
	if len(p.frontends) == 0 {
		return
	}
	p.render()
	if port := service.HealthCheckNodePort; port != 0 {
		// One for each of the Service's ports, as kube-proxy has it.
		r.add(filterNodePorts, anywhere(port, cluster.TCP), fmt.Sprintf("-p tcp %s -m tcp --dport %d -j ACCEPT", comment(p.name+" health check node port"), port))
	}
}

func (r *rendering) add(p place, packets plan.Key, text string) {
	r.shared[p] = append(r.shared[p], rule{packets, text})
}

// anywhere is the Key of packets to a port, whatever their address.
func anywhere(port uint16, protocol cluster.Protocol) plan.Key {
	return plan.Key{At: netip.AddrPortFrom(netip.Addr{}, port), Protocol: protocol}
}

// poolRendering renders one port of a Service.
type poolRendering struct {
	*plan.Pool
	frontends []plan.Frontend
	name      string // as it is in comments and hashes
	out       *rendering
}

// chain returns the name of a chain of this port.
func (p *poolRendering) chain(prefix string) string {
	return prefix + hash(p.name, p.Protocol.Lower())
}

// policy returns the chain that chooses an endpoint.
func (p *poolRendering) policy(local bool) string {
	if local {
		return p.chain(prefixLocal)
	}
	return p.chain(prefixService)
}

// clusterIP returns the frontend at the ClusterIP, or nil.
func (p *poolRendering) clusterIP() *plan.Frontend {
	if p.frontends[0].Kind == plan.ClusterIP {
		return &p.frontends[0]
	}
	return nil
}

func (p *poolRendering) render() {
	external := p.frontends
	if f := p.clusterIP(); f != nil {
		external = external[1:]
		if f.Verdict == plan.Forward {
			p.out.add(natServices, f.Key, p.match(f.Key, "cluster IP", nobody)+" -j "+p.policy(f.Local))
		} else {
			p.out.add(filterServices, f.Key, p.match(f.Key, reason(f.Verdict), nobody)+refusal(f))
		}
	}
	p.endpointChains()
	p.policyChain(false)
	p.policyChain(true)
	p.external(external)
}

// policyChain chooses among endpoints. If packets to the ClusterIP come here, it
// has some masqueraded first.
func (p *poolRendering) policyChain(local bool) {
	endpoints := p.For(local)
	if len(endpoints) == 0 {
		return
	}
	c := chain{name: p.policy(local)}
	if len(endpoints) > 1 {
		c.needs = append(c.needs, "statistic")
	}
	if f := p.clusterIP(); f != nil && f.Local == local {
		if m := f.Masquerade; m.All || m.Outside.Known() {
			c.add(p.match(f.Key, "cluster IP", m.Outside) + " -j " + chainMarkMasq)
		}
	}
	if p.AffinitySeconds > 0 {
		c.needs = append(c.needs, "recent")
		for _, e := range endpoints {
			c.add(fmt.Sprintf("%s -m recent --rcheck --seconds %d --reap %s -j %s",
				p.to(e), p.AffinitySeconds, p.recent(e), p.endpointChain(e)))
		}
	}
	for _, t := range p.turns(local) {
		c.add(p.to(t.to) + t.match + " -j " + p.endpointChain(t.to))
	}
	p.out.chains = append(p.out.chains, c)
}

func (p *poolRendering) to(e netip.AddrPort) string { return comment(p.name + " -> " + e.String()) }

func (p *poolRendering) endpointChain(e netip.AddrPort) string {
	return prefixEndpoint + hash(p.name, p.Protocol.Lower(), e.String())
}

// recent names the list of an endpoint's clients, by their whole address.
func (p *poolRendering) recent(e netip.AddrPort) string {
	mask := "255.255.255.255"
	if e.Addr().Is6() {
		mask = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
	}
	return "--name " + p.endpointChain(e) + " --mask " + mask + " --rsource"
}

// needsOf returns the match of a protocol that most Services do not have.
func needsOf(protocol cluster.Protocol) []string {
	if protocol == cluster.SCTP {
		return []string{"sctp"}
	}
	return nil
}

func (p *poolRendering) endpointChains() {
	done := make(map[netip.AddrPort]bool)
	protocol := p.Protocol.Lower()
	for _, endpoints := range [][]netip.AddrPort{p.Endpoints, p.Local} {
		for _, e := range endpoints {
			if done[e] {
				continue
			}
			done[e] = true
			set, needs := "", needsOf(p.Protocol)
			if p.AffinitySeconds > 0 {
				set, needs = "-m recent --set "+p.recent(e)+" ", append(needs, "recent")
			}
			p.out.chains = append(p.out.chains, chain{name: p.endpointChain(e), needs: needs, rules: []string{
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
func (p *poolRendering) match(frontend plan.Key, text string, but plan.Clients) string {
	protocol, source, in := p.Protocol.Lower(), "", ""
	switch {
	case but.Range.IsValid():
		source = "! -s " + but.Range.String() + " "
	case but.Interface != "":
		in = " ! -i " + but.Interface
	}
	return fmt.Sprintf("%s-d %s%s -p %s %s -m %s --dport %d",
		source, single(frontend.At.Addr()), in, protocol, comment(p.name+" "+text), protocol, frontend.At.Port())
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
func refusal(f *plan.Frontend) string {
	switch {
	case f.Verdict == plan.Drop:
		return " -j DROP"
	case f.At.Addr().Is4():
		return " -j REJECT --reject-with icmp-port-unreachable"
	case f.Protocol == cluster.TCP:
		return " -j REJECT --reject-with tcp-reset"
	}
	return " -j REJECT --reject-with icmp6-port-unreachable"
}

// comment needs no escapes: names are DNS labels.
func comment(text string) string { return `-m comment --comment "` + text + `"` }

func single(a netip.Addr) string { return netip.PrefixFrom(a, a.BitLen()).String() }
