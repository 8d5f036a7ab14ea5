package iptables

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/clusterip/clusterip/status"
)

// Look returns what the kernel holds of one Service, nil if there are no chains of ours. It
// lists the chains that packets to the Service pass: with the nft variant that costs what the
// Service costs. It writes nothing.
func Look(ctx context.Context, family cluster.Family, p plan.Service, state kernelnat.State, settings netfilter.Settings) (*status.Kernel, error) {
	l, err := newLook(ctx, family)
	if l == nil || err != nil {
		return nil, err
	}
	planned := render(l.tools.variant.able([]plan.Service{p})[0])
	l.plan(planned)
	l.expect(planned, &p)
	out := &status.Kernel{Wrong: l.jumps()}
	for i := range p.Frontends {
		held, err := l.frontend(&p, &p.Frontends[i])
		if err != nil {
			return nil, fmt.Errorf("read the rules for %s: %w", p.Frontends[i].Key, err)
		}
		out.Frontends = append(out.Frontends, held)
	}
	return out, l.err
}

// look is what was listed for one Service.
type look struct {
	*listing
	planned map[plan.Key][]placed  // what is to be in shared chains
	read    map[chainKey]*contents // of those of these chains that were looked at
}

// placed is a rule of a shared chain.
type placed struct {
	place
	rule
}

// contents are what is looked for in a shared chain, of which there may be as many rules, and as
// often, as the Service has frontends.
type contents struct {
	rules map[string]bool
	leads []lead
}

// lead is a rule that leads to a chain for a range of addresses, or to any other.
type lead struct {
	of netip.Prefix
	to string
}

func newLookOf(listed *listing) *look {
	return &look{listing: listed, planned: make(map[plan.Key][]placed), read: make(map[chainKey]*contents)}
}

// plan takes over what is to be in shared chains.
func (l *look) plan(planned rendering) {
	for at, rules := range planned.shared {
		for _, r := range rules {
			if place(at) != filterNodePorts {
				l.planned[r.Key] = append(l.planned[r.Key], placed{place(at), r})
			}
		}
	}
}

// rulesFor are those of a frontend in shared chains.
func (l *look) rulesFor(f *plan.Frontend) []placed {
	if f.Kind == plan.NodePort {
		return l.planned[anywhere(f.At.Port(), f.Protocol)]
	}
	return l.planned[f.Key]
}

// contents are those of a chain that is listed.
func (l *look) contents(key chainKey) *contents {
	if l.read[key] == nil {
		c := &contents{rules: make(map[string]bool)}
		for _, rule := range l.chains[key].rules {
			c.rules[rule] = true
			if to, ok := leadOf(rule); ok {
				c.leads = append(c.leads, to)
			}
		}
		l.read[key] = c
	}
	return l.read[key]
}

