package iptables

import (
	"context"
	"fmt"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// noSuchService is in the comment of rules that refuse what is no frontend.
const noSuchService = "no such service"

// rangesJump is the last rule of KUBE-SERVICES in filter. It leads to a chain of its own,
// which can be written anew without the frontends.
var rangesJump = comment("the rest of the service ranges") + " -j " + chainRanges

// rangesChain refuses packets to the ranges of ClusterIPs that nobody has translated:
// they would leave the node, and come back, or end at somebody who was never meant. A
// local address in a range is somebody's deliberate doing (a DNS cache on the node),
// and what was translated has found its endpoint, wherever that is.
func rangesChain(family cluster.Family, ranges []plan.Range) chain {
	c := chain{name: chainRanges}
	rest := comment(noSuchService) + " -m addrtype ! --dst-type LOCAL -j REJECT --reject-with "
	for _, r := range ranges {
		if r.Open {
			continue
		}
		if len(c.rules) == 0 {
			c.add("-m conntrack --ctstate DNAT -j RETURN")
		}
		// Before the rules that refuse, also those of another range that has
		// this address in it.
		for _, e := range r.Exempt {
			c.add("-d " + e.String() + " -j RETURN")
		}
	}
	for _, r := range ranges {
		switch {
		case r.Open:
		case family == cluster.IPv4:
			c.add("-d " + r.CIDR.String() + " " + rest + "icmp-port-unreachable")
		default:
			c.add("-d " + r.CIDR.String() + " -p tcp " + rest + "tcp-reset") // as for Services; see refusal
			c.add("-d " + r.CIDR.String() + " " + rest + "icmp6-port-unreachable")
		}
	}
	return c
}

// Refuse implements kernelnat.Backend. It runs iptables-restore once, and before Sync
// iptables-save.
func (b *Backend) Refuse(ctx context.Context, ranges []plan.Range) error {
	var s script
	if b.arrangement != nil {
		s.transaction(tableFilter, []chain{rangesChain(b.Family, ranges)}, nil)
	} else {
		have, err := b.read(ctx)
		switch {
		case Absent(err): // as Sync finds it, which has nothing to write then
			return nil
		case err != nil:
			b.tools = nil
			return fmt.Errorf("look for %s rules that refuse what is no Service: %w", b.Family, err)
		case len(ranges) > 0:
			return fmt.Errorf("change %s rules: nothing could be written at the start", b.Family)
		}
		s.refuseNothing(have.table(tableFilter))
	}
	if s.buf.Len() == 0 {
		return nil
	}
	if err := b.send(ctx, s.buf.Bytes()); err != nil {
		return fmt.Errorf("change %s rules: %w", b.Family, err)
	}
	return nil
}

// refuseNothing removes the rules for ranges that another process has left, including
// those that earlier versions had in KUBE-SERVICES.
func (s *script) refuseNothing(have *tableState) {
	var rules []string
	for _, rule := range have.shared[chainServices] {
		if strings.Contains(rule, `"`+noSuchService+`"`) {
			rules = append(rules, rule)
		}
	}
	filled := have.chains[chainRanges] != digestOf(nil)
	if !filled && len(rules) == 0 {
		return
	}
	s.beginTable(tableFilter)
	if filled {
		s.declare(chainRanges)
	}
	for _, rule := range rules {
		s.deleteRule(chainServices, rule)
	}
	s.commit()
}
