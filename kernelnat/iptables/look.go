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
	l.expect(planned, &p)
	out := &status.Kernel{Wrong: l.jumps()}
	for i := range p.Frontends {
		held, err := l.frontend(planned, &p, &p.Frontends[i])
		if err != nil {
			return nil, fmt.Errorf("read the rules for %s: %w", p.Frontends[i].Key, err)
		}
		out.Frontends = append(out.Frontends, held)
	}
	return out, l.err
}

// look is what was listed for one Service.
type look struct{ *listing }

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
		l := look{newListing(ctx, t)}
		if l.chain(tableNAT, chainServices).there {
			return &l, l.err
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
		keys = l.ranges(planned, p)
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
func (l *look) ranges(planned rendering, p *plan.Service) (keys []chainKey) {
	for i := range p.Frontends {
		for at, rules := range planned.shared {
			for _, r := range rules {
				if place(at) != filterNodePorts && isFor(r, &p.Frontends[i]) {
					if next := l.follow(place(at), r); l.err == nil && !l.listed(next) {
						keys = append(keys, next)
					}
				}
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
func (l *look) frontend(planned rendering, p *plan.Service, f *plan.Frontend) (out status.Held, err error) {
	for at, rules := range planned.shared {
		for _, r := range rules {
			if place(at) != filterNodePorts && isFor(r, f) {
				l.shared(&out, place(at), r)
			}
		}
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

// isFor reports whether a rule is for a frontend.
func isFor(r rule, f *plan.Frontend) bool {
	if f.Kind == plan.NodePort {
		return r.Key == anywhere(f.At.Port(), f.Protocol)
	}
	return r.Key == f.Key
}

// shared says what is to be said of a rule of a shared chain.
func (l *look) shared(out *status.Held, p place, r rule) {
	last := l.follow(p, r)
	switch have := l.chain(last.table, last.name); {
	case !have.there:
		out.Wrong = append(out.Wrong, fmt.Sprintf("chain %s of table %s is not there", last.name, last.table))
	case slices.Contains(have.rules, r.text):
		out.Meets = append(out.Meets, fmt.Sprintf("%s %s: %s", last.table, last.name, r.text))
	default:
		out.Wrong = append(out.Wrong, fmt.Sprintf("chain %s of table %s has no rule %s", last.name, last.table, r.text))
	}
}

// follow goes through the chains for ranges of addresses, as a packet does, to the one with a rule
// or the last of them, or to one that is not listed yet.
func (l *look) follow(p place, r rule) chainKey {
	at := shared[p]
	last := chainKey{at.table, at.chain}
	for passed := map[chainKey]bool{}; l.listed(last) && !passed[last]; {
		passed[last] = true
		have := l.chains[last]
		if slices.Contains(have.rules, r.text) {
			break
		}
		for _, rule := range have.rules {
			if to := rangeChain(rule, at.ranges, r.At.Addr()); to != "" {
				last.name = to
			}
		}
	}
	return last
}

// rangeChain returns the chain for a range that an address is in, if a rule leads there.
func rangeChain(rule, prefix string, addr netip.Addr) string {
	if prefix == "" || !addr.IsValid() {
		return ""
	}
	w := words(rule)
	at := slices.Index(w, "-d")
	to := slices.Index(w, "-j")
	if at < 0 || to < 0 || to+1 >= len(w) || !strings.HasPrefix(w[to+1], prefix) {
		return ""
	}
	if of, err := netip.ParsePrefix(w[at+1]); err != nil || !of.Contains(addr) {
		return ""
	}
	return w[to+1]
}
