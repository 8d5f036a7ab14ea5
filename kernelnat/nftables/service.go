package nftables

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// service is what the kernel holds for a Service.
type service struct {
	frontends []frontend
	pools     []*pool
}

// frontend is what the kernel holds for one. Of two classes, 0 is none.
type frontend struct {
	plan.Key
	service       cluster.ServiceName
	pool          *pool // nil: the kernel holds nothing
	class, inside uint32
	drops         bool
	near, far     []netip.AddrPort // its slots, and those for clients inside the cluster
	loopback      []netip.AddrPort // and those at 127.0.0.0/8, where virtual servers take no packets
	sources       []netip.Prefix   // disjoint
}

// maxComment is how long a comment may be for nft to read it. The longest names of a namespace
// and a Service are as long; then the port is left out.
const maxComment = 127

// comment says whose it is; see serviceOf.
func (f *frontend) comment() string {
	if f.pool == nil {
		return ""
	}
	service := f.service.String()
	if f.pool.port == "" || len(service)+len(":")+len(f.pool.port) > maxComment {
		return service
	}
	return service + ":" + f.pool.port
}

// serviceOf returns the Service that a comment names.
func serviceOf(comment string) cluster.ServiceName {
	namespace, rest, _ := strings.Cut(comment, "/")
	name, _, _ := strings.Cut(rest, ":")
	return cluster.ServiceName{Namespace: namespace, Name: name}
}

// pool is the slots of a port of a Service. It is never written to.
type pool struct {
	port           string
	protocol       cluster.Protocol
	cluster, local []netip.AddrPort
	virtual        *virtual // nil: neither of them is a virtual server
	// With client affinity: what the numbers of its members begin with, all endpoints, and
	// the number in the pool that a new one may have.
	number  uint32
	members map[netip.AddrPort]poolMember
	next    uint32
}

// virtual is what a pool has besides its virtual servers: the endpoints behind them and, where
// NodePorts are at 127.0.0.0/8, the slots there.
type virtual struct {
	behind         []netip.AddrPort
	cluster, local []netip.AddrPort
}

// poolMember is an endpoint of clients that are remembered.
type poolMember struct {
	number  uint32 // 0: too many have one
	cluster bool   // frontends for all endpoints lead to it
	local   bool   // and those for endpoints on this node
}

// isFor reports whether frontends for all endpoints, or for those on this node, lead to it.
func (m poolMember) isFor(local bool) bool {
	return m.number != 0 && (local && m.local || !local && m.cluster)
}

// numbered is a member.
type numbered struct {
	at     netip.AddrPort
	number uint32
}

// memberList returns the members in the order of their numbers, those that frontends for all
// endpoints, or for those on this node, lead to.
func (p *pool) memberList(local bool) []numbered {
	if p == nil {
		return nil
	}
	var out []numbered
	for at, m := range p.members {
		if m.isFor(local) {
			out = append(out, numbered{at, m.number})
		}
	}
	slices.SortFunc(out, func(a, b numbered) int { return cmp.Compare(a.number, b.number) })
	return out
}

// numbering gives out the numbers of one kind, none of them again before all others were.
type numbering struct {
	kind, most, next uint32
	used             map[uint32]bool
}

func newNumbering(kind, most uint32) *numbering {
	return &numbering{kind: kind, most: most, next: 1, used: make(map[uint32]bool)}
}

// take returns a number that is free, 0 if there is none.
func (n *numbering) take() uint32 {
	if len(n.used) >= int(n.most) {
		return 0
	}
	for n.used[n.kind|n.next] {
		n.advance()
	}
	taken := n.kind | n.next
	n.used[taken] = true
	n.advance()
	return taken
}

func (n *numbering) advance() {
	if n.next++; n.next > n.most {
		n.next = 1
	}
}

// claim takes a number that is known from elsewhere, and reports whether it is free.
func (n *numbering) claim(number uint32) bool {
	if number&^n.most != n.kind || number == n.kind || n.used[number] {
		return false
	}
	n.used[number] = true
	n.next = max(n.next, number&n.most)
	return true
}

func (n *numbering) release(number uint32) { delete(n.used, number) }

