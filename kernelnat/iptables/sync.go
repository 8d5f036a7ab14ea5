package iptables

import (
	"io"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// dialect is what the rules depend on besides the plans.
type dialect struct {
	family      cluster.Family
	bit         uint8 // of the mark of packets to be masqueraded
	randomFully bool
}

// Rules writes what Sync sends for one family to a kernel without any rules, for
// iptables 1.6.2 or newer in its nft variant. It runs no tool.
func Rules(w io.Writer, family cluster.Family, services []plan.Service, options Options) error {
	s := session{have: state{}, chains: nft.chains(), send: func(input []byte) error {
		_, err := w.Write(input)
		return err
	}}
	return s.sync(kernelnat.State{Services: services}, dialect{family: family, bit: options.MasqueradeBit, randomFully: true})
}

// sync takes the kernel from the state it has to the one it is to have. A Service
// is dispatched to when its chains are whole, and its chains go when it is not
// dispatched to any more, so at every moment each Service has either its old
// rules or its new ones.
func (s *session) sync(to kernelnat.State, d dialect) error {
	s.write(tableMangle, chain{name: chainCanary})
	s.write(tableNAT, masqueradeChains(d.bit, d.randomFully)...)
	keep := make(map[string]bool)
	var rules [places][]string
	for _, service := range to.Services {
		r := render(service)
		for _, c := range r.chains {
			keep[c.name] = true
		}
		s.write(tableNAT, r.chains...)
		for p := range places {
			rules[p] = append(rules[p], r.shared[p]...)
		}
	}
	s.commit()

	if to.Incomplete {
		for p, at := range shared {
			rules[p] = append(rules[p], s.have.table(at.table).ofOthers(place(p), to.Services)...)
		}
	}
	// A Service that has lost its endpoints must be refused before it is no
	// longer translated, and the other way round: in between, packets would
	// leave the node for the ClusterIP.
	if _, live := s.have.table(tableFilter).chains[chainServices]; live {
		s.refuse(rules)
		s.dispatch(rules, d)
		s.filter(rules, d)
	} else {
		s.filter(rules, d)
		s.dispatch(rules, d)
	}
	if !to.Incomplete {
		s.removeServiceChains(keep)
	}
	return s.flush()
}

func (s *session) dispatch(rules [places][]string, d dialect) {
	s.write(tableNAT, chain{chainServices, append(slices.Clip(rules[natServices]), nodePortRules(d)...)},
		chain{chainNodePorts, rules[natNodePorts]}, chain{name: chainCanary})
	s.link(tableNAT)
	s.commit()
}

func (s *session) filter(rules [places][]string, d dialect) {
	s.write(tableFilter, chain{chainServices, rules[filterServices]}, chain{chainExternalServices, rules[filterExternal]},
		chain{chainNodePorts, rules[filterNodePorts]}, chain{chainProxyFirewall, rules[filterFirewall]},
		forwardChain(d.bit), chain{name: chainCanary})
	s.link(tableFilter)
	s.commit()
}

// refuse adds the rules of filter that refuse packets to those that are there.
func (s *session) refuse(rules [places][]string) {
	have := s.have.table(tableFilter)
	for p, at := range shared {
		_, there := have.chains[at.chain]
		if at.table != tableFilter || !there || have.has(chain{at.chain, rules[p]}) {
			continue
		}
		for _, rule := range rules[p] {
			s.open(tableFilter)
			s.script.insert(at.chain, rule)
		}
	}
	s.commit()
}
