package nftables

import (
	"fmt"
	"net/netip"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/google/nftables"
)

// chain is a chain with its rules.
type chain struct {
	name  string
	hook  *hook // nil: other chains lead to it
	rules []rule
}

func (c *chain) add(statements ...statement) { c.rules = append(c.rules, statements) }

// hook is where a chain begins.
type hook struct {
	kind     string // its type
	at       nftables.ChainHook
	priority int32
}

// NAT comes where nft's dstnat and srcnat are. Packets are refused after that, and before
// the rules of firewalls, which begin at 0: there is one answer to a client, whatever they say.
const (
	priorityDNAT   = -100
	prioritySNAT   = 100
	priorityRefuse = -10
)

// Names of the chains that other chains lead to.
const (
	chainServices        = "services"
	chainNodePorts       = "nodeports"
	chainClasses         = "classes"
	chainRefuse          = "refuse"
	chainRefuseNodePorts = "refuse-nodeports"
	chainRefused         = "refused"
	chainRanges          = "ranges"
	chainLoopback        = "loopback"
	chainVirtual         = "input-virtual"
)

// dialect is what the rules depend on besides the plans.
type dialect struct {
	language
	bit         uint8        // of the mark of packets to be masqueraded
	dropInvalid bool         // packets of no known connection
	nodePorts   []netip.Addr // the addresses that NodePorts are at; the unspecified one is all
	localhost   bool         // NodePorts are at 127.0.0.1 too
	ranges      []plan.Range
	virtual     netip.Prefix // where virtual servers are; the zero value: nowhere
}

// fixedChains are those that no Service changes, but for the ranges. Nothing leads to the
// base chains, which come last.
func (s *schema) fixedChains(d dialect) []chain {
	chains := []chain{
		s.servicesChain(d), s.nodePortsChain(), s.classesChain(),
		d.refusedChain(), s.refuseNodePortsChain(), d.rangesChain(), s.refuseChain(d),
	}
	if d.localhost {
		chains = append(chains, loopbackChain())
	}
	return append(chains, s.baseChains(d)...)
}

// key is what packets to an address or to a NodePort have in common.
func (s *schema) key(l language, nodePort bool) operand {
	if nodePort {
		return concat(l4proto, dport)
	}
	return concat(l.daddr(), l4proto, dport)
}

// servicesChain finds the class of a packet's frontend. A class is looked up twice: while a
// commit replaces an element, kernels before 6.17 may show neither the old nor the new one
// to a packet, but they show the new one to whoever looks again (Linux b2f742c846ca).
func (s *schema) servicesChain(d dialect) chain {
	c := chain{name: chainServices}
	c.add(member(s.key(d.language, false), s.frontends.connections, true)) // counts
	for range 2 {
		c.add(setPriority(s.key(d.language, false), s.frontends.class), goTo(chainClasses))
	}
	d.atNodePorts(&c, chainNodePorts)
	return c
}

func loopbackOf(family cluster.Family) netip.Prefix {
	if family == cluster.IPv6 {
		return netip.MustParsePrefix("::1/128")
	}
	return netip.MustParsePrefix("127.0.0.0/8")
}

func (s *schema) nodePortsChain() chain {
	c := chain{name: chainNodePorts}
	c.add(member(s.key(language{}, true), s.nodePorts.connections, true)) // counts
	for range 2 {
		c.add(setPriority(s.key(language{}, true), s.nodePorts.class), goTo(chainClasses))
	}
	return c
}

func (s *schema) classesChain() chain {
	return chain{name: chainClasses, rules: []rule{{follow(priority, s.classes)}}}
}

// atNodePorts sends packets to the addresses that NodePorts are at to a chain. Replies to
// ::1 cannot be routed, and those to 127.0.0.1 only where the kernel is told to.
func (d *dialect) atNodePorts(c *chain, to string) {
	if len(d.nodePorts) == 1 && d.nodePorts[0].IsUnspecified() {
		r := rule{local(false, true), goTo(to)}
		if d.family == cluster.IPv6 || !d.localhost {
			r = append(rule{d.in(d.daddr(), loopbackOf(d.family), false)}, r...)
		}
		c.rules = append(c.rules, r)
		return
	}
	for _, addr := range d.nodePorts {
		if !addr.IsLoopback() || d.localhost {
			c.add(d.in(d.daddr(), netip.PrefixFrom(addr, addr.BitLen()), true), goTo(to))
		}
	}
}

// The numbers that a packet's priority is between lookups. They are told from priorities that
// somebody else gives packets by their first 3 bits.
const (
	numbers     = 0xc << 28
	numbersMask = 0xe << 28

	classes   = numbers         // of classes
	slots     = numbers | 1<<24 // of slots; see side
	ofOneKind = 1<<24 - 1       // how many classes there are at most

	members     = 0xd << 28 // of members: that of their pool, and one in the pool
	membersMask = 0xf << 28
	memberBits  = 13                     // of the one in the pool
	ofOnePool   = 1<<memberBits - 1      // how many members a pool has at most
	pools       = 1<<(28-memberBits) - 1 // how many pools there are at most
)

// refuseChain is for packets of new connections that are on their way after NAT. A packet
// to a frontend that has not been translated is refused or dropped: nobody serves it. That
// holds while a commit changes what leads there, too.
//
// A translated packet still has one of our numbers as its priority, which a queueing
// discipline could take for its own.
func (s *schema) refuseChain(d dialect) chain {
	c := chain{name: chainRefuse}
	key := s.key(d.language, false)
	c.add(isTranslated, masked(priority, numbersMask, numbers, "meta priority & e000:0 == c000:0"), noPriority)
	c.add(isTranslated, goBack)
	s.frontends.refuse(&c, key)
	if d.virtual.IsValid() { // who asks a virtual server itself
		c.add(d.in(d.daddr(), d.virtual, true), goTo(chainRefused))
	}
	d.atNodePorts(&c, chainRefuseNodePorts)
	c.add(goTo(chainRanges))
	return c
}

