package explain

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/clusterip/clusterip/status"
	"github.com/clusterip/clusterip/test/clustertest"
)

// nat is one that has published something, and plans as the real one does.
type nat struct {
	published status.NAT
	planned   int // how often
}

func (n *nat) Facts(_ context.Context, _ *cluster.Service, family cluster.Family) status.FamilyFacts {
	out := status.FamilyFacts{Family: family, Backend: "nftables", NAT: status.NAT{Family: family}}
	if family == cluster.IPv4 {
		out.NAT = n.published
	}
	return out
}

func (n *nat) Plan(s *cluster.Service, common *status.FamilyFacts) (status.Planned, string) {
	n.planned++
	return status.Plan(s, common.Family, plan.Options{}, common.NAT), ""
}

func (n *nat) Flows([]status.FamilyFacts) *status.Flows { return nil }

// names has all that it is asked for.
type names struct{}

func (names) DNS() status.DNS              { return status.DNS{Zones: []string{"cluster.local."}, Serial: 7} }
func (names) Look(name string) status.Name { return status.Name{Name: name, Outcome: status.Found} }

// block returns a server block with Services called ns-A/service-B, each with an endpoint.
func block(services int) (*Parts, *nat) {
	store := cluster.NewStore()
	u := cluster.Update{Synced: true}
	for i := range services {
		u.Services = append(u.Services, clustertest.Changed(service(i, "10.42.0.8"))...)
	}
	store.Apply(u)
	n := &nat{published: status.NAT{Family: cluster.IPv4, Updated: time.Now()}}
	return &Parts{Store: store, Names: names{}, NAT: n, Source: func() status.Source { return status.Source{Synced: true, Place: "a test", Live: true} }}, n
}

func service(i int, endpoints ...string) *cluster.Service {
	s := clustertest.Service(fmt.Sprintf("ns-%d/service-%03d", i%10, i), netip.AddrFrom4([4]byte{10, 43, byte(i >> 8), byte(i)}).String())
	return cluster.New(s, clustertest.Ready(endpoints...))
}

func change(p *Parts, changed ...cluster.ServiceUpdate) {
	p.Store.Apply(cluster.Update{Services: changed})
}

func list(c *Catalogue, q Search) status.List { return c.List(context.Background(), q) }

// Pages, and what is searched for.
func TestList(t *testing.T) {
	p, _ := block(250)
	c := NewCatalogue([]*Parts{p})
	for _, test := range []struct {
		search   Search
		matching int
		page     int
		rows     int
		first    string
	}{
		{Search{}, 250, 1, 100, "ns-0/service-000"},
		{Search{Page: 3}, 250, 3, 50, "ns-8/service-008"},
		{Search{Page: 99}, 250, 3, 50, "ns-8/service-008"},
		{Search{Page: -1}, 250, 1, 100, "ns-0/service-000"},
		{Search{Text: " NS-7 "}, 25, 1, 25, "ns-7/service-007"},
		{Search{Text: "7/service-01"}, 1, 1, 1, "ns-7/service-017"},
		{Search{Text: "-249"}, 1, 1, 1, "ns-9/service-249"},
		{Search{Text: "10.43.0.9"}, 1, 1, 1, "ns-9/service-009"},
		{Search{Text: "10.42.0.8"}, 250, 1, 100, "ns-0/service-000"},
		{Search{Text: "nothing/"}, 0, 1, 0, ""},
		{Search{Wrong: true}, 0, 1, 0, ""},
	} {
		l := list(c, test.search)
		if l.Total != 250 || l.Matching != test.matching || l.Page != test.page || len(l.Rows) != test.rows || test.rows > 0 && l.Rows[0].Name != test.first {
			t.Errorf("%+v: total %d, matching %d, page %d of %d, %d rows", test.search, l.Total, l.Matching, l.Page, l.Pages, len(l.Rows))
		}
	}
	row := list(c, Search{Text: "service-017"}).Rows[0]
	if !row.Works || row.Counting != 1 || len(row.Frontends) != 1 || row.Endpoints[0].Share == nil || row.Names[0] != "service-017.ns-7.svc.cluster.local." {
		t.Errorf("row: %+v", row)
	}
}

