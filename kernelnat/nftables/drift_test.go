package nftables

import (
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/status"
)

func (h host) drift(state kernelnat.State, family cluster.Family) (out []status.Drift) {
	h.Helper()
	h.do(func() error {
		all, err := Drift(h.Context(), map[cluster.Family]kernelnat.State{family: state}, settings)
		out = all[family]
		return err
	})
	return out
}

// What somebody has changed is what a start would write: it is told whose it is, and told no
// more when a start has written it. To tell changes nothing.
func TestDrift(t *testing.T) {
	for _, family := range cluster.Families {
		t.Run(family.String(), func(t *testing.T) {
			h, state := newHost(t), stateOf(family)
			if all := h.drift(state, family); len(all) < 50 || all[0] != (status.Drift{Change: status.DriftAdd, Text: "table " + language{family}.ip() + " clusterip"}) {
				t.Errorf("an empty kernel: %+v", all)
			}
			if got := h.nft("", "list", "ruleset"); got != "" {
				t.Errorf("it has written\n%s", got)
			}
			h.synced(state, family)
			if all := h.drift(state, family); len(all) > 0 {
				t.Fatalf("as it was written: %+v", all)
			}
			for name, c := range driftCases(family) {
				commands := strings.ReplaceAll(c.commands, "TABLE", language{family}.ip()+" clusterip")
				h.nft(commands, "-f", "-")
				before := lasting(h)
				got := h.drift(state, family)
				c.want.text = strings.ReplaceAll(c.want.text, "TABLE", language{family}.ip()+" clusterip")
				if c.most > 0 && !slices.ContainsFunc(got, c.want.in) || len(got) > c.most {
					t.Errorf("%s: %+v, want at most %d with %+v", name, got, c.most, c.want)
				}
				if !slices.Equal(before, lasting(h)) {
					t.Errorf("%s: looking has changed the table", name)
				}
				if written := h.synced(state, family); (len(written) > 0) != (len(got) > 0) {
					t.Errorf("%s: a start writes %q, and %+v was told", name, written, got)
				}
				if got := h.drift(state, family); len(got) > 0 {
					t.Errorf("%s: after a start %+v", name, got)
				}
			}
		})
	}
}

// lasting is the table without what passes by itself.
func lasting(h host) []string {
	return slices.DeleteFunc(listed(h), func(line string) bool { return strings.Contains(line, "expires") })
}

// likeness is what a Drift is to have.
type likeness struct {
	change        status.DriftChange
	service, text string
	was           string
}

func (l likeness) in(d status.Drift) bool {
	return d.Change == l.change && d.Service == l.service && strings.Contains(d.Text, l.text) && strings.Contains(d.Was, l.was)
}

type driftCase struct {
	commands string
	most     int
	want     likeness
}

// driftCases are what somebody does to a table, and what of it a start undoes.
func driftCases(family cluster.Family) map[string]driftCase {
	vip, pod, client := "10.43.0.1", "10.42.0.99", "10.42.0.98"
	if family == cluster.IPv6 {
		vip, pod, client = "fd00:10:43::1", "fd00:10:42::99", "fd00:10:42::98"
	}
	slot := vip + " . tcp . 80 . c100:1"
	return map[string]driftCase{
		"an element deleted": {"delete element TABLE known { " + vip + " . tcp . 80 }", 1, likeness{
			status.DriftAdd, "testing/plain", "known { " + vip + " . tcp . 80 }", "",
		}},
		"an element added": {"add element TABLE known { " + vip + " . tcp . 81 }", 1, likeness{
			status.DriftRemove, "", "known { " + vip + " . tcp . 81 }", "",
		}},
		"an element changed": {
			"delete element TABLE endpoints { " + slot + " }\nadd element TABLE endpoints { " + slot + " : " + pod + " . 81 }", 4, likeness{
				status.DriftChanged, "testing/plain", "endpoints { " + slot + " : ", pod + " . 81 }",
			},
		},
		"a rule deleted": {"flush chain TABLE nat-prerouting", 9, likeness{status.DriftAdd, "", "rule TABLE nat-prerouting ", ""}},
		"a rule added":   {"add rule TABLE services tcp dport 7 drop", 1, likeness{status.DriftRemove, "", "rule TABLE services", ""}},
		"a chain added":  {"add chain TABLE theirs", 1, likeness{status.DriftRemove, "", "chain TABLE theirs", ""}},
		"somebody's table": {
			"add table ip theirs\nadd chain ip theirs c { type filter hook forward priority 0; policy drop; }\nadd rule ip theirs c ip saddr 192.0.2.1 drop", 0, likeness{},
		},
		"a client remembered": {"add element TABLE clients { d000:2000 . " + client + " timeout 1h : d000:2001 }", 0, likeness{}},
	}
}
