package nftables

import (
	"cmp"
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

// frontend is what the kernel holds for one. A class of 0 is none.
type frontend struct {
	plan.Key
	service       cluster.ServiceName
	port          string // of the Service
	class, inside uint32
	pool          uint32
	drops         bool
}

// comment says whose it is; see serviceOf.
func (f *frontend) comment() string {
	if f.pool == 0 {
		return ""
	}
	return f.service.String() + ":" + f.port
}

// serviceOf returns the Service that a comment names.
func serviceOf(comment string) cluster.ServiceName {
	namespace, rest, _ := strings.Cut(comment, "/")
	name, _, _ := strings.Cut(rest, ":")
	return cluster.ServiceName{Namespace: namespace, Name: name}
}

// pool is what the kernel holds for one, under a number that stays with it. It is never
// written to.
type pool struct {
	id             uint32 // even; the local endpoints are those of id|1
	port           string
	protocol       cluster.Protocol
	cluster, local []netip.AddrPort          // slots
	members        map[netip.AddrPort]uint32 // with client affinity: the numbers of all endpoints
	sources        []netip.Prefix            // disjoint
	sticky         bool
}

// list is a number and its slots.
type list struct {
	id    uint32
	slots []netip.AddrPort
}

func (p *pool) lists() [2]list {
	if p == nil {
		return [2]list{}
	}
	return [2]list{{p.id, p.cluster}, {p.id | 1, p.local}}
}

// numbered is a member.
type numbered struct {
	at     netip.AddrPort
	number uint32
}

// memberList returns the members in the order of their numbers.
func (p *pool) memberList() []numbered {
	if p == nil {
		return nil
	}
	out := make([]numbered, 0, len(p.members))
	for at, number := range p.members {
		out = append(out, numbered{at, number})
	}
	slices.SortFunc(out, func(a, b numbered) int { return cmp.Compare(a.number, b.number) })
	return out
}

// numbering gives out numbers, none of them again before all others were.
type numbering struct {
	first, last, step uint32
	next              uint32
	used              map[uint32]bool
}

// The numbers of classes, pools and members differ, so that none is found in a map of others.
func newNumbering(kind, step uint32) *numbering {
	first := uint32(numbers) | kind<<24 | step
	return &numbering{first: first, last: uint32(numbers) | kind<<24 | 0xffffff&^(step-1), step: step, next: first, used: make(map[uint32]bool)}
}

func (n *numbering) take() uint32 {
	for n.used[n.next] {
		n.advance()
	}
	taken := n.next
	n.used[taken] = true
	n.advance()
	return taken
}

func (n *numbering) advance() {
	if n.next += n.step; n.next > n.last {
		n.next = n.first
	}
}

// claim takes a number that is known from elsewhere, and reports whether it is free.
func (n *numbering) claim(number uint32) bool {
	if number < n.first || number > n.last || (number-n.first)%n.step != 0 || n.used[number] {
		return false
	}
	n.used[number] = true
	if number >= n.next && number-n.next < (n.last-n.first)/2 {
		n.next = number
		n.advance()
	}
	return true
}

func (n *numbering) release(number uint32) { delete(n.used, number) }

// state is what the kernel holds of all Services, and what is needed to change it. It is
// ahead of the kernel while that is written.
type state struct {
	schema   *schema
	services map[cluster.ServiceName]*service
	holders  map[plan.Key]cluster.ServiceName // of frontends
	classes  map[class]*usedClass
	classIDs map[uint32]class

	poolIDs, memberIDs, classNumbers *numbering
	hairpin                          map[netip.Addr]int // how many slots an address is in

	searches map[search]bool          // those whose chains are written
	fresh    []uint32                 // classes whose chains are not written yet
	idle     int                      // classes that no frontend has
	named    map[string]uint32        // the classes in the kernel, by their chains; for Sync
	kept     map[*set]map[string]bool // elements for Services that the last Sync did not know
}

// usedClass is one that has a chain.
type usedClass struct {
	id        uint32
	frontends int // that have it
}

func newState(s *schema) *state {
	return &state{
		schema: s, services: make(map[cluster.ServiceName]*service), holders: make(map[plan.Key]cluster.ServiceName),
		classes: make(map[class]*usedClass), classIDs: make(map[uint32]class), hairpin: make(map[netip.Addr]int),
		searches:     make(map[search]bool),
		classNumbers: newNumbering(classKind, 1), poolIDs: newNumbering(poolKind, 2), memberIDs: newNumbering(memberKind, 1),
	}
}

// target returns what the kernel is to hold for a Service, which holds what is in old by
// now. The classes that it needs are in new.
func (s *state) target(old *service, p *plan.Service) *service {
	next := &service{pools: make([]*pool, len(p.Pools)), frontends: make([]frontend, len(p.Frontends))}
	taken := make(map[*pool]bool)
	for i := range p.Pools {
		was := old.poolOf(&p.Pools[i], taken)
		next.pools[i] = s.pool(was, &p.Pools[i], p.Of(i))
	}
	for i := range p.Frontends {
		next.frontends[i] = s.frontend(p.Name, &p.Frontends[i], next.pools[p.Frontends[i].Pool], &p.Pools[p.Frontends[i].Pool])
	}
	return next
}

// poolOf returns the pool of a port, nil if there is none yet.
func (s *service) poolOf(p *plan.Pool, taken map[*pool]bool) *pool {
	if s == nil {
		return nil
	}
	for _, o := range s.pools {
		if o.port == p.Port && o.protocol == p.Protocol && !taken[o] {
			taken[o] = true
			return o
		}
	}
	return nil
}

func (s *state) pool(old *pool, p *plan.Pool, frontends []plan.Frontend) *pool {
	next := &pool{port: p.Port, protocol: p.Protocol, sticky: p.AffinitySeconds > 0}
	if old == nil {
		old = &pool{id: s.poolIDs.take()}
	}
	next.id = old.id
	next.cluster, next.local = slotsOf(old.cluster, p, false), slotsOf(old.local, p, true)
	if next.sticky {
		next.members = s.membersOf(old, next)
	}
	for _, f := range frontends {
		if len(f.Sources) == 0 {
			continue
		}
		next.sources = append(next.sources, f.Sources...)
		if f.FromNode {
			next.sources = append(next.sources, netip.PrefixFrom(f.At.Addr(), f.At.Addr().BitLen()))
		}
	}
	next.sources = disjoint(next.sources)
	return next
}

// membersOf numbers the endpoints of a pool with client affinity.
func (s *state) membersOf(old, next *pool) map[netip.AddrPort]uint32 {
	members := make(map[netip.AddrPort]uint32, len(next.cluster)+len(next.local))
	for _, l := range next.lists() {
		for _, e := range l.slots {
			if _, done := members[e]; done {
				continue
			}
			if old.members[e] != 0 {
				members[e] = old.members[e]
			} else {
				members[e] = s.memberIDs.take()
			}
		}
	}
	return members
}

// disjoint returns prefixes that hold the same addresses, each once: a set of ranges takes
// none that overlap.
func disjoint(all []netip.Prefix) []netip.Prefix {
	for i := range all {
		all[i] = all[i].Masked()
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	var out []netip.Prefix
	for _, p := range all {
		if n := len(out); n == 0 || !out[n-1].Overlaps(p) { // the one before begins no later and is no smaller
			out = append(out, p)
		}
	}
	return out
}

func (s *state) frontend(name cluster.ServiceName, f *plan.Frontend, p *pool, of *plan.Pool) frontend {
	out := frontend{Key: f.Key, service: name, port: p.port, pool: p.id, drops: f.Verdict != plan.Reject && (f.Local || len(f.Sources) > 0)}
	if f.Verdict == plan.Reject {
		return out
	}
	c := class{
		nodePort: f.Kind == plan.NodePort, masquerade: f.Masquerade, restricted: len(f.Sources) > 0,
		local: f.Local, affinity: of.AffinitySeconds, slots: len(p.cluster), policy: policyOf(of),
	}
	if c.policy == cluster.RoundRobin {
		c.turns = p.id
	}
	if f.Local {
		c.slots = len(p.local)
	}
	if f.Kind != plan.ClusterIP && !f.Masquerade.All {
		c.shortcut, c.inside = true, f.Inside
		if n := len(p.cluster); n > 0 {
			out.inside = s.class(class{nodePort: c.nodePort, affinity: c.affinity, slots: n, policy: c.policy, turns: c.turns})
		}
	}
	if c.slots > 0 || out.inside != 0 {
		out.class = s.class(c)
	}
	return out
}

// class returns the number of a class.
func (s *state) class(c class) uint32 {
	if c.slots == 0 {
		c.affinity, c.local, c.policy, c.turns = 0, false, cluster.Random, 0
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

// classChains returns the chains of all classes and what they lead to, which is then taken
// for written.
func (s *state) classChains(d dialect) (all []chain) {
	for _, number := range slices.Sorted(maps.Keys(s.classIDs)) {
		c := s.classIDs[number]
		if f := c.search(); c.affinity > 0 && !s.searches[f] {
			s.searches[f] = true
			all = append(all, s.schema.searchChain(d, f))
		}
		all = append(all, s.schema.classChain(d, c))
	}
	return all
}