// What has changed is judged again, and nothing else; and what has not is not.
func TestJudged(t *testing.T) {
	p, n := block(250)
	c := NewCatalogue([]*Parts{p})
	step := func(what string, planned, wrong int) {
		t.Helper()
		n.planned = 0
		frontends, gotWrong := c.counts(context.Background(), p)
		if n.planned != planned || gotWrong != wrong || frontends != len(p.Store.Services()) {
			t.Errorf("%s: %d planned, want %d; %d wrong, want %d; %d frontends", what, n.planned, planned, gotWrong, wrong, frontends)
		}
		for _, r := range list(c, Search{Wrong: true}).Rows {
			if r.Works {
				t.Errorf("%s: %s is listed as wrong, and works", what, r.Name)
			}
		}
	}
	step("at first", 250, 0)
	step("nothing has changed", 0, 0)
	change(p, clustertest.Changed(service(3), service(4))...)
	step("two have no endpoints", 2, 2)
	change(p, clustertest.Gone("ns-3/service-003")...)
	step("one of them is gone", 0, 1)
	change(p, clustertest.Changed(service(3, "10.42.0.9"))...)
	step("and comes back", 1, 1)
	key := plan.Key{At: netip.MustParseAddrPort("10.43.0.5:80"), Protocol: cluster.TCP}
	n.published.Short = []plan.Shortfall{{Service: clustertest.Name("ns-5/service-005"), Refused: []plan.Refusal{{Key: key, Why: plan.IsHeld, Holder: clustertest.Name("a/b")}}}}
	step("one is refused its frontend", 1, 2)
	step("and still is", 0, 2)
	n.published.Short = nil
	step("it gets it", 1, 1)
	n.published.Waiting = []status.Waiting{{Service: clustertest.Name("ns-6/service-006"), Why: "no memory"}}
	step("one waits", 1, 2)
	n.published.Waiting = nil
	step("no more", 1, 1)
	n.published.Node = plan.Node{Name: "node-b"}
	step("the Node is another", 250, 1)
	n.published.Error = "no netlink"
	step("no write succeeds", 250, 250)
}

// Server blocks with the same objects are one in a list, the one that has NAT.
func TestSharedStore(t *testing.T) {
	p, _ := block(3)
	bare := *p
	bare.NAT = nil
	c := NewCatalogue([]*Parts{&bare, p})
	if l := list(c, Search{}); l.Total != 3 || len(l.Rows[0].Frontends) != 1 {
		t.Errorf("%+v", l)
	}
	o := c.Overview(context.Background())
	if len(o.Blocks) != 2 || o.Blocks[0].NAT != nil || o.Blocks[1].Frontends != 3 || o.Blocks[1].Serial != 7 || o.Blocks[1].Condition != status.OK {
		t.Errorf("%+v", o.Blocks)
	}
}

// What a page costs: the first time, when nothing has changed, and when one Service has.
func BenchmarkCatalogue(b *testing.B) {
	for _, size := range []int{10_000, 100_000} {
		p, _ := block(size)
		b.Run(fmt.Sprintf("first/%d", size), func(b *testing.B) {
			for b.Loop() {
				list(NewCatalogue([]*Parts{p}), Search{})
			}
		})
		c := NewCatalogue([]*Parts{p})
		b.Run(fmt.Sprintf("again/%d", size), func(b *testing.B) {
			for b.Loop() {
				list(c, Search{})
			}
		})
		b.Run(fmt.Sprintf("changed/%d", size), func(b *testing.B) {
			for b.Loop() {
				change(p, clustertest.Changed(service(3, "10.42.0.9"))...)
				list(c, Search{})
			}
		})
	}
}
