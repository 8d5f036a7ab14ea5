package nftables

import (
	"cmp"
	"encoding/binary"
	"net/netip"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/google/nftables/expr"
)

// kept is what stays in the kernel for Services that are not known.
type kept struct {
	unknown func(cluster.ServiceName) bool // nil: all are known
	chains  map[string]bool
	keys    map[*set]map[string]bool // of elements
}

// adopt takes over the numbers that are in the kernel.
func (s *session) adopt(state kernelnat.State) {
	s.kept = kept{chains: make(map[string]bool), keys: make(map[*set]map[string]bool)}
	if state.Incomplete {
		s.kept.unknown = func(name cluster.ServiceName) bool { return !state.Known[name] }
	}
	s.state.named = make(map[string]uint32)
	for key, chain := range s.have.elements[s.schema.classes.name] {
		if number := numberIn(key); s.state.classNumbers.claim(number) {
			s.state.named[chain] = number
		}
	}
	s.pools, s.lastMembers = make(map[uint32]*pool), make(map[uint32]uint32)
	for _, local := range []bool{false, true} {
		for key := range s.have.elements[s.schema.membersOf(local).name] {
			number := numberIn(key)
			pool := number &^ ofOnePool
			s.state.poolNumbers.claim(pool >> memberBits)
			s.lastMembers[pool] = max(s.lastMembers[pool], number&ofOnePool)
		}
	}
}

// numberIn reads the number that something begins with.
func numberIn(value string) uint32 { return binary.NativeEndian.Uint32([]byte(value[:4])) }

func addrPortOf(value []byte) netip.AddrPort {
	size := len(value) - 4
	addr, _ := netip.AddrFromSlice(value[:size])
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(value[size:]))
}

// adopted returns the pools of a Service as they are in the kernel.
func (s *session) adopted(p *plan.Service) *service {
	old := new(service)
	for i := range p.Pools {
		held := &pool{port: p.Pools[i].Port, protocol: p.Pools[i].Protocol, members: make(map[netip.AddrPort]poolMember)}
		for _, f := range p.Of(i) {
			if s.chooser != nil && !s.isOf(p.Name, held, &f) {
				continue
			}
			near := s.slots(held, f.Key, f.Kind == plan.NodePort, near)
			far := s.slots(held, f.Key, f.Kind == plan.NodePort, far)
			if !f.Local {
				far = near
			} else if len(held.local) == 0 {
				held.local = near
			}
			if len(held.cluster) == 0 {
				held.cluster = far
			}
			if s.hasLoopback(&f) {
				held.virtual = cmp.Or(held.virtual, new(virtual))
				*held.virtual.direct(ofLoopback(&f)) = s.slots(held, f.Key, true, loopback)
			}
		}
		old.pools = append(old.pools, held)
	}
	return old
}

// isOf reports whether a frontend in the kernel is that of a port. The virtual server of another one
// is not to be taken over with it: other frontends of that one may still lead there.
func (s *session) isOf(name cluster.ServiceName, port *pool, f *plan.Frontend) bool {
	now := frontend{Key: f.Key, service: name, pool: port}
	connections := s.schema.placeOf(f.Kind == plan.NodePort).connections
	return s.have.elements[connections.name][string(appendKey(nil, f.Key))] == now.comment()
}

// slots returns those of a frontend that are in the kernel, and notes which members are in them.
func (s *session) slots(of *pool, k plan.Key, nodePort bool, side side) (all []netip.AddrPort) {
	var buf [64]byte
	place := s.schema.placeOf(nodePort)
	endpoints, members := s.have.elements[place.endpoints.name], s.have.elements[place.slots.name]
	for i := 0; ; i++ {
		key := appendSlot(buf[:0], k, side, i)
		value, there := endpoints[string(key)]
		if !there {
			return all
		}
		e := addrPortOf([]byte(value))
		all = append(all, e)
		if number, there := members[string(key)]; there {
			s.adoptMember(of, numberIn(number), value)
		}
	}
}

// adoptMember has a pool take over a member, if it is there in the kernel. All members of a pool
// have the number that the first one begins with, which no other pool has.
func (s *session) adoptMember(of *pool, number uint32, at string) {
	var key [8]byte
	pool := number &^ ofOnePool
	if s.pools[pool] == nil && of.number == 0 && s.state.poolNumbers.used[pool>>memberBits] {
		s.pools[pool], of.number, of.next = of, pool, s.lastMembers[pool]+1
	}
	if s.pools[pool] != of {
		return
	}
	for _, local := range []bool{false, true} {
		there := s.have.elements[s.schema.membersOf(local).name][string(appendProtocol(appendNumber(key[:0], number), of.protocol))]
		if there == at {
			of.members[addrPortOf([]byte(at))] = poolMember{number: number}
		}
	}
}

// keepUnknown takes what Services have that are not known out of what is to be removed. What
// they share with others counts as theirs until the next Sync.
func (s *session) keepUnknown() {
	if s.kept.unknown == nil {
		return
	}
	members := make(map[uint32]bool)
	for _, place := range []*place{&s.schema.frontends, &s.schema.nodePorts} {
		unknown := make(map[string]bool) // frontends
		for key, comment := range s.have.elements[place.connections.name] {
			if s.kept.unknown(serviceOf(comment)) {
				unknown[key] = true
			}
		}
		size := length(place.class.key)
		for _, set := range place.sets() {
			for key, value := range s.have.elements[set.name] {
				if !unknown[key[:size]] {
					continue
				}
				switch set {
				case place.endpoints:
					s.keepSlot(addrPortOf([]byte(value)), protocolIn(key[:size]))
				case place.slots:
					members[numberIn(value)] = true
				case place.class, place.inside:
					if _, known := s.state.classIDs[numberIn(value)]; known {
						s.state.use(numberIn(value), 1)
					} else {
						s.keepChain(s.have.elements[s.schema.classes.name][value])
					}
				}
				s.keepElement(set, key)
			}
		}
	}
	for _, local := range []bool{false, true} {
		set := s.schema.membersOf(local)
		for key := range s.have.elements[set.name] {
			if members[numberIn(key)] {
				s.keepElement(set, key)
			}
		}
	}
}

// keepSlot has what a slot leads to stay in hairpin, and be kept by who has chosen it.
func (s *session) keepSlot(at netip.AddrPort, protocol cluster.Protocol) {
	s.state.refer(s, at.Addr(), 1)
	if !s.state.virtual.Contains(at.Addr()) {
		return
	}
	for _, e := range s.chooser.Keep(at, protocol) {
		s.state.refer(s, e.Addr(), 1)
	}
}

// protocolIn is that of a frontend's key.
func protocolIn(key string) cluster.Protocol {
	return cluster.Protocol(key[len(key)-length([]field{protocol, port})])
}

// keepElement has an element stay.
func (s *session) keepElement(set *set, key string) {
	delete(s.have.elements[set.name], key)
	if s.kept.keys[set] == nil {
		s.kept.keys[set] = make(map[string]bool)
	}
	s.kept.keys[set][key] = true
}

// keepChain has the chain of a class stay, and those that its rules lead to.
func (s *session) keepChain(name string) {
	s.kept.chains[name] = true
	have := s.have.chains[name]
	if have == nil {
		return
	}
	for _, rule := range have.rules {
		for _, e := range rule {
			if v, ok := e.(*expr.Verdict); ok && v.Chain != "" {
				s.kept.chains[v.Chain] = true
			}
		}
	}
}