// state is what the kernel holds of all Services, and what is needed to change it. It is
// ahead of the kernel while that is written.
type state struct {
	schema   *schema
	chooser  Chooser      // nil: there is none
	virtual  netip.Prefix // its range
	services map[cluster.ServiceName]*service
	holders  map[plan.Key]cluster.ServiceName // of frontends
	hairpin  map[[16]byte]int32               // how many slots an address is in; without pointers

	classes                   map[class]*usedClass
	classIDs                  map[uint32]class
	classNumbers, poolNumbers *numbering
	fresh                     []uint32 // classes whose chains are not written yet
	idle                      int      // classes that no frontend has

	named map[string]uint32        // the classes in the kernel, by their chains; after a Sync those of unknown Services alone
	kept  map[*set]map[string]bool // elements for Services that the last Sync did not know
}

// usedClass is one that has a chain.
type usedClass struct {
	id        uint32
	frontends int // that have it
}

func newState(s *schema) *state {
	return &state{
		schema: s, services: make(map[cluster.ServiceName]*service), holders: make(map[plan.Key]cluster.ServiceName),
		hairpin: make(map[[16]byte]int32), classes: make(map[class]*usedClass), classIDs: make(map[uint32]class),
		classNumbers: newNumbering(classes, ofOneKind), poolNumbers: newNumbering(members>>memberBits, pools),
	}
}

// target returns what the kernel is to hold for a Service, which holds what is in old by
// now. Classes that nobody has had are in fresh then.
func (s *state) target(old *service, p *plan.Service) *service {
	next := &service{pools: make([]*pool, len(p.Pools)), frontends: make([]frontend, len(p.Frontends))}
	taken := make(map[*pool]bool)
	for i := range p.Pools {
		next.pools[i] = s.pool(p.Name, old.poolOf(p, i, taken), &p.Pools[i])
	}
	for i := range p.Frontends {
		f := &p.Frontends[i]
		next.frontends[i] = s.frontend(p.Name, f, next.pools[f.Pool], &p.Pools[f.Pool])
	}
	return next
}

// poolOf returns the pool of a port as it is, an empty one if there is none yet. Of thousands
// of ports most are where they were.
func (s *service) poolOf(p *plan.Service, at int, taken map[*pool]bool) *pool {
	of := &p.Pools[at]
	is := func(o *pool) bool { return o.port == of.Port && o.protocol == of.Protocol && !taken[o] }
	if s == nil {
		return new(pool)
	}
	if at >= len(s.pools) || !is(s.pools[at]) {
		at = slices.IndexFunc(s.pools, is)
	}
	if at < 0 {
		return new(pool)
	}
	taken[s.pools[at]] = true
	return s.pools[at]
}

func (s *state) pool(name cluster.ServiceName, old *pool, p *plan.Pool) *pool {
	next := &pool{port: p.Port, protocol: p.Protocol}
	if s.chooser == nil || !s.choose(name, next, old, p) {
		next.cluster, next.local = s.real(slotsOf(old.cluster, p, false)), s.real(slotsOf(old.local, p, true))
	}
	if p.AffinitySeconds == 0 {
		return next
	}
	if next.number = old.number; next.number == 0 {
		next.number = s.poolNumbers.take() << memberBits
	}
	if next.number != 0 {
		next.numberMembers(old)
	}
	return next
}

// real returns slots without endpoints that say they are where virtual servers are. These would be
// other Services', and be taken over for this one's when the next process finds them in its slots.
func (s *state) real(slots []netip.AddrPort) []netip.AddrPort {
	isVirtual := func(e netip.AddrPort) bool { return s.virtual.Contains(e.Addr()) }
	if s.chooser == nil || !slices.ContainsFunc(slots, isVirtual) {
		return slots
	}
	return slices.DeleteFunc(slices.Clone(slots), isVirtual)
}

// numberMembers gives the endpoints numbers: those that they had or, if they are new, others
// than those of any endpoint before, as long as there are such.
func (p *pool) numberMembers(old *pool) {
	if old.number != p.number {
		old = new(pool) // a pool on its way to one without client affinity, and back
	}
	numbers := newNumbering(p.number, ofOnePool)
	if old.next <= ofOnePool {
		numbers.next = max(1, old.next)
	}
	for _, m := range old.members {
		if m.number != 0 {
			numbers.used[m.number] = true
		}
	}
	p.members = make(map[netip.AddrPort]poolMember, len(p.cluster)+len(p.local))
	for i, e := range slices.Concat(p.cluster, p.local) {
		m, there := p.members[e]
		if m.number = cmp.Or(m.number, old.members[e].number); m.number == 0 && !there {
			m.number = numbers.take()
		}
		local := i >= len(p.cluster)
		m.cluster, m.local = m.cluster || !local, m.local || local
		p.members[e] = m
	}
	p.next = numbers.next
}

