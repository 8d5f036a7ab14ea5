package iptables

import (
	"io"
	"net/netip"
	"strings"

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
	}, nil)
	return err
}

// sync takes the kernel from the state it has to the one it is to have. A Service
// is dispatched to when its chains are whole, and its chains go when it is not
// dispatched to any more, so at every moment each Service has either its old
// rules or its new ones.
// Services that keep says so of keep what they have; nil says it of none. It
// returns how the dispatch rules are arranged.
func (s *session) sync(to kernelnat.State, d dialect, keep func(service string) bool) (*trie, error) {
	s.write(tableMangle, chain{name: chainCanary})
	s.write(tableNAT, masqueradeChains(d.bit, d.randomFully)...)
	inUse := make(map[string]bool)
	var rules [places][]string
	for _, service := range to.Services {
		r := render(service)
		for _, c := range r.chains {
			inUse[c.name] = true
		}
		s.write(tableNAT, r.chains...)
		for p := range places {
			rules[p] = append(rules[p], r.shared[p]...)
		}
	}
	s.commit()

	for p, at := range shared {
		if keep != nil {
			rules[p] = append(rules[p], s.have.table(at.table).kept(place(p), keep, rules[p])...)
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
		s.refuse(refusals, rules, d)
		s.dispatch(dispatch, rules, inUse)
		s.filter(rules, d)
	} else {
		s.filter(rules, d)
		s.dispatch(dispatch, rules, inUse)
	}
	// Of the chains of Services that keep theirs it is not known which those are.
	s.removeServiceChains(func(name string) bool {
		return inUse[name] || keep != nil && !strings.HasPrefix(name, prefixRange)
	})
	return dispatch, s.flush()
}

// dispatch writes the chains that lead to those of Services, which are whole by
// now. Each is right for its addresses at every moment: what it leads to comes
// before it.
func (s *session) dispatch(t *trie, rules [places][]string, inUse map[string]bool) {
	s.write(tableNAT, chain{name: chainNodePorts, rules: rules[natNodePorts], unordered: true}, chain{name: chainCanary})
	write, _ := t.changes()
	for _, c := range write {
		inUse[c.name] = true
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
	s.write(tableFilter, append(s.refusing(rules, d), forwardChain(d), chain{name: chainCanary})...)
	s.link(tableFilter)
	s.commit()
}

// guardLoopback keeps packets of others to 127.0.0.0/8 out. The chain is the
// kubelet's too: what else is in it stays.
func (s *session) guardLoopback(d dialect) {
	if !d.localhost {
		return
	}
	rules, there := s.have.table(tableFilter).shared[chainFirewall]
	n := 0
	for _, rule := range rules {
		if rule == loopbackRule {
			n++
		}
	}
	if n == 0 {
		s.open(tableFilter)
		if !there {
			s.script.declare(chainFirewall)
		}
		s.script.append(chainFirewall, loopbackRule)
		s.written = append(s.written, tableFilter+" "+chainFirewall)
	}
	for ; n > 1; n-- {
		s.delete(tableFilter, use{from: chainFirewall, rule: loopbackRule})
		s.written = append(s.written, "no second "+tableFilter+" "+chainFirewall+" "+loopbackRule)
	}
	for _, from := range []string{"INPUT", "OUTPUT"} {
		s.once(jump{tableFilter, from, "-j " + chainFirewall})
	}
}

// refusing returns the chains of filter that Services share.
func (s *session) refusing(rules [places][]string, d dialect) []chain {
	var out []chain
	for _, p := range []place{filterServices, filterExternal, filterNodePorts, filterFirewall} {
		c := chain{name: shared[p].chain, rules: rules[p], unordered: true}
		if p == filterServices {
			c.last = len(rangeRules(d))
		}
		out = append(out, c)
	}
	return out
}

// refuse adds the rules of filter that refuse packets to those that are there, in
// chains that will not stay as they are.
func (s *session) refuse(refusals, rules [places][]string, d dialect) {
	have := s.have.table(tableFilter)
	for i, c := range s.refusing(rules, d) {
		_, there := have.chains[c.name]
		if !there || have.has(c) {
			continue
		}
		for _, rule := range refusals[filterServices+place(i)] {
			s.open(tableFilter)
			s.script.insert(c.name, rule)
		}
	}
	s.commit()
}
