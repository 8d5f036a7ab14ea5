package difference_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/difference"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/clusterip/clusterip/plugin/clusterip/zone"
	"github.com/clusterip/clusterip/test/clustertest"
)

// stateOf has the plans that a node has of these Services.
func stateOf(services ...*cluster.Service) difference.State {
	slices.SortFunc(services, func(a, b *cluster.Service) int { return a.Name.Compare(b.Name) })
	byName := make(map[cluster.ServiceName]*cluster.Service)
	for _, s := range services {
		byName[s.Name] = s
	}
	out := difference.State{Services: services}
	for _, family := range cluster.Families {
		table := plan.NewTable(family, plan.Options{})
		table.Apply(plan.Update{Services: byName, Node: plan.Node{Name: "here"}})
		out.Plans = append(out.Plans, table.Plans())
	}
	return out
}

func names() *zone.Index { return zone.New([]string{"cluster.local."}, zone.Options{TTL: 5}) }

// short says in one line each what is different.
func short(before, after difference.State) []string {
	var out []string
	stops := map[bool]string{true: " stops"}
	for s := range difference.Between(before, after, names()) {
		out = append(out, fmt.Sprintf("%c %s", s.Mark, s.Name))
		for _, n := range s.Names {
			var types []string
			for _, r := range n.Records {
				types = append(types, fmt.Sprintf("%s%v%v", r.Type, r.Before, r.After))
			}
			out = append(out, fmt.Sprintf("%c %s %s%s", n.Mark, strings.TrimSuffix(n.Name, ".svc.cluster.local"), strings.Join(types, " "), stops[n.Stops]))
		}
		for _, f := range s.Frontends {
			out = append(out, fmt.Sprintf("%c %s %s%s%s%s", f.Mark, f.Key, target(f.Before), target(f.After), fmt.Sprint(f.From, f.To), stops[f.Stops]))
		}
	}
	return out
}

func target(t *difference.Target) string {
	if t == nil {
		return "[]"
	}
	verdict := map[plan.Verdict]string{plan.Forward: "", plan.Reject: "reject", plan.Drop: "drop"}[t.Verdict]
	return fmt.Sprintf("%s%v%s", verdict, t.Endpoints, strings.Join(t.Terms, ";"))
}

// with changes a Service.
func with(s cluster.Service, change func(*cluster.Service)) cluster.Service {
	change(&s)
	return s
}

func nodePort(s *cluster.Service) {
	s.Ports = slices.Clone(s.Ports)
	s.Ports[0].NodePort = 30080
}

func onNode(endpoints []cluster.Endpoint, node string) []cluster.Endpoint {
	for i := range endpoints {
		endpoints[i].Topology = &cluster.Topology{NodeName: node}
	}
	return endpoints
}

func called(endpoints []cluster.Endpoint, hostname string) []cluster.Endpoint {
	for i := range endpoints {
		endpoints[i].Hostname = hostname
	}
	return endpoints
}

