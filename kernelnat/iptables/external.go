package iptables

import (
	"fmt"
	"net/netip"

	"github.com/clusterip/clusterip/kernelnat/plan"
)

// external renders what concerns the frontends for clients outside the cluster.
// Without any endpoint they are refused and nothing is translated. With the
// policy Local and none on this node, packets are dropped, but for those that
// begin on this node, which the chain KUBE-EXT-… sends to other nodes' endpoints.
func (p *portRendering) external() {
	e := &p.External
	if e.Verdict != plan.Reject {
		p.externalChain()
	}
	loadBalancers := p.chain(prefixExternal)
	if e.Verdict != plan.Reject && len(e.LoadBalancers) > 0 && len(e.SourceRanges) > 0 {
		loadBalancers = p.chain(prefixFirewall)
		p.firewall()
	}
	for _, ip := range e.IPs {
		p.frontend(ip, "external IP", p.chain(prefixExternal))
	}
	for _, ip := range e.LoadBalancers {
		p.frontend(ip, "loadbalancer IP", loadBalancers)
	}
	if e.NodePort != 0 {
		p.nodePort()
	}
}

// frontend renders an address that clients outside connect to.
func (p *portRendering) frontend(ip netip.Addr, kind, chain string) {
	to := netip.AddrPortFrom(ip, p.Frontend.Port())
	if v := p.External.Verdict; v != plan.Reject {
		p.out.add(natServices, p.match(to, kind, nobody)+" -j "+chain)
	}
	if v := p.External.Verdict; v != plan.Forward {
		p.out.add(filterExternal, p.match(to, reason(v), nobody)+p.refusal(v))
	}
}

func (p *portRendering) nodePort() {
	protocol, port := p.Protocol.Lower(), p.External.NodePort
	if v := p.External.Verdict; v != plan.Reject {
		p.out.add(natNodePorts, fmt.Sprintf("-p %s %s -m %s --dport %d -j %s",
			protocol, comment(p.name), protocol, port, p.chain(prefixExternal)))
	}
	if v := p.External.Verdict; v != plan.Forward {
		p.out.add(filterExternal, fmt.Sprintf("-p %s %s -m addrtype --dst-type LOCAL -m %s --dport %d%s",
			protocol, comment(p.name+" "+reason(v)), protocol, port, p.refusal(v)))
	}
}

// externalChain renders KUBE-EXT-…: who is masqueraded, and who goes where.
func (p *portRendering) externalChain() {
	c := chain{name: p.chain(prefixExternal)}
	say := func(format string) string {
		return comment(fmt.Sprintf(format, p.name))
	}
	if !p.External.Local {
		// The endpoint may be on another node, which would answer past this one.
		c.add(say("masquerade traffic for %s external destinations") + " -j " + chainMarkMasq)
	} else {
		if pods := p.External.Pods; pods.Known() {
			from := "-i " + pods.Interface
			if pods.Range.IsValid() {
				from = "-s " + pods.Range.String()
			}
			c.add(from + " " + say("pod traffic for %s external destinations") + " -j " + p.policy(false))
		}
		// A packet of the node itself may have the frontend as its source.
		c.add(say("masquerade LOCAL traffic for %s external destinations") + " -m addrtype --src-type LOCAL -j " + chainMarkMasq)
		c.add(say("route LOCAL traffic for %s external destinations") + " -m addrtype --src-type LOCAL -j " + p.policy(false))
	}
	if p.External.Verdict == plan.Forward {
		c.add("-j " + p.policy(p.External.Local))
	}
	p.out.chains = append(p.out.chains, c)
}

// firewall renders loadBalancerSourceRanges: KUBE-FW-… lets clients through to
// KUBE-EXT-…, and what it does not translate is dropped in filter.
func (p *portRendering) firewall() {
	c := chain{name: p.chain(prefixFirewall)}
	allow := func(from string) {
		c.add("-s " + from + " " + comment(p.name+" loadbalancer IP") + " -j " + p.chain(prefixExternal))
	}
	for _, r := range p.External.SourceRanges {
		allow(r.String())
	}
	for _, ip := range p.External.LoadBalancers {
		if p.External.FromNode {
			allow(single(ip))
		}
		p.out.add(filterFirewall, p.match(netip.AddrPortFrom(ip, p.Frontend.Port()), "traffic not accepted by "+c.name, nobody)+" -j DROP")
	}
	c.add(comment("other traffic to " + p.name + " will be dropped by KUBE-PROXY-FIREWALL"))
	p.out.chains = append(p.out.chains, c)
}
