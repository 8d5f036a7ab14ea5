package iptables

import (
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/clusterip/clusterip/status"
)

func (h *host) drift(t *testing.T, state kernelnat.State, family cluster.Family) (out []status.Drift) {
	t.Helper()
	h.do(t, func() error {
		all, err := Drift(t.Context(), map[cluster.Family]kernelnat.State{family: state}, netfilter.Settings{MasqueradeBit: netfilter.DefaultMasqueradeBit})
		out = all[family]
		return err
	})
	return out
}

// What somebody has changed is what a start would write: it is told whose it is, and told no
// more when a start has written it. To tell changes nothing.
func TestDrift(t *testing.T) {
	eachVariant(t, func(t *testing.T, h *host) {
		all := slices.Concat([]plan.Service{pageService()}, varied(), externals(), services(leafSize+8, 1, 2))
		saved := func() string { return counters.ReplaceAllString(h.run(t, "iptables-save"), "") }
		state := stateOf(all, cluster.IPv4)
		empty := saved()
		if got := h.drift(t, state, cluster.IPv4); len(got) < 100 || got[0].Change != status.DriftAdd || !strings.HasPrefix(got[0].Text, "-t ") {
			t.Errorf("an empty kernel: %d, %+v", len(got), got[:min(3, len(got))])
		}
		if saved() != empty {
			t.Error("it has written")
		}
		b := newBackend(t)
		h.do(t, func() error { return b.Sync(t.Context(), all) })
		for _, family := range cluster.Families {
			if got := h.drift(t, stateOf(all, family), family); len(got) > 0 {
				t.Fatalf("%s: as it was written: %+v", family, got)
			}
		}
		const page = "testing/echo-server-clusterip"
		for name, c := range map[string]struct {
			args string // of iptables
			most int
			want []status.Drift
		}{
			"a rule deleted": {"-t nat -D KUBE-SVC-EF6QQNEDGUCXH6TD 2", 1, []status.Drift{{Change: status.DriftAdd, Service: page, Text: "-t nat -A KUBE-SVC-EF6QQNEDGUCXH6TD "}}},
			"a chain flushed": {"-t nat -F KUBE-SEP-OCROO4CKUGE2RS3Z", 2, []status.Drift{
				{Change: status.DriftAdd, Service: page, Text: "-t nat -A KUBE-SEP-OCROO4CKUGE2RS3Z -p tcp"},
				{Change: status.DriftAdd, Service: page, Text: "-t nat -A KUBE-SEP-OCROO4CKUGE2RS3Z -s 10.42.0.49/32"},
			}},
			"a rule added":        {"-t nat -I KUBE-SERVICES -s 192.0.2.1 -j ACCEPT", 1, []status.Drift{{Change: status.DriftRemove, Text: "-t nat -A KUBE-SERVICES -s 192.0.2.1/32 -j ACCEPT", Of: "another's, or of other options"}}},
			"a jump deleted":      {"-t nat -D PREROUTING 1", 1, []status.Drift{{Change: status.DriftAdd, Text: "-t nat -A PREROUTING "}}},
			"a chain added":       {"-t nat -N KUBE-SEP-AAAAAAAAAAAAAAAA", 1, []status.Drift{{Change: status.DriftRemove, Text: "-t nat -N KUBE-SEP-AAAAAAAAAAAAAAAA"}}},
			"a chain of others":   {"-t nat -N THEIRS", 0, nil},
			"a rule of others":    {"-A FORWARD -s 192.0.2.1 -j DROP", 0, nil},
			"a policy of another": {"-P FORWARD DROP", 0, nil},
		} {
			h.run(t, "iptables", strings.Fields(c.args)...)
			before := saved()
			got := h.drift(t, state, cluster.IPv4)
			for _, want := range c.want {
				if !slices.ContainsFunc(got, func(d status.Drift) bool {
					return d.Change == want.Change && d.Service == want.Service && d.Of == want.Of && strings.HasPrefix(d.Text, want.Text)
				}) {
					t.Errorf("%s: %+v lacks %+v", name, got, want)
				}
			}
			if len(got) > c.most {
				t.Errorf("%s: %+v", name, got)
			}
			if saved() != before {
				t.Errorf("%s: looking has changed the rules", name)
			}
			h.do(t, func() error { return b.Sync(t.Context(), all) })
			if got := h.drift(t, state, cluster.IPv4); len(got) > 0 {
				t.Errorf("%s: after a start %+v", name, got)
			}
		}
		if got := h.drift(t, kernelnat.State{Services: state.Services[1:]}, cluster.IPv4); len(got) < 6 || slices.ContainsFunc(got, func(d status.Drift) bool { return d.Service != page && d.Service != "" }) {
			t.Errorf("a Service that goes: %+v", got)
		}
	})
}
