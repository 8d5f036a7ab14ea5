package nftables

import (
	"fmt"
	"hash/fnv"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// class is how packets to a frontend are treated. There is a chain for each class that a
// frontend has, however many frontends have it.
type class struct {
	nodePort   bool            // the frontend is a NodePort
	masquerade plan.Masquerade // see plan.Treatment
	restricted bool            // only place.sources are let through
	// shortcut has clients inside the cluster, and those on this node, treated by the
	// class that the frontend has in place.inside.
	shortcut bool
	inside   plan.Clients
	far      bool   // the packets go to the slots for clients inside the cluster
	affinity uint32 // in seconds; 0: none
	local    bool   // with affinity: the endpoints are those on this node
	slots    int    // how many there are to choose from
	policy   cluster.Policy
	// turns is a number for the Service's port where the policy is RoundRobin: a rule has one
	// count of turns, and with those of others in between some slots would have none.
	turns uint32
	// loopback is how many slots packets to 127.0.0.0/8 have, which go to other ones; 0: the same.
	loopback int
}

// name is that of the class's chain. It says in words what the class is, and what differs
// from one cluster to the next by a hash.
func (c class) name() string {
	name := ""
	word := func(has bool, w string) {
		if has {
			name += w + "-"
		}
	}
	word(c.nodePort, "nodeport")
	word(c.restricted, "restricted")
	word(c.masquerade.All, "masquerade")
	word(c.masquerade.Outside.Known(), "cluster")
	word(c.shortcut, "external")
	word(c.far, "inside")
	if name == "" {
		name = "plain-"
	}
	if c.affinity > 0 {
		word(c.local, "local")
		name += fmt.Sprintf("sticky%d-", c.affinity)
	}
	if c.loopback > 0 {
		name += fmt.Sprintf("loopback%d-", c.loopback)
	}
	switch c.policy {
	case cluster.RoundRobin:
		name += fmt.Sprintf("turns%08x-", c.turns)
	case cluster.SourceHash:
		name += "hash-"
	}
	name += fmt.Sprint(c.slots)
	if c.masquerade.Outside.Known() || c.inside.Known() {
		h := fnv.New32a()
		fmt.Fprint(h, c.masquerade.Outside, c.inside)
		name += fmt.Sprintf("-%08x", h.Sum32())
	}
	return name
}

// plain reports whether all packets of the class go to one of the pool's endpoints.
func (c class) plain() bool {
	return !c.restricted && !c.shortcut && !c.masquerade.All && !c.masquerade.Outside.Known()
}

// classesOf are the maps that lead to a class.
func (s *schema) classesOf(c class) []*set {
	if c.plain() {
		return []*set{s.classes, s.shortcuts}
	}
	return []*set{s.classes}
}

// placeOf is where the frontends of a class are.
func (s *schema) placeOf(nodePort bool) *place {
	if nodePort {
		return &s.nodePorts
	}
	return &s.frontends
}

// classChain is how packets of a class go to one of the endpoints.
func (s *schema) classChain(d dialect, c class) chain {
	out := chain{name: c.name()}
	place, key := s.placeOf(c.nodePort), s.key(d.language, c.nodePort)
	if c.restricted {
		out.add(member(concat(key, d.saddr()), place.sources, false), goBack)
	}
	switch m := c.masquerade; {
	case m.All:
		out.add(setMark(d.bit))
	case m.Outside.Known():
		out.add(d.from(m.Outside, false), setMark(d.bit))
	}
	if c.shortcut {
		// The base chain follows the class. If this chain did, the kernel would look at
		// each class that can be followed once for each shortcut.
		if c.inside.Known() {
			out.add(d.from(c.inside, true), setPriority(key, place.inside), goBack)
		}
		// A packet of the node itself may have the frontend as its source.
		out.add(local(true, true), setMark(d.bit))
		out.add(local(true, true), setPriority(key, place.inside), goBack)
	}
	if c.slots > 0 {
		if c.affinity > 0 {
			s.sticky(&out, d, c)
		}
		s.pick(&out, d, c)
	}
	return out
}

// side is whose slots they are.
type side uint8

const (
	near     side = iota
	far           // for clients inside the cluster
	loopback      // for packets to 127.0.0.0/8
)

var sides = [...]side{near, far, loopback}

// first is the number of a side's first slot.
func (s side) first() uint32 { return slots + uint32(s)<<20 }

// side is whose slots the class goes to.
func (c class) side() side {
	if c.far {
		return far
	}
	return near
}

// pick chooses one of the slots and goes there.
func (s *schema) pick(out *chain, d dialect, c class) {
	if c.loopback > 0 {
		out.add(d.in(d.daddr(), loopbackOf(d.family), true), setRandom(c.loopback, loopback.first()), goTo(target{true, loopback}.name()))
	}
	chosen := setRandom(c.slots, c.side().first())
	switch c.policy {
	case cluster.RoundRobin:
		chosen = setNext(c.slots, c.side().first())
	case cluster.SourceHash:
		chosen = setHashed(d.saddr(), c.slots, c.side().first())
	}
	out.add(chosen, goTo(target{c.nodePort, c.side()}.name()))
}

// target is where packets go that have a slot as their priority. There is a chain for each:
// with each rule that looks at a map the kernel looks at all elements of that map, so those
// of classes, which come and go, look at none of the endpoints.
type target struct {
	nodePort bool
	side     side
}

func (t target) name() string {
	name := "to-"
	if t.nodePort {
		name += "nodeport-"
	}
	switch t.side {
	case far:
		name += "inside-"
	case loopback:
		name += "loopback-"
	}
	return name + "slot"
}

// sharedChains are those that the chains of classes lead to.
func (s *schema) sharedChains(d dialect) (all []chain) {
	for _, either := range []bool{false, true} {
		all = append(all, s.targetChain(d, target{either, near}), s.targetChain(d, target{either, far}),
			s.memberOfSlotChain(d, either), s.toMemberChain(d, either))
	}
	if d.virtual.IsValid() {
		all = append(all, s.targetChain(d, target{true, loopback}))
	}
	return all
}

// targetChain goes to the endpoint in a slot. The number of slots may have been that before a
// commit, and the endpoints be those after it: then the first slot is taken, which is always
// there. It is looked up last, so that it is found even if it is the one that is being replaced.
func (s *schema) targetChain(d dialect, t target) chain {
	out, to := chain{name: t.name()}, d.dnat(concat(s.key(d.language, t.nodePort), priority), s.placeOf(t.nodePort).endpoints)
	out.add(to)
	out.add(setPriorityTo(t.side.first()), to)
	return out
}

// sticky goes where the client has been before. A member rather than a slot is remembered:
// which member is in a slot changes. One is chosen for the client in any case, and remembered
// unless another one is. If that other one has gone it is forgotten, and the client is as a
// new one. If a commit has just changed what is looked at, packets go on.
func (s *schema) sticky(out *chain, d dialect, c class) {
	for range 2 {
		out.add(setRandom(c.slots, c.side().first()), jumpTo(memberOfSlot(c.nodePort)))
		out.add(isMember, remember(clientOfPool(d), priority, s.clients, c.affinity))
		out.add(jumpTo(toMember(c.local)))
	}
}

// clientOfPool is a client of the pool whose member is the packet's priority.
func clientOfPool(d dialect) operand { return concat(poolOfPriority, d.saddr()) }

func memberOfSlot(nodePort bool) string {
	if nodePort {
		return "member-of-nodeport-slot"
	}
	return "member-of-slot"
}

// memberOfSlotChain goes back with the member in a slot as the packet's priority, or with the slot.
func (s *schema) memberOfSlotChain(d dialect, nodePort bool) chain {
	out := chain{name: memberOfSlot(nodePort)}
	out.add(setPriority(concat(s.key(d.language, nodePort), priority), s.placeOf(nodePort).slots))
	return out
}

func toMember(local bool) string {
	if local {
		return "to-local-member"
	}
	return "to-member"
}

// toMemberChain goes to the member that is remembered for a client, or without any to the one
// that is the packet's priority. It comes back if that has gone, which is forgotten then: what
// is remembered is not replaced by a rule that remembers another one.
func (s *schema) toMemberChain(d dialect, local bool) chain {
	out := chain{name: toMember(local)}
	out.add(setPriority(clientOfPool(d), s.clients))
	out.add(d.dnat(concat(priority, l4proto), s.membersOf(local)))
	out.add(forget(clientOfPool(d), priority, s.clients))
	return out
}