func (s *schema) refuseNodePortsChain() chain {
	c := chain{name: chainRefuseNodePorts}
	s.nodePorts.refuse(&c, s.key(language{}, true))
	return c
}

func (p *place) refuse(c *chain, key operand) {
	c.add(member(key, p.drops, true), drop)
	c.add(member(key, p.known, true), goTo(chainRefused))
}

// refusedChain refuses every packet with the kernel's default for IPv4, as kube-proxy has
// it. Over IPv6 an ICMP error takes effect only when a TCP client tries again, after a
// second; a reset at once.
func (d *dialect) refusedChain() chain {
	c := chain{name: chainRefused}
	if d.family == cluster.IPv6 {
		c.add(isTCP, reset)
	}
	c.add(d.unreachable())
	return c
}

// rangesChain refuses packets to the ranges of ClusterIPs that nobody has translated: they
// would leave the node, and come back, or end at somebody who was never meant. A local
// address in a range is somebody's deliberate doing (a DNS cache on the node).
func (d *dialect) rangesChain() chain {
	c := chain{name: chainRanges}
	var refused []rule
	for _, r := range d.ranges {
		if r.Open {
			continue
		}
		if len(refused) == 0 {
			c.add(local(false, true), goBack)
		}
		// Before the rules that refuse, also those of another range that has
		// this address in it.
		for _, e := range r.Exempt {
			c.add(d.in(d.daddr(), e, true), goBack)
		}
		refused = append(refused, rule{d.in(d.daddr(), r.CIDR, true), goTo(chainRefused)})
	}
	c.rules = append(c.rules, refused...)
	return c
}

// loopbackChain keeps others out where packets to 127.0.0.0/8 may come in over any
// interface, which NodePorts at 127.0.0.1 need (ip-sysctl: route_localnet).
func loopbackChain() chain {
	return chain{name: chainLoopback, rules: []rule{{isTranslated, goBack}, {isEstablished, goBack}, {drop}}}
}

func (s *schema) baseChains(d dialect) []chain {
	base := func(name, kind string, at *nftables.ChainHook, priority int32, rules ...rule) chain {
		return chain{name, &hook{kind, *at, priority}, rules}
	}
	input, forward := []rule{{isNew, jumpTo(chainRefuse)}}, []rule{{isNew, jumpTo(chainRefuse)}}
	if d.localhost {
		own := loopbackOf(cluster.IPv4)
		input = append(input, rule{d.in(d.saddr(), own, false), d.in(d.daddr(), own, true), jumpTo(chainLoopback)})
	}
	if d.dropInvalid {
		// They are not translated back, so the client would see a stranger's
		// packets and reset the connection (kubernetes/kubernetes 74839).
		forward = append(forward, rule{isInvalid, drop})
	}
	// What goes to the machine itself is refused when it comes in, by an answer; a sender whose
	// packet does not get out is told that it has no permission.
	output := rule{isNew, local(false, false), jumpTo(chainRefuse)}
	services, shortcuts := rule{jumpTo(chainServices)}, rule{follow(priority, s.shortcuts)}
	chains := []chain{
		base("input", "filter", nftables.ChainHookInput, priorityRefuse, input...),
		base("forward", "filter", nftables.ChainHookForward, priorityRefuse, forward...),
		base("output", "filter", nftables.ChainHookOutput, priorityRefuse, output),
		base("postrouting", "nat", nftables.ChainHookPostrouting, prioritySNAT, s.masqueradeRules(d)...),
		base("nat-output", "nat", nftables.ChainHookOutput, priorityDNAT, services, shortcuts),
		base("nat-prerouting", "nat", nftables.ChainHookPrerouting, priorityDNAT, services, shortcuts),
	}
	if d.virtual.IsValid() {
		chains = append(chains, chain{chainVirtual, &hookVirtual, []rule{{isNew, d.in(d.daddr(), d.virtual, true), goTo(chainRefused)}}})
	}
	return chains
}

// masqueradeRules gives marked packets the node's address as their source, and those of an
// endpoint that has reached itself: it must not see its own address as the source, or it
// would answer past the translation. Without random ports two clients can be given one port:
// their packets race for the conntrack entry, and one is dropped.
func (s *schema) masqueradeRules(d dialect) []rule {
	return []rule{
		{isTranslated, member(concat(d.saddr(), d.daddr()), s.hairpin, true), anyPorts},
		{unmarked(d.bit), goBack},
		// Taken off again, or a packet that passes twice (through a tunnel) would be
		// masqueraded twice.
		{flipMark(d.bit)},
		{anyPorts},
	}
}

// String is where the chain begins, as nft reads it.
func (h hook) String() string {
	at := map[nftables.ChainHook]string{
		*nftables.ChainHookPrerouting: "prerouting", *nftables.ChainHookInput: "input", *nftables.ChainHookForward: "forward",
		*nftables.ChainHookOutput: "output", *nftables.ChainHookPostrouting: "postrouting",
	}[h.at]
	return fmt.Sprintf("type %s hook %s priority %d; policy accept;", h.kind, at, h.priority)
}

func hookNumber(n uint32) nftables.ChainHook { return nftables.ChainHook(n) }