func TestBetween(t *testing.T) {
	const vip, other = "10.43.0.7", "10.43.0.8"
	web := clustertest.Service("a/web", vip)
	db := clustertest.Service("a/db")
	alias := cluster.Service{Name: clustertest.Name("a/web"), Kind: cluster.KindExternalName, ExternalName: "web.example.org"}
	local := with(web, func(s *cluster.Service) { s.InternalLocal = true })
	ready := clustertest.Ready
	const nobody = "/ /"
	for _, c := range []struct {
		name          string
		before, after []*cluster.Service
		want          []string
	}{
		{name: "nothing"},
		{
			name:   "the same, made twice",
			before: []*cluster.Service{cluster.New(web, ready("10.42.0.7"))}, after: []*cluster.Service{cluster.New(web, ready("10.42.0.7"))},
		},
		{
			name:  "one comes",
			after: []*cluster.Service{cluster.New(web, ready("10.42.0.7"))},
			want: []string{
				"+ a/web",
				"+ web.a A[][10.43.0.7]",
				"+ _http._tcp.web.a SRV[][80 web.a.svc.cluster.local]",
				"+ 10.43.0.7:80/TCP [][10.42.0.7:8080]" + nobody,
			},
		},
		{
			name:   "one goes",
			before: []*cluster.Service{cluster.New(web, ready("10.42.0.7"))},
			want: []string{
				"- a/web",
				"- web.a A[10.43.0.7][] stops",
				"- _http._tcp.web.a SRV[80 web.a.svc.cluster.local][] stops",
				"- 10.43.0.7:80/TCP [10.42.0.7:8080][]" + nobody + " stops",
			},
		},
		{
			name:   "one without endpoints goes: nothing that works",
			before: []*cluster.Service{cluster.New(web)},
			want: []string{
				"- a/web",
				"- web.a A[10.43.0.7][]",
				"- _http._tcp.web.a SRV[80 web.a.svc.cluster.local][]",
				"- 10.43.0.7:80/TCP reject[][]" + nobody,
			},
		},
		{
			name:   "the last endpoint goes: the name stays and nobody is there",
			before: []*cluster.Service{cluster.New(web, ready("10.42.0.7"))}, after: []*cluster.Service{cluster.New(web)},
			want: []string{
				"~ a/web",
				"~ web.a A[10.43.0.7][10.43.0.7] stops",
				"~ _http._tcp.web.a SRV[80 web.a.svc.cluster.local][80 web.a.svc.cluster.local] stops",
				"~ 10.43.0.7:80/TCP [10.42.0.7:8080]reject[]" + nobody + " stops",
			},
		},
		{
			name:   "another address: the name goes on, the old address does not",
			before: []*cluster.Service{cluster.New(web, ready("10.42.0.7"))},
			after:  []*cluster.Service{cluster.New(clustertest.Service("a/web", other), ready("10.42.0.7"))},
			want: []string{
				"~ a/web",
				"~ web.a A[10.43.0.7][10.43.0.8]",
				"- 10.43.0.7:80/TCP [10.42.0.7:8080][]" + nobody + " stops",
				"+ 10.43.0.8:80/TCP [][10.42.0.7:8080]" + nobody,
			},
		},
		{
			name:   "the address goes to another Service: it goes on",
			before: []*cluster.Service{cluster.New(web, ready("10.42.0.7"))},
			after:  []*cluster.Service{cluster.New(clustertest.Service("b/next", vip), ready("10.42.0.7"))},
			want: []string{
				"- a/web",
				"- web.a A[10.43.0.7][] stops",
				"- _http._tcp.web.a SRV[80 web.a.svc.cluster.local][] stops",
				"- 10.43.0.7:80/TCP [10.42.0.7:8080][]/ b/next",
				"+ b/next",
				"+ next.b A[][10.43.0.7]",
				"+ _http._tcp.next.b SRV[][80 next.b.svc.cluster.local]",
				"+ 10.43.0.7:80/TCP [][10.42.0.7:8080]a/web /",
			},
		},
		{
			name:   "the address goes to a Service without endpoints: it stops",
			before: []*cluster.Service{cluster.New(web, ready("10.42.0.7"))},
			after:  []*cluster.Service{cluster.New(clustertest.Service("b/next", vip))},
			want: []string{
				"- a/web",
				"- web.a A[10.43.0.7][] stops",
				"- _http._tcp.web.a SRV[80 web.a.svc.cluster.local][] stops",
				"- 10.43.0.7:80/TCP [10.42.0.7:8080][]/ b/next stops",
				"+ b/next",
				"+ next.b A[][10.43.0.7]",
				"+ _http._tcp.next.b SRV[][80 next.b.svc.cluster.local]",
				"+ 10.43.0.7:80/TCP []reject[]a/web /",
			},
		},
		{
			name:   "an endpoint comes, one goes, and clients are to stay with theirs",
			before: []*cluster.Service{cluster.New(web, ready("10.42.0.7", "10.42.0.8"))},
			after:  []*cluster.Service{cluster.New(with(web, func(s *cluster.Service) { s.AffinitySeconds = 60 }), ready("10.42.0.8", "10.42.0.9"))},
			want: []string{
				"~ a/web",
				"~ 10.43.0.7:80/TCP [10.42.0.7:8080 10.42.0.8:8080][10.42.0.8:8080 10.42.0.9:8080]sessionAffinity ClientIP for 60 s" + nobody,
			},
		},
		{
			name:   "a NodePort comes",
			before: []*cluster.Service{cluster.New(web, ready("10.42.0.7"))},
			after:  []*cluster.Service{cluster.New(with(web, nodePort), ready("10.42.0.7"))},
			want:   []string{"~ a/web", "+ NodePort 30080/TCP [][10.42.0.7:8080]" + nobody},
		},
		{
			name:   "IPv6 goes: those who ask for it find nothing",
			before: []*cluster.Service{cluster.New(clustertest.Service("a/web", vip, "fd00::7"), ready("10.42.0.7", "fd01::7"))},
			after:  []*cluster.Service{cluster.New(web, ready("10.42.0.7"))},
			want: []string{
				"~ a/web",
				"~ web.a AAAA[fd00::7][] stops",
				"- [fd00::7]:80/TCP [[fd01::7]:8080][]" + nobody + " stops",
			},
		},
		{
			name:   "one of two headless endpoints goes",
			before: []*cluster.Service{cluster.New(db, ready("10.42.0.7", "10.42.0.8"))}, after: []*cluster.Service{cluster.New(db, ready("10.42.0.7"))},
			want: []string{
				"~ a/db",
				"~ db.a A[10.42.0.7 10.42.0.8][10.42.0.7]",
				"~ _http._tcp.db.a SRV[8080 10-42-0-7.db.a.svc.cluster.local 8080 10-42-0-8.db.a.svc.cluster.local][8080 10-42-0-7.db.a.svc.cluster.local]",
			},
		},
		{
			name:   "a headless endpoint with a hostname goes",
			before: []*cluster.Service{cluster.New(db, called(ready("10.42.0.7"), "db-0"), called(ready("10.42.0.8"), "db-1"))},
			after:  []*cluster.Service{cluster.New(db, called(ready("10.42.0.9"), "db-0"))},
			want: []string{
				"~ a/db",
				"~ db.a A[10.42.0.7 10.42.0.8][10.42.0.9]",
				"~ db-0.db.a A[10.42.0.7][10.42.0.9]",
				"- db-1.db.a A[10.42.0.8][] stops",
				"~ _http._tcp.db.a SRV[8080 db-0.db.a.svc.cluster.local 8080 db-1.db.a.svc.cluster.local][8080 db-0.db.a.svc.cluster.local]",
			},
		},
		{
			name:   "a headless Service without endpoints has no names",
			before: []*cluster.Service{cluster.New(db)}, want: []string{"- a/db"},
		},
		{
			name:   "an alias in place of addresses, and back",
			before: []*cluster.Service{cluster.New(web, ready("10.42.0.7"))}, after: []*cluster.Service{cluster.New(alias)},
			want: []string{
				"~ a/web",
				"~ web.a A[10.43.0.7][] CNAME[][web.example.org]",
				"- _http._tcp.web.a SRV[80 web.a.svc.cluster.local][] stops",
				"- 10.43.0.7:80/TCP [10.42.0.7:8080][]" + nobody + " stops",
			},
		},
		{
			name:   "addresses in place of an alias",
			before: []*cluster.Service{cluster.New(alias)}, after: []*cluster.Service{cluster.New(web, ready("10.42.0.7"))},
			want: []string{
				"~ a/web",
				"~ web.a A[][10.43.0.7] CNAME[web.example.org][]",
				"+ _http._tcp.web.a SRV[][80 web.a.svc.cluster.local]",
				"+ 10.43.0.7:80/TCP [][10.42.0.7:8080]" + nobody,
			},
		},
		{
			name:   "an alias goes",
			before: []*cluster.Service{cluster.New(alias)},
			want:   []string{"- a/web", "- web.a CNAME[web.example.org][] stops"},
		},
		{
			name:   "policy Local, and the endpoints are on other nodes now",
			before: []*cluster.Service{cluster.New(local, onNode(ready("10.42.0.7"), "here"))},
			after:  []*cluster.Service{cluster.New(local, onNode(ready("10.42.0.7"), "there"))},
			want: []string{
				"~ a/web",
				"~ 10.43.0.7:80/TCP [10.42.0.7:8080]internalTrafficPolicy Localdrop[]internalTrafficPolicy Local" + nobody + " stops",
			},
		},
		{
			name:   "policy Local, on other nodes before and here now",
			before: []*cluster.Service{cluster.New(local, onNode(ready("10.42.0.7"), "there"))},
			after:  []*cluster.Service{cluster.New(local, onNode(ready("10.42.0.7"), "here"))},
			want: []string{
				"~ a/web",
				"~ 10.43.0.7:80/TCP drop[]internalTrafficPolicy Local[10.42.0.7:8080]internalTrafficPolicy Local" + nobody,
			},
		},
		{
			name:   "only a port that the endpoints do not have",
			before: []*cluster.Service{cluster.New(web, ready("10.42.0.7"))},
			after: []*cluster.Service{cluster.New(with(web, func(s *cluster.Service) {
				s.Ports = []cluster.Port{{Name: "http", Protocol: cluster.UDP, Port: 80}}
			}), ready("10.42.0.7"))},
			want: []string{
				"~ a/web",
				"- _http._tcp.web.a SRV[80 web.a.svc.cluster.local][] stops",
				"+ _http._udp.web.a SRV[][80 web.a.svc.cluster.local]",
				"- 10.43.0.7:80/TCP [10.42.0.7:8080][]" + nobody + " stops",
				"+ 10.43.0.7:80/UDP []reject[]" + nobody,
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := short(stateOf(c.before...), stateOf(c.after...))
			if !slices.Equal(got, c.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

// What comes one way goes the other, and what is the same is so both ways.
func TestBetweenBackwards(t *testing.T) {
	states := []difference.State{
		{},
		stateOf(cluster.New(clustertest.Service("a/web", "10.43.0.7"), clustertest.Ready("10.42.0.7")), cluster.New(clustertest.Service("a/db"), clustertest.Ready("10.42.0.8"))),
		stateOf(cluster.New(clustertest.Service("a/web", "10.43.0.9"), clustertest.Ready("10.42.0.7", "10.42.0.9")), cluster.New(clustertest.Service("b/web", "10.43.0.7"))),
		stateOf(cluster.New(with(clustertest.Service("b/web", "10.43.0.7"), nodePort), clustertest.Ready("10.42.0.7"))),
	}
	totals := func(a, b difference.State) (t difference.Totals) {
		for s := range difference.Between(a, b, names()) {
			t.Add(&s)
		}
		return t
	}
	for i, a := range states {
		for j, b := range states {
			there, back := totals(a, b), totals(b, a)
			for _, c := range []struct{ there, back difference.Count }{{there.Services, back.Services}, {there.Names, back.Names}, {there.Frontends, back.Frontends}} {
				if c.there.Added != c.back.Removed || c.there.Removed != c.back.Added {
					t.Errorf("from %d to %d there is %+v, and back %+v", i, j, there, back)
				}
			}
			if i == j && there != (difference.Totals{}) {
				t.Errorf("from %d to itself there is %+v", i, there)
			}
		}
	}
}

// Whoever has seen enough stops.
func TestBetweenEnds(t *testing.T) {
	seen := 0
	for range difference.Between(difference.State{}, stateOf(cluster.New(clustertest.Service("a/a", "10.43.0.1")), cluster.New(clustertest.Service("a/b", "10.43.0.2"))), names()) {
		seen++
		break
	}
	if seen != 1 {
		t.Errorf("%d Services were yielded", seen)
	}
}

// BenchmarkBetween compares many Services with themselves, of which one is different. What one
// costs does not depend on how many there are.
func BenchmarkBetween(b *testing.B) {
	for _, n := range []int{1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			made := func(different int) difference.State {
				services := make([]*cluster.Service, n)
				for i := range services {
					endpoints := clustertest.Ready(fmt.Sprintf("11.%d.%d.%d", i>>16, i>>8&255, i&255), fmt.Sprintf("12.%d.%d.%d", i>>16, i>>8&255, i&255))
					if i == different {
						endpoints = endpoints[:1]
					}
					services[i] = cluster.New(clustertest.Service(fmt.Sprintf("a/s%d", i), fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)), endpoints)
				}
				return stateOf(services...)
			}
			before, after := made(-1), made(n/2)
			for b.Loop() {
				found := 0
				for range difference.Between(before, after, names()) {
					found++
				}
				if found != 1 {
					b.Fatalf("%d Services are different", found)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/service")
		})
	}
}
