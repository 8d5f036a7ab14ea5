package iptables

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// strays are rules that lead to our chains once too often, in a way that is ours no
// more, or twice within our chains. Two programs that write at one time, a restore of
// saved rules and an older kube-proxy leave them.
func strays() [][]string {
	var out [][]string
	for _, j := range jumps {
		out = append(out, append([]string{"-t", j.table, "-A", j.from}, words(j.rule)...))
	}
	portals := []string{"-m", "comment", "--comment", "kubernetes service portals", "-j", chainServices}
	return append(out,
		// In another order of its parts, twice: none is as we write it.
		append([]string{"-t", "filter", "-A", "OUTPUT"}, slices.Insert(slices.Clone(portals), 4, "-m", "conntrack", "--ctstate", "NEW")...),
		append([]string{"-t", "filter", "-A", "OUTPUT"}, slices.Insert(slices.Clone(portals), 4, "-m", "conntrack", "--ctstate", "NEW")...),
		// Where kube-proxy had them once, and where it never had.
		append([]string{"-t", "filter", "-I", "INPUT"}, portals...),
		append([]string{"-t", "filter", "-I", "FORWARD"}, portals...),
		[]string{"-t", "filter", "-I", "INPUT", "-m", "comment", "--comment", "kubernetes forwarding rules", "-j", chainForward},
		// With a match that no version of ours has (the kernel takes no chain with
		// DNAT at other hooks of nat).
		append([]string{"-t", "nat", "-I", "PREROUTING", "-p", "tcp"}, portals...),
		[]string{"-t", "filter", "-A", "INPUT", "-j", chainFirewall},
		[]string{"-t", "filter", "-I", "OUTPUT", "-j", chainFirewall},
		append([]string{"-t", "filter", "-A", chainFirewall}, words(loopbackRule)...),
		[]string{"-t", "nat", "-A", chainPostrouting, "-j", "MASQUERADE"},
		[]string{"-t", "filter", "-A", chainForward, "-j", chainServices},
	)
}

// Whatever leads to our chains too often is repaired, alone and all together, and what
// others have put there stays.
func TestStrayJumps(t *testing.T) {
	all := []plan.Service{pageService()}
	eachVariant(t, func(t *testing.T, h *host) {
		b := newBackend(t)
		sync := func() { t.Helper(); h.do(t, func() error { return b.Sync(t.Context(), all) }) }
		sync()
		// One of somebody else that lets packets pass, and one that leads to us.
		h.run(t, "iptables", "-A", "FORWARD", "-s", "192.0.2.0/24", "-j", "ACCEPT")
		h.run(t, "iptables", "-A", "OUTPUT", "-m", "comment", "--comment", "mine", "-j", chainForward)
		sync()
		want := h.saved(t)
		repaired := func(what string) {
			t.Helper()
			h.do(t, func() error {
				if b[cluster.IPv4].Untouched() {
					return fmt.Errorf("%s: it goes unseen", what)
				}
				return nil
			})
			sync()
			// The order of our jumps is history; that of our chains' rules is what a Sync
			// that writes nothing shows.
			diff(t, inAnyOrder(want), inAnyOrder(h.saved(t)))
			written := []string{}
			h.do(t, func() (err error) {
				written, err = b[cluster.IPv4].Sync(t.Context(), stateOf(all, cluster.IPv4))
				return err
			})
			if len(written) > 0 {
				t.Errorf("%s: written again: %q", what, written)
			}
		}
		for _, rule := range strays() {
			h.run(t, "iptables", rule...)
			repaired(strings.Join(rule, " "))
		}
		for _, rule := range strays() {
			h.run(t, "iptables", rule...)
		}
		repaired("all together")
	})
}

// Of a jump that is there twice the one stays that packets meet first.
func TestSecondJumpBehindForeignRules(t *testing.T) {
	eachVariant(t, func(t *testing.T, h *host) {
		b := newBackend(t)
		all := []plan.Service{pageService()}
		h.do(t, func() error { return b.Sync(t.Context(), all) })
		h.run(t, "iptables", "-t", "nat", "-A", "OUTPUT", "-d", "10.43.0.0/16", "-j", "ACCEPT")
		second := append([]string{"-t", "nat", "-A", "OUTPUT"}, words(jumps[0].rule)...)
		h.run(t, "iptables", second...)
		h.do(t, func() error { return b.Sync(t.Context(), all) })
		var got []string
		for line := range strings.Lines(h.run(t, "iptables", "-t", "nat", "-S", "OUTPUT")) {
			if strings.HasPrefix(line, "-A ") {
				got = append(got, line)
			}
		}
		if len(got) != 2 || !strings.Contains(got[0], chainServices) {
			t.Errorf("OUTPUT of nat is\n%s", strings.Join(got, ""))
		}
	})
}

func inAnyOrder(saved string) string {
	return strings.Join(slices.Sorted(strings.Lines(saved)), "")
}
