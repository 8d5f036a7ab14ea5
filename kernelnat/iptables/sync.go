package iptables

import (
	"io"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
)

// dialect is what the rules depend on besides the plans.
type dialect struct {
	family       cluster.Family
	bit          uint8 // of the mark of packets to be masqueraded
	randomFully  bool
	nodePorts    *addresses     // where NodePorts are
	localhost    bool           // whether they may be at 127.0.0.0/8
	dropInvalid  bool           // packets that conntrack cannot place
	serviceCIDRs []netip.Prefix // in which everything else is refused
}

// Rules writes what Sync sends for one family to a kernel without any rules, for
// iptables 1.6.2 or newer in its nft variant, where NodePorts are at all addresses.
// It runs no tool.
func Rules(w io.Writer, family cluster.Family, to kernelnat.State, options Options) error {
	s := session{have: state{}, chains: nft.chains(), send: func(input []byte) error {
		_, err := w.Write(input)
		return err
	}}
	_, err := s.sync(to, dialect{
		family: family, bit: options.MasqueradeBit, randomFully: true,
		nodePorts: &addresses{all: true}, localhost: family == cluster.IPv4, dropInvalid: true, serviceCIDRs: to.ServiceCIDRs,
	})
	return err
}

// sync takes the kernel from the state it has to the one it is to have. A Service
// is dispatched to when its chains are whole, and its chains go when it is not
// dispatched to any more, so at every moment each Service has either its old
// rules or its new ones.
//
// It returns how the dispatch rules are arranged.
func (s *session) sync(to kernelnat.State, d dialect) (*trie, error) {
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
	_, live := s.have.table(tableFilter).chains[chainServices]
	refusals := rules
	dispatch := newTrie(rules[natServices], nodePortRules(d), anyAddress(d.family))
	rules[filterServices] = append(rules[filterServices], rangeRules(d)...)
	if live {
		s.refuse(refusals, rules)
		s.dispatch(dispatch, rules, keep)
		s.filter(rules, d)
	} else {
		s.filter(rules, d)
		s.dispatch(dispatch, rules, keep)
	}
	if !to.Incomplete {
		s.removeServiceChains(keep)
	}
	return dispatch, s.flush()
}

// dispatch writes the chains that lead to those of Services, which are whole by
// now. Each is right for its addresses at every moment: what it leads to comes
// before it.
func (s *session) dispatch(t *trie, rules [places][]string, keep map[string]bool) {
	s.write(tableNAT, chain{chainNodePorts, rules[natNodePorts]}, chain{name: chainCanary})
	write, _ := t.changes()
	for _, c := range write {
		keep[c.name] = true
		s.write(tableNAT, c)
	}
	s.link(tableNAT)
	s.commit()
}

func anyAddress(f cluster.Family) netip.Prefix {
	if f == cluster.IPv4 {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

func (s *session) filter(rules [places][]string, d dialect) {
	s.guardLoopback(d)
	s.write(tableFilter, chain{chainServices, rules[filterServices]}, chain{chainExternalServices, rules[filterExternal]},
		chain{chainNodePorts, rules[filterNodePorts]}, chain{chainProxyFirewall, rules[filterFirewall]},
		forwardChain(d), chain{name: chainCanary})
	s.link(tableFilter)
	s.commit()
}

// guardLoopback keeps packets of others to 127.0.0.0/8 out. The chain is the
// kubelet's too: what else is in it stays.
func (s *session) guardLoopback(d dialect) {
	have := s.have.table(tableFilter)
	if !d.localhost || slices.Contains(have.shared[chainFirewall], loopbackRule) {
		return
	}
	s.open(tableFilter)
	if _, there := have.shared[chainFirewall]; !there {
		s.script.declare(chainFirewall)
	}
	s.script.append(chainFirewall, loopbackRule)
	s.written = append(s.written, tableFilter+" "+chainFirewall)
	for _, from := range []string{"INPUT", "OUTPUT"} {
		if !slices.ContainsFunc(have.uses, func(u use) bool { return u.from == from && u.to == chainFirewall }) {
			s.script.insert(from, "-j "+chainFirewall)
		}
	}
}

// refuse adds the rules of filter that refuse packets to those that are there, in
// chains that will not stay as they are.
func (s *session) refuse(refusals, rules [places][]string) {
	have := s.have.table(tableFilter)
	for p, at := range shared {
		_, there := have.chains[at.chain]
		if at.table != tableFilter || !there || have.has(chain{at.chain, rules[p]}) {
			continue
		}
		for _, rule := range refusals[p] {
			s.open(tableFilter)
			s.script.insert(at.chain, rule)
		}
	}
	s.commit()
}
