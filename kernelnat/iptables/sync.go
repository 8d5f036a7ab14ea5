package iptables

import (
	"context"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// dialect is what the rules depend on besides the plans.
type dialect struct {
	family      cluster.Family
	bit         uint8 // of the mark of packets to be masqueraded
	randomFully bool
	nodePorts   []netip.Addr // where NodePorts are; the unspecified address stands for all
	localhost   bool         // whether they may be at 127.0.0.0/8
	dropInvalid bool         // packets that conntrack cannot place
	ranges      []plan.Range // in which everything else is refused
}

// atLoopback reports whether NodePorts are at an address of the loopback interface.
func (d *dialect) atLoopback() bool {
	return slices.ContainsFunc(d.nodePorts, func(a netip.Addr) bool { return a.IsUnspecified() || a.IsLoopback() })
}

// Rules writes what Sync sends for one family to a kernel without any rules, for
// iptables 1.6.2 or newer in its nft variant, where NodePorts may be at 127.0.0.1. Which
// packets conntrack takes for INVALID is as on this machine. It runs no tool.
func Rules(w io.Writer, family cluster.Family, to kernelnat.State, settings netfilter.Settings) error {
	d, err := dialectOf(family, settings, to)
	if err != nil {
		return err
	}
	s := session{have: state{}, chains: nft.chains(), send: func(input []byte) error {
		_, err := w.Write(input)
		return err
	}}
	a, err := s.sync(context.Background(), to, d, nil)
	if err != nil {
		return err
	}
	return s.sendLarge(a)
}

// sendLarge sends what is written of Services that sync leaves.
func (s *session) sendLarge(a *arrangement) (err error) {
	for _, h := range s.left {
		l := h.change(h.plans[0], nil, a, s.chains)
		for p, more := l.next(); more && err == nil; p, more = l.next() {
			err = s.send(p.input)
		}
	}
	return err
}

// sync takes the kernel from the state it has to the one it is to have. A Service
// is dispatched to when its chains are whole, and its chains go when it is not
// dispatched to any more, so at every moment each Service has either its old
// rules or its new ones.
//
// Services for which keep is true keep what they have; a nil keep is true for none. Large
// Services whose chains are not as they are to be keep it too, and come to session.left.
// sync returns how the rules of shared chains are arranged.
func (s *session) sync(ctx context.Context, to kernelnat.State, d dialect, keep func(service string) bool) (*arrangement, error) {
	s.write(tableMangle, chain{name: chainCanary})
	s.write(tableNAT, masqueradeChains(d.bit, d.randomFully)...)
	inUse, rules, err := s.services(ctx, to.Services)
	if err != nil {
		return nil, err
	}
	if keep = s.keeping(keep); keep != nil {
		s.keep(keep, &rules)
	}
	// A Service that has lost its endpoints must be refused before it is no
	// longer translated, and the other way round: in between, packets would
	// leave the node for the ClusterIP.
	a := arrange(rules, d)
	if _, live := s.have.table(tableFilter).chains[chainServices]; live {
		s.refuse(rules)
		s.dispatch(a, inUse)
		s.filter(a, d, inUse)
	} else {
		s.filter(a, d, inUse)
		s.dispatch(a, inUse)
	}
	s.leaveProxyIPVS()
	// It is not known which chains belong to Services that keep theirs.
	for _, table := range []string{tableFilter, tableNAT} {
		s.removeChains(table, func(name string) bool {
			return inUse[name] || keep != nil && !strings.HasPrefix(name, prefixRange)
		})
	}
	return a, s.flush()
}

// leaveProxyIPVS removes what kube-proxy has in its IPVS mode alone, to which none of our chains
// leads. Chains that a rule of somebody else uses stay.
func (s *session) leaveProxyIPVS() {
	for _, table := range []string{tableFilter, tableNAT} {
		have := s.have.table(table)
		var gone []string
		for _, c := range proxyIPVSChains[table] {
			others := func(u use) bool { return u.to == c && !slices.Contains(builtinChains, u.from) }
			if _, there := have.chains[c]; there && !slices.ContainsFunc(have.uses, others) {
				gone = append(gone, c)
			}
		}
		for _, u := range have.uses {
			if slices.Contains(gone, u.to) {
				s.delete(table, u)
			}
		}
		have.uses = slices.DeleteFunc(have.uses, func(u use) bool { return slices.Contains(gone, u.to) })
		s.remove(table, gone)
		s.commit()
	}
}

// services writes the chains of Services, of large ones only if they are there. It
// returns which chains those are, and the rules in shared chains that lead to them.
func (s *session) services(ctx context.Context, all []plan.Service) (inUse map[string]bool, rules [places][]rule, err error) {
	inUse = make(map[string]bool)
	if s.left == nil {
		s.left = make(map[cluster.ServiceName]*held)
	}
	for _, service := range all {
		if err := ctx.Err(); err != nil {
			return nil, rules, err
		}
		if size(service) > largeRules {
			if h := s.holds(service, inUse); h != nil {
				s.left[service.Name] = h
				continue
			}
			addShared(&rules, service)
			continue
		}
		r := render(service)
		for _, c := range r.chains {
			inUse[c.name] = true
		}
		s.write(tableNAT, r.chains...)
		for p, more := range r.shared {
			rules[p] = append(rules[p], more...)
		}
	}
	s.commit()
	return inUse, rules, s.err
}

// holds returns nil if all chains of a Service are there as they are to be. It notes
// that they are in use.
func (s *session) holds(service plan.Service, inUse map[string]bool) *held {
	have := s.have.table(tableNAT)
	whole, none, right := true, true, make(map[string]bool)
	for c := range chainsOf(service) {
		inUse[c.name] = true
		_, there := have.chains[c.name]
		none = none && !there
		right[c.name] = have.has(c)
		whole = whole && right[c.name]
	}
	if whole {
		return nil
	}
	return &held{plans: []plan.Service{service}, nothing: none, right: right}
}

// keeping adds the Services that are left to those that keep what they have.
func (s *session) keeping(keep func(service string) bool) func(service string) bool {
	if len(s.left) == 0 {
		return keep
	}
	left := make(map[string]bool, len(s.left))
	for name := range s.left {
		left[name.String()] = true
	}
	return func(service string) bool { return left[service] || keep != nil && keep(service) }
}

// keep adds the rules in shared chains that are to stay.
func (s *session) keep(keep func(service string) bool, rules *[places][]rule) {
	left := make(map[string]*held, len(s.left))
	for name, h := range s.left {
		left[name.String()] = h
	}
	for p, at := range shared {
		for _, rule := range s.have.table(at.table).kept(place(p), keep, rules[p]) {
			if h := left[serviceOf(rule.text)]; h != nil {
				h.rules[p] = append(h.rules[p], rule)
			}
			rules[p] = append(rules[p], rule)
		}
	}
}

// dispatch writes the chains that lead to those of Services, which are whole by
// now. Each is right for its addresses at every moment: what it leads to comes
// before it.
func (s *session) dispatch(a *arrangement, inUse map[string]bool) {
	s.arranged(a, inUse, natNodePorts)
	s.write(tableNAT, chain{name: chainCanary})
	s.arranged(a, inUse, natServices)
	s.link(tableNAT)
	s.commit()
}

// arranged writes the chains of one place.
func (s *session) arranged(a *arrangement, inUse map[string]bool, p place) {
	write, _ := a[p].changes()
	for _, c := range write {
		inUse[c.name] = true
		s.write(shared[p].table, c)
	}
}

func anyAddress(f cluster.Family) netip.Prefix {
	if f == cluster.IPv4 {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

func (s *session) filter(a *arrangement, d dialect, inUse map[string]bool) {
	s.guardLoopback(d)
	s.write(tableFilter, rangesChain(d.family, d.ranges))
	for _, p := range []place{filterServices, filterExternal, filterNodePorts, filterFirewall} {
		s.arranged(a, inUse, p)
	}
	s.write(tableFilter, forwardChain(d), chain{name: chainCanary})
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

// refuse adds the rules of filter that refuse packets and are missing, to chains that are
// there. It is for the time until filter writes these chains anew.
func (s *session) refuse(rules [places][]rule) {
	have := s.have.table(tableFilter)
	for p, at := range shared {
		if _, there := have.chains[at.chain]; at.table != tableFilter || !there {
			continue
		}
		for _, rule := range without(rules[p], have.rulesOf(place(p))) {
			s.open(tableFilter)
			s.script.insert(at.chain, rule.text)
		}
	}
	s.commit()
}
