package nftables

import (
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
	pools   map[uint32]bool
	chains  map[string]bool
	// keys are the frontends of unknown Services, by the sets that may have them.
	keys map[*set]map[string]bool

	slots map[uint32][]netip.AddrPort // of pools in the kernel, by their numbers
	in    map[uint32]map[int]uint32   // the members in slots
}

// adopt takes over the numbers that are in the kernel.
func (s *session) adopt(state kernelnat.State) {
	s.kept = kept{pools: make(map[uint32]bool), chains: make(map[string]bool), keys: make(map[*set]map[string]bool),
		slots: make(map[uint32][]netip.AddrPort), in: make(map[uint32]map[int]uint32)}
	if state.Incomplete {
		s.kept.unknown = func(name cluster.ServiceName) bool { return !state.Known[name] }
	}
	s.state.named = make(map[string]uint32)
	for key, chain := range s.have.elements[s.schema.classes.name] {
		number := binary.NativeEndian.Uint32([]byte(key))
		if s.state.classNumbers.claim(number) {
			s.state.named[chain] = number
		}
	}
	for _, place := range []*place{&s.schema.frontends, &s.schema.nodePorts} {
		for _, value := range s.have.elements[place.pool.name] {
			s.state.poolIDs.claim(binary.NativeEndian.Uint32([]byte(value)))
		}
	}
	for key := range s.have.elements[s.schema.members.name] {
		s.state.memberIDs.claim(binary.NativeEndian.Uint32([]byte(key)))
	}
	s.readSlots()
}

// readSlots sorts out which endpoints are in which slots.
func (s *session) readSlots() {
	endpoints := make(map[uint32]map[int]netip.AddrPort)
	for key, value := range s.have.elements[s.schema.endpoints.name] {
		k := []byte(key)
		number, slot := binary.NativeEndian.Uint32(k), int(binary.NativeEndian.Uint32(k[8:]))
		if endpoints[number] == nil {
			endpoints[number] = make(map[int]netip.AddrPort)
		}
		endpoints[number][slot] = addrPortOf([]byte(value))
	}
	for number, of := range endpoints {
		for i := 0; ; i++ {
			e, there := of[i]
			if !there {
				break
			}
			s.kept.slots[number] = append(s.kept.slots[number], e)
		}
	}
	for key, value := range s.have.elements[s.schema.slots.name] {
		k := []byte(key)
		number := binary.NativeEndian.Uint32(k)
		if s.kept.in[number] == nil {
			s.kept.in[number] = make(map[int]uint32)
		}
		s.kept.in[number][int(binary.NativeEndian.Uint32(k[4:]))] = binary.NativeEndian.Uint32([]byte(value))
	}
}

func addrPortOf(value []byte) netip.AddrPort {
	size := len(value) - 4
	addr, _ := netip.AddrFromSlice(value[:size])
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(value[size:]))
}

// adopted returns the pools of a Service that are in the kernel, nil if none are.
func (s *session) adopted(p *plan.Service) *service {
	old := new(service)
	for i := range p.Pools {
		if number := s.poolNumber(p.Of(i)); number != 0 {
			old.pools = append(old.pools, s.heldPool(number, &p.Pools[i]))
		}
	}
	return old
}

// poolNumber is that of the pool that one of the frontends leads to in the kernel, and that
// no other pool has by now.
func (s *session) poolNumber(frontends []plan.Frontend) uint32 {
	var key [32]byte
	for _, f := range frontends {
		value, there := s.have.elements[s.schema.placeOf(f.Kind == plan.NodePort).pool.name][string(appendKey(key[:0], f.Key))]
		if !there {
			continue
		}
		if number := binary.NativeEndian.Uint32([]byte(value)); !s.kept.pools[number] && number&1 == 0 {
			s.kept.pools[number] = true
			return number
		}
	}
	return 0
}

func (s *session) heldPool(number uint32, p *plan.Pool) *pool {
	held := &pool{id: number, port: p.Port, protocol: p.Protocol, cluster: s.kept.slots[number], local: s.kept.slots[number|1]}
	held.members = make(map[netip.AddrPort]uint32)
	for _, l := range held.lists() {
		for i, e := range l.slots {
			if member := s.kept.in[l.id][i]; member != 0 {
				held.members[e] = member
			}
		}
	}
	return held
}

// keepUnknown takes what Services have that are not known out of what is to be removed.
func (s *session) keepUnknown() {
	if s.kept.unknown == nil {
		return
	}
	pools, members, addresses := make(map[uint32]bool), make(map[uint32]bool), make(map[netip.Addr]bool)
	for _, place := range []*place{&s.schema.frontends, &s.schema.nodePorts} {
		for key, value := range s.have.elements[place.pool.name] {
			if !s.kept.unknown(serviceOf(value[4:])) {
				continue
			}
			number := binary.NativeEndian.Uint32([]byte(value))
			pools[number], pools[number|1] = true, true
			for _, set := range place.sets() {
				s.keepElement(set, key)
			}
		}
	}
	for number := range pools {
		for _, e := range s.kept.slots[number] {
			addresses[e.Addr()] = true
		}
		for _, member := range s.kept.in[number] {
			members[member] = true
		}
	}
	of := func(key string) uint32 { return binary.NativeEndian.Uint32([]byte(key)) }
	s.keepElements(s.schema.endpoints, func(key string) bool { return pools[of(key)] })
	s.keepElements(s.schema.slots, func(key string) bool { return pools[of(key)] })
	s.keepElements(s.schema.members, func(key string) bool { return members[of(key)] })
	s.keepElements(s.schema.sources, func(key string) bool { return pools[binary.BigEndian.Uint32([]byte(key))] })
	s.keepElements(s.schema.hairpin, func(key string) bool {
		a, _ := netip.AddrFromSlice([]byte(key[:len(key)/2]))
		return addresses[a]
	})
}

func (s *session) keepElements(set *set, keep func(key string) bool) {
	for key := range s.have.elements[set.name] {
		if keep(key) {
			s.keepElement(set, key)
		}
	}
}

// keepElement has an element stay, and the class that it leads to.
func (s *session) keepElement(set *set, key string) {
	value, there := s.have.elements[set.name][key]
	if !there {
		return
	}
	delete(s.have.elements[set.name], key)
	if s.kept.keys[set] == nil {
		s.kept.keys[set] = make(map[string]bool)
	}
	s.kept.keys[set][key] = true
	for _, place := range []*place{&s.schema.frontends, &s.schema.nodePorts} {
		if set != place.class && set != place.inside {
			continue
		}
		if chain, there := s.have.elements[s.schema.classes.name][value]; there {
			s.kept.chains[chain] = true
			s.keepTargets(chain)
		}
	}
}

// keepTargets keeps the chains that the rules of a chain lead to.
func (s *session) keepTargets(chain string) {
	have := s.have.chains[chain]
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
