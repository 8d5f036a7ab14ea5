package iptables

import (
	"io"

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
	var dispatch, filter []string
	for _, service := range to.Services {
		r := render(service)
		for _, c := range r.chains {
			keep[c.name] = true
		}
		s.write(tableNAT, r.chains...)
		dispatch = append(dispatch, r.dispatch...)
		filter = append(filter, r.filter...)
	}
	s.commit()

	if to.Incomplete {
		dispatch = append(dispatch, s.have.table(tableNAT).ofOthers(to.Services)...)
		filter = append(filter, s.have.table(tableFilter).ofOthers(to.Services)...)
	}
	filtered := s.filterChains(filter, d.bit)
	// A Service that has lost its endpoints must be refused before it is no
	// longer translated, and the other way round: in between, packets would
	// leave the node for the ClusterIP.
	if _, live := s.have.table(tableFilter).chains[chainServices]; live {
		s.refuse(filtered[0])
		s.dispatch(dispatchChain(dispatch, d.family))
		s.filter(filtered)
	} else {
		s.filter(filtered)
		s.dispatch(dispatchChain(dispatch, d.family))
	}
	if !to.Incomplete {
		s.removeServiceChains(keep)
	}
	return s.flush()
}

func (s *session) dispatch(services chain) {
	s.write(tableNAT, services, chain{name: chainNodePorts}, chain{name: chainCanary})
	s.link(tableNAT)
	s.commit()
}

func (s *session) filter(chains []chain) {
	s.write(tableFilter, chains...)
	s.link(tableFilter)
	s.commit()
}

// refuse adds the rules of a chain to those that it has already.
func (s *session) refuse(services chain) {
	if s.have.table(tableFilter).has(services) {
		return
	}
	for _, rule := range services.rules {
		s.open(tableFilter)
		s.script.insert(services.name, rule)
	}
	s.commit()
}

// filterChains returns the chains of filter, KUBE-SERVICES first. Those that are
// kube-proxy's alone are emptied where there are any.
func (s *session) filterChains(rules []string, bit uint8) []chain {
	chains := []chain{{chainServices, rules}, forwardChain(bit), {name: chainCanary}}
	for _, name := range []string{chainExternalServices, chainNodePorts, chainProxyFirewall} {
		if _, ok := s.have.table(tableFilter).chains[name]; ok {
			chains = append(chains, chain{name: name})
		}
	}
	return chains
}