// newLook finds the variant that has our chains; nil if none has.
func newLook(ctx context.Context, family cluster.Family) (*look, error) {
	var failed error
	for _, v := range variants {
		if v == legacy {
			if loaded, err := legacyLoaded(family); err != nil || !loaded {
				failed = errors.Join(failed, err)
				continue
			}
		}
		t, err := findTools(ctx, v, family)
		if Absent(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		l := newLookOf(newListing(ctx, t))
		if l.chain(tableNAT, chainServices).there {
			return l, l.err
		}
		failed = errors.Join(failed, l.err)
	}
	if Absent(failed) {
		failed = nil
	}
	return nil, failed
}

// expect lists the chains that packets to a Service pass, in as few runs as there can be: those
// whose names are known, then those for ranges of addresses that they lead to.
func (l *look) expect(planned rendering, p *plan.Service) {
	keys := expected(planned, p)
	for len(keys) > 0 {
		l.list(keys)
		keys = l.ranges(p)
	}
}

// expected are the chains that packets to a Service pass, but for those of ranges of addresses,
// whose names others say.
func expected(planned rendering, p *plan.Service) (keys []chainKey) {
	for _, j := range jumps {
		if j.table == tableNAT {
			keys = append(keys, chainKey{j.table, j.from})
		}
	}
	for at, rules := range planned.shared {
		if len(rules) > 0 {
			keys = append(keys, chainKey{shared[at].table, shared[at].chain})
		}
	}
	for i := range p.Pools {
		chains := renderPool(*p, i).chains
		for _, c := range chains[:min(len(chains), mostChains)] {
			keys = append(keys, chainKey{tableNAT, c.name})
		}
	}
	return keys
}

// ranges are the chains for ranges of addresses that lead to a Service's rules and are not listed yet.
func (l *look) ranges(p *plan.Service) (keys []chainKey) {
	for i := range p.Frontends {
		for _, r := range l.rulesFor(&p.Frontends[i]) {
			if next := l.follow(r); l.err == nil && !l.listed(next) {
				keys = append(keys, next)
			}
		}
	}
	return keys
}

// jumps says which of those are missing that packets to Services are translated by.
func (l *look) jumps() (wrong []string) {
	for _, j := range jumps {
		if j.table != tableNAT {
			continue
		}
		if !slices.ContainsFunc(l.chain(j.table, j.from).rules, func(rule string) bool { return j.is(use{j.from, rule, ""}) }) {
			wrong = append(wrong, fmt.Sprintf("chain %s of table %s lacks the rule %s", j.from, j.table, j.rule))
		}
	}
	return wrong
}

// mostChains bounds the chains of a port that are listed: each that is not there is one run of
// iptables.
const mostChains = 40

// frontend says what packets to one meet: the rule of a shared chain, and the chains that it
// leads to.
func (l *look) frontend(p *plan.Service, f *plan.Frontend) (out status.Held, err error) {
	for _, r := range l.rulesFor(f) {
		l.shared(&out, r)
	}
	chains := renderPool(*p, f.Pool).chains
	for _, c := range chains[:min(len(chains), mostChains)] {
		have := l.chain(tableNAT, c.name)
		switch {
		case !have.there:
			out.Wrong = append(out.Wrong, fmt.Sprintf("chain %s is not there", c.name))
		case digestOf(have.rules) != digestOf(c.rules):
			out.Wrong = append(out.Wrong, fmt.Sprintf("chain %s has other rules: it has %d, and %d are planned", c.name, len(have.rules), len(c.rules)))
		}
		if c.name == renderPolicy(p, f) {
			for i, rule := range have.rules[:min(len(have.rules), shownRules)] {
				out.Meets = append(out.Meets, fmt.Sprintf("%s %d: %s", c.name, i+1, rule))
			}
			if n := len(have.rules) - shownRules; n > 0 {
				out.Meets = append(out.Meets, fmt.Sprintf("and %d more rules", n))
			}
		}
	}
	return out, l.err
}

// shownRules is how many of a chain are shown.
const shownRules = 4

// renderPolicy is the name of the chain that chooses a frontend's endpoint.
func renderPolicy(p *plan.Service, f *plan.Frontend) string {
	pool := &p.Pools[f.Pool]
	return (&poolRendering{Pool: pool, name: portName(p.Name, pool.Port)}).policy(f.Local)
}

// shared says what is to be said of a rule of a shared chain.
func (l *look) shared(out *status.Held, r placed) {
	last := l.follow(r)
	switch have := l.chain(last.table, last.name); {
	case !have.there:
		out.Wrong = append(out.Wrong, fmt.Sprintf("chain %s of table %s is not there", last.name, last.table))
	case l.contents(last).rules[r.text]:
		out.Meets = append(out.Meets, fmt.Sprintf("%s %s: %s", last.table, last.name, r.text))
	default:
		out.Wrong = append(out.Wrong, fmt.Sprintf("chain %s of table %s has no rule %s", last.name, last.table, r.text))
	}
}

// follow goes through the chains for ranges of addresses, as a packet does, to the one with a rule
// or the last of them, or to one that is not listed yet.
func (l *look) follow(r placed) chainKey {
	at := shared[r.place]
	last := chainKey{at.table, at.chain}
	for passed := map[chainKey]bool{}; l.listed(last) && !passed[last]; {
		passed[last] = true
		have := l.contents(last)
		if have.rules[r.text] {
			break
		}
		for _, to := range have.leads {
			if at.ranges != "" && strings.HasPrefix(to.to, at.ranges) && to.of.Contains(r.At.Addr()) {
				last.name = to.to
			}
		}
	}
	return last
}

// leadOf returns where a rule leads that is about addresses in a range.
func leadOf(rule string) (out lead, ok bool) {
	w := words(rule)
	at, to := slices.Index(w, "-d"), slices.Index(w, "-j")
	if at < 0 || to < 0 || max(at, to)+1 >= len(w) {
		return out, false
	}
	of, err := netip.ParsePrefix(w[at+1])
	return lead{of, w[to+1]}, err == nil
}
