package iptables

import (
	"fmt"
	"slices"

	"github.com/clusterip/clusterip/kernelnat/plan"
)

// external renders the frontends for clients outside the cluster, which share their
// verdict. Without any endpoint they are refused and nothing is translated. With the
// policy Local and none on this node, packets are dropped, but for those that
// begin on this node, which the chain KUBE-EXT-… sends to other nodes' endpoints.
func (p *poolRendering) external(frontends []plan.Frontend) {
	if len(frontends) > 0 && frontends[0].Verdict != plan.Reject {
		p.externalChain(&frontends[0])
		p.firewall(frontends)
	}
	for i := range frontends {
		f := &frontends[i]
		chain := p.chain(prefixExternal)
		if len(f.Sources) > 0 {
			chain = p.chain(prefixFirewall)
		}
		switch f.Kind {
		case plan.NodePort:
			p.nodePort(f, chain)
		case plan.LoadBalancer:
			p.frontend(f, "loadbalancer IP", chain)
		default:
			p.frontend(f, "external IP", chain)
		}
	}
}

// frontend renders an address that clients outside connect to.
func (p *poolRendering) frontend(f *plan.Frontend, kind, chain string) {
	if f.Verdict != plan.Reject {
		p.out.add(natServices, f.Key, p.match(f.Key, kind, nobody)+" -j "+chain)
	}
	if f.Verdict != plan.Forward {
		p.out.add(filterExternal, f.Key, p.match(f.Key, reason(f.Verdict), nobody)+refusal(f))
	}
}

func (p *poolRendering) nodePort(f *plan.Frontend, chain string) {
	protocol, port := p.Protocol.Lower(), f.At.Port()
	packets := anywhere(port, p.Protocol)
	if f.Verdict != plan.Reject {
		p.out.add(natNodePorts, packets, fmt.Sprintf("-p %s %s -m %s --dport %d -j %s", protocol, comment(p.name), protocol, port, chain))
	}
	if f.Verdict != plan.Forward {
		p.out.add(filterExternal, packets, fmt.Sprintf("-p %s %s -m addrtype --dst-type LOCAL -m %s --dport %d%s",
			protocol, comment(p.name+" "+reason(f.Verdict)), protocol, port, refusal(f)))
	}
}

// externalChain renders KUBE-EXT-…: who is masqueraded, and who goes where.
func (p *poolRendering) externalChain(f *plan.Frontend) {
	c := chain{name: p.chain(prefixExternal)}
	say := func(format string) string { return comment(fmt.Sprintf(format, p.name)) }
	if f.Masquerade.All {
		// The endpoint may be on another node, which would answer past this one.
		c.add(say("masquerade traffic for %s external destinations") + " -j " + chainMarkMasq)
	} else {
		if pods := f.Inside; pods.Known() {
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
	if f.Verdict == plan.Forward {
		c.add("-j " + p.policy(f.Local))
	}
	p.out.chains = append(p.out.chains, c)
}

// firewall renders loadBalancerSourceRanges: KUBE-FW-… lets clients through to
// KUBE-EXT-…, and what it does not translate is dropped in filter.
func (p *poolRendering) firewall(frontends []plan.Frontend) {
	restricted := slices.DeleteFunc(slices.Clone(frontends), func(f plan.Frontend) bool { return len(f.Sources) == 0 })
	if len(restricted) == 0 {
		return
	}
	c := chain{name: p.chain(prefixFirewall)}
	allow := func(from string) {
		c.add("-s " + from + " " + comment(p.name+" loadbalancer IP") + " -j " + p.chain(prefixExternal))
	}
	for _, r := range restricted[0].Sources {
		allow(r.String())
	}
	for _, f := range restricted {
		if f.FromNode {
			allow(single(f.At.Addr()))
		}
		p.out.add(filterFirewall, f.Key, p.match(f.Key, "traffic not accepted by "+c.name, nobody)+" -j DROP")
	}
	c.add(comment("other traffic to " + p.name + " will be dropped by KUBE-PROXY-FIREWALL"))
	p.out.chains = append(p.out.chains, c)
}
