package iptables

import (
	"fmt"
	"slices"

	"github.com/clusterip/clusterip/cluster"
)

// jump is a rule of a built-in chain that leads to one of ours.
type jump struct {
	table, from, rule string
}

// is reports whether a rule is this jump. Versions of iptables differ in the order in
// which they print a rule's parts.
func (j jump) is(u use) bool {
	return u.from == j.from && slices.Equal(sortedWords(u.rule), sortedWords(j.rule))
}

// hasOwnComment reports whether a rule says, as every jump does, that it is kube-proxy's
// or ours.
func hasOwnComment(rule string) bool {
	of := commentOf(rule)
	return of != "" && (slices.Contains(modeComments, of) || slices.ContainsFunc(jumps, func(j jump) bool { return commentOf(j.rule) == of }))
}

// modeComments are what jumps say that kube-proxy has in its IPVS mode alone.
var modeComments = []string{"kubernetes health check rules", "kube-proxy firewall rules", "kubernetes ipvs access filter"}

const newConnections = "-m conntrack --ctstate NEW "

// jumps are inserted at the head of their chains in this order, so the last of a
// chain comes first in it.
var jumps = []jump{
	{tableNAT, "OUTPUT", comment("kubernetes service portals") + " -j " + chainServices},
	{tableNAT, "PREROUTING", comment("kubernetes service portals") + " -j " + chainServices},
	{tableNAT, "POSTROUTING", comment("kubernetes postrouting rules") + " -j " + chainPostrouting},
	{tableFilter, "INPUT", newConnections + comment("kubernetes externally-visible service portals") + " -j " + chainExternalServices},
	{tableFilter, "FORWARD", newConnections + comment("kubernetes externally-visible service portals") + " -j " + chainExternalServices},
	{tableFilter, "INPUT", comment("kubernetes health check service ports") + " -j " + chainNodePorts},
	{tableFilter, "FORWARD", newConnections + comment("kubernetes service portals") + " -j " + chainServices},
	{tableFilter, "OUTPUT", newConnections + comment("kubernetes service portals") + " -j " + chainServices},
	{tableFilter, "FORWARD", comment("kubernetes forwarding rules") + " -j " + chainForward},
	{tableFilter, "INPUT", newConnections + comment("kubernetes load balancer firewall") + " -j " + chainProxyFirewall},
	{tableFilter, "OUTPUT", newConnections + comment("kubernetes load balancer firewall") + " -j " + chainProxyFirewall},
	{tableFilter, "FORWARD", newConnections + comment("kubernetes load balancer firewall") + " -j " + chainProxyFirewall},
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
		{name: chainMarkMasq, rules: []string{"-j MARK --set-xmark " + mark + "/" + mark}},
		{name: chainPostrouting, rules: []string{
			"-m mark ! --mark " + mark + "/" + mark + " -j RETURN",
			// Taken off again, or a packet that passes twice (through a
			// tunnel) would be masqueraded twice.
			"-j MARK --set-xmark " + mark + "/0x0",
			masquerade,
		}},
	}
}

func forwardChain(d dialect) chain {
	mark := fmt.Sprintf("%#x", uint32(1)<<d.bit)
	c := chain{name: chainForward}
	if d.dropInvalid {
		// They are not translated back, so the client would see a stranger's
		// packets and reset the connection (kubernetes/kubernetes 74839).
		c.add("-m conntrack --ctstate INVALID -j DROP")
	}
	c.rules = append(c.rules,
		comment("kubernetes forwarding rules")+" -m mark --mark "+mark+"/"+mark+" -j ACCEPT",
		comment("kubernetes forwarding conntrack rule")+" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
	)
	return c
}

// nodePortRules are the last of KUBE-SERVICES in nat.
func nodePortRules(d dialect) []string {
	text := comment("kubernetes service nodeports; NOTE: this must be the last rule in this chain")
	if len(d.nodePorts) == 1 && d.nodePorts[0].IsUnspecified() {
		except := ""
		switch {
		case d.family == cluster.IPv6:
			// Replies to ::1 cannot be routed.
			except = "! -d ::1/128 "
		case !d.localhost:
			except = "! -d 127.0.0.0/8 "
		}
		return []string{except + text + " -m addrtype --dst-type LOCAL -j " + chainNodePorts}
	}
	var rules []string
	for _, addr := range d.nodePorts {
		if !addr.IsLoopback() || d.localhost {
			rules = append(rules, "-d "+single(addr)+" "+text+" -j "+chainNodePorts)
		}
	}
	return rules
}

const loopbackRule = `! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP`