func (s *state) frontend(name cluster.ServiceName, f *plan.Frontend, p *pool, of *plan.Pool) frontend {
	out := slotted(name, f, p)
	if f.Verdict == plan.Reject {
		return out
	}
	c := class{
		nodePort: f.Kind == plan.NodePort, masquerade: f.Masquerade, restricted: len(f.Sources) > 0,
		slots: len(out.near), policy: policyOf(of),
	}
	if !hasShortcut(f) {
		c.loopback = len(out.loopback)
	}
	if p.number != 0 {
		c.affinity, c.local = of.AffinitySeconds, f.Local
	}
	if c.policy == cluster.RoundRobin {
		c.turns = turnsOf(name, p)
	}
	if hasShortcut(f) {
		c.shortcut, c.inside = true, f.Inside
		if n := len(out.far); n > 0 {
			out.inside = s.class(class{nodePort: c.nodePort, far: true, affinity: c.affinity, slots: n, policy: c.policy, turns: c.turns, loopback: len(out.loopback)})
		}
	}
	if c.slots > 0 || out.inside != 0 {
		out.class = s.class(c)
	}
	return out
}

// slotted returns a frontend with its slots, to which nothing leads.
func slotted(name cluster.ServiceName, f *plan.Frontend, p *pool) frontend {
	out := frontend{
		Key: f.Key, service: name, pool: p, near: p.cluster,
		drops: f.Verdict != plan.Reject && (f.Local || len(f.Sources) > 0), sources: disjoint(f),
	}
	if f.Local {
		out.near = p.local
	}
	if hasShortcut(f) {
		out.far = p.cluster
	}
	if f.Kind == plan.NodePort {
		out.loopback = p.direct(ofLoopback(f))
	}
	return out
}

// hasShortcut reports whether clients inside the cluster have slots of their own.
func hasShortcut(f *plan.Frontend) bool {
	return f.Verdict != plan.Reject && f.Kind != plan.ClusterIP && !f.Masquerade.All
}

// turnsOf numbers a port of a Service, on every node and in every process the same.
func turnsOf(name cluster.ServiceName, p *pool) uint32 {
	h := fnv.New32a()
	fmt.Fprint(h, name, p.port, p.protocol)
	return h.Sum32()
}

// disjoint returns the clients that a frontend is for, in prefixes of which none overlaps
// another: a set of ranges takes no others.
func disjoint(f *plan.Frontend) []netip.Prefix {
	if len(f.Sources) == 0 {
		return nil
	}
	var all, out []netip.Prefix
	for _, r := range f.Sources {
		all = append(all, r.Masked())
	}
	if f.FromNode {
		all = append(all, netip.PrefixFrom(f.At.Addr(), f.At.Addr().BitLen()))
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	for _, p := range all {
		if n := len(out); n == 0 || !out[n-1].Overlaps(p) { // the one before begins no later and is no smaller
			out = append(out, p)
		}
	}
	return out
}

// class returns the number of a class.
func (s *state) class(c class) uint32 {
	if c.slots == 0 {
		c.affinity, c.local, c.policy, c.turns, c.loopback = 0, false, cluster.Random, 0, 0
	}
	used := s.classes[c]
	if used == nil {
		number, there := s.named[c.name()]
		if !there {
			number = s.classNumbers.take()
		}
		used = &usedClass{id: number}
		s.classes[c], s.classIDs[number] = used, c
		s.fresh = append(s.fresh, number)
		s.idle++
	}
	return used.id
}

func (s *state) forgetClass(c class) {
	number := s.classes[c].id
	delete(s.classes, c)
	delete(s.classIDs, number)
	s.classNumbers.release(number)
	s.idle--
}

// classChains returns the chains of all classes after those that they lead to.
func (s *state) classChains(d dialect) (all []chain) {
	all = s.schema.sharedChains(d)
	for _, number := range slices.Sorted(maps.Keys(s.classIDs)) {
		all = append(all, s.schema.classChain(d, s.classIDs[number]))
	}
	return all
}
