package iptables

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/backendtest"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/clusterip/clusterip/test/clustertest"
)

// looked returns what is wrong with some Services, besides what others would miss too.
func (h *host) looked(t *testing.T, all []plan.Service, family cluster.Family) (wrong []string) {
	t.Helper()
	state := stateOf(all, family)
	for _, p := range state.Services {
		h.do(t, func() error {
			k, err := Look(t.Context(), family, p, state, netfilter.Settings{})
			switch {
			case err != nil:
				return err
			case k == nil:
				wrong = append(wrong, "there are no chains")
				return nil
			}
			wrong = append(wrong, k.Wrong...)
			for i, held := range k.Frontends {
				if len(held.Wrong) == 0 && len(held.Meets) == 0 {
					t.Errorf("%s: a packet meets nothing", p.Frontends[i].Key)
				}
				wrong = append(wrong, held.Wrong...)
			}
			return nil
		})
	}
	return wrong
}

// What Sync has written is as planned, whichever Services there are, also where the rules of a
// place are spread over chains for ranges; and whichever chain of a Service loses a rule, that
// is seen.
func TestLook(t *testing.T) {
	eachVariant(t, func(t *testing.T, h *host) {
		page := []plan.Service{pageService()}
		all := slices.Concat(page, varied(), externals(), services(leafSize+8, 1, 2))
		few := all[:len(all)-leafSize]
		if wrong := h.looked(t, few[:1], cluster.IPv4); len(wrong) != 1 || wrong[0] != "there are no chains" {
			t.Errorf("without any rules: %q", wrong)
		}
		b := newBackend(t)
		h.do(t, func() error { return b.Sync(t.Context(), all) })
		for _, family := range cluster.Families {
			if wrong := h.looked(t, few, family); len(wrong) > 0 {
				t.Fatalf("%s: what was written is wrong: %q", family, wrong)
			}
		}
		seen := 0
		for line := range strings.Lines(h.run(t, "iptables-save", "-t", "nat")) {
			name, _, _ := strings.Cut(strings.TrimPrefix(line, ":"), " ")
			if !strings.HasPrefix(line, ":KUBE-SEP-") && !strings.HasPrefix(line, ":KUBE-SVC-") || strings.HasPrefix(name, prefixRange) || !isOf(page[0], name) {
				continue
			}
			seen++
			h.run(t, "iptables", "-t", "nat", "-D", name, "1")
			if wrong := h.looked(t, page, cluster.IPv4); len(wrong) == 0 {
				t.Errorf("nobody misses a rule of chain %s", name)
			}
			h.do(t, func() error { return b.Sync(t.Context(), all) })
		}
		if seen < 3 {
			t.Errorf("the notes' Service has %d chains", seen)
		}
		h.run(t, "iptables", "-t", "nat", "-D", "PREROUTING", "1")
		if wrong := h.looked(t, page, cluster.IPv4); len(wrong) != 1 || !strings.Contains(wrong[0], "chain PREROUTING of table nat lacks the rule") {
			t.Errorf("without the jump: %q", wrong)
		}
		h.run(t, "iptables", "-t", "nat", "-F", chainServices)
		if wrong := h.looked(t, page, cluster.IPv4); len(wrong) < 2 {
			t.Errorf("without the rules of %s: %q", chainServices, wrong)
		}
	})
}

// isOf reports whether a chain is one of a Service.
func isOf(p plan.Service, name string) bool {
	return slices.ContainsFunc(render(p).chains, func(c chain) bool { return c.name == name })
}

// To look at a Service with very many ports costs what its size is, not its square.
func TestLookAtManyPorts(t *testing.T) {
	took := func(ports int) time.Duration {
		of := make([]plan.Service, ports)
		for i := range of {
			o := backendtest.Outside{Verdict: plan.Forward, NodePort: uint16(20000 + i)}
			of[i] = o.Add(backendtest.Port(cluster.TCP, netip.AddrPortFrom(netip.MustParseAddr("10.43.0.1"), uint16(i+1)), netip.MustParseAddrPort("10.42.0.1:80")))
			of[i].Pools[0].Port = fmt.Sprint("p", i)
		}
		p := backendtest.Named("large", of...)
		planned := render(p)
		l := newLookOf(newListing(t.Context(), nil))
		for at, rules := range planned.shared {
			var texts []string
			for _, r := range rules {
				texts = append(texts, r.text)
			}
			l.chains[chainKey{shared[at].table, shared[at].chain}] = listedChain{texts, true}
		}
		for _, c := range planned.chains {
			l.chains[chainKey{tableNAT, c.name}] = listedChain{c.rules, true}
		}
		for _, j := range jumps {
			l.chains[chainKey{j.table, j.from}] = listedChain{nil, true}
		}
		began := clustertest.ProcessorTime()
		l.plan(planned)
		l.expect(planned, &p)
		for i := range p.Frontends {
			if held, err := l.frontend(&p, &p.Frontends[i]); err != nil || len(held.Wrong) > 0 || len(held.Meets) == 0 {
				t.Fatalf("%s: %v, %q, %q", p.Frontends[i].Key, err, held.Wrong, held.Meets)
			}
		}
		return clustertest.ProcessorTime() - began
	}
	const few, times = 250, 16
	one := min(took(few), took(few), took(few))
	if many := took(times * few); many > 4*times*one {
		t.Errorf("%d ports take %v, and %d times as many %v", few, one, times, many)
	}
}
