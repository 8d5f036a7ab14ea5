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
// lists the chains that packets to the Service pass, some at a time: with the nft variant that
// costs what the Service costs. It writes nothing.
func Look(ctx context.Context, family cluster.Family, p plan.Service, state kernelnat.State, settings netfilter.Settings) (*status.Kernel, error) {
	l, err := newLook(ctx, family)
	if l == nil || err != nil {
		return nil, err
	}
	planned := render(l.variant.able([]plan.Service{p})[0])
	l.prefetch(expected(planned, &p))
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

// look lists chains of one family.
type look struct {
	ctx     context.Context
	variant variant
	list    string // the path of iptables
	chains  map[chainKey]listedChain
	err     error
}

type listedChain struct {
	rules []string
	there bool
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
		l := &look{ctx: ctx, variant: v, list: strings.TrimSuffix(t.save, "-save"), chains: make(map[chainKey]listedChain)}
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

// noChain is what iptables says of a chain or table that is not there.
var noChain = []string{"No chain/target/match by that name", "does not exist", "Table does not exist", "incompatible, use 'nft' tool"}

// chain lists a chain once.
func (l *look) chain(table, name string) listedChain {
	key := chainKey{table, name}
	if c, known := l.chains[key]; known || l.err != nil {
		return c
	}
	c, err := l.start(key)()
	if err != nil {
		l.err = err
		return listedChain{}
	}
	l.chains[key] = c
	return c
}

// atOnce is how many runs of iptables there are at the same time.
const atOnce = 4

// prefetch lists chains that chain is going to be asked for, some at a time. All run in the
// network namespace of this thread.
func (l *look) prefetch(keys []chainKey) {
	for some := range slices.Chunk(keys, atOnce) {
		var waits []func() (listedChain, error)
		for _, key := range some {
			waits = append(waits, l.start(key))
		}
		for i, wait := range waits {
			c, err := wait()
			l.chains[some[i]], l.err = c, errors.Join(l.err, err)
		}
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
	seen := map[chainKey]bool{{tableNAT, chainServices}: true} // newLook has
	return slices.DeleteFunc(keys, func(key chainKey) bool {
		was := seen[key]
		seen[key] = true
		return was
	})
}

// start has iptables list a chain, and returns a function that waits for that.
func (l *look) start(key chainKey) (wait func() (listedChain, error)) {
	var out strings.Builder
	missing := false
	ended := execution{
		path: l.list, args: []string{"-t", key.table, "-S", key.name}, stdout: &out, timeout: saveTimeout,
		explain: func(stderr string) error {
			missing = slices.ContainsFunc(noChain, func(text string) bool { return strings.Contains(stderr, text) })
			return explainSave(stderr)
		},
	}.start(l.ctx)
	return func() (c listedChain, err error) {
		if err := ended(); err != nil && !missing {
			return c, err
		}
		c.there = !missing
		for line := range strings.Lines(out.String()) {
			if rule, is := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "-A "+key.name+" "); is {
				c.rules = append(c.rules, rule)
			}
		}
		return c, nil
	}
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

// mostChains bounds the chains of a Service that are listed: each is one run of iptables.
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

// shared follows the chains for ranges of addresses to a rule, as a packet does.
func (l *look) shared(out *status.Held, p place, r rule) {
	at := shared[p]
	name := at.chain
	for {
		have := l.chain(at.table, name)
		if !have.there {
			out.Wrong = append(out.Wrong, fmt.Sprintf("chain %s of table %s is not there", name, at.table))
			return
		}
		if slices.Contains(have.rules, r.text) {
			out.Meets = append(out.Meets, fmt.Sprintf("%s %s: %s", at.table, name, r.text))
			return
		}
		next := ""
		for _, rule := range have.rules {
			if to := rangeChain(rule, at.ranges, r.At.Addr()); to != "" && to != name {
				next = to
			}
		}
		if next == "" {
			out.Wrong = append(out.Wrong, fmt.Sprintf("chain %s of table %s has no rule %s", name, at.table, r.text))
			return
		}
		name = next
	}
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
