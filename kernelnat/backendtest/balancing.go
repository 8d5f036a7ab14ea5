package backendtest

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// shares asks so often, and says how often who has answered.
func (s *suite) shares(from *netlab.Host, network string, to netip.AddrPort, times int) map[string]int {
	s.Helper()
	out := make(map[string]int)
	for range times {
		out[s.answer(from, network, to).Host]++
	}
	return out
}

// Of two endpoints of weights 1 and 3, from the whole cluster or on this node, the second
// gets three of four connections. Weights that change are taken over.
func (s *suite) weights() {
	s.families(func(s *suite, family cluster.Family) {
		light, heavy := s.pods[0], s.pods[1]
		anywhere := s.port(cluster.TCP, 80, family, light, heavy)
		local := s.port(cluster.UDP, 80, family)
		local.Frontends[0].Local, local.Pools[0].Local = true, at(family, s.pods[:2])
		even := Named("weighted", anywhere, local)
		given := Named("weighted", anywhere, local)
		given.Pools[0].Weights, given.Pools[1].LocalWeights = []cluster.Weight{1, 3}, []cluster.Weight{100, 300}
		s.sync(given)
		s.split("tcp", given, light, heavy, 3)
		s.split("udp", given, light, heavy, 3)
		turned := Named("weighted", anywhere, local)
		turned.Pools[0].Weights = []cluster.Weight{3, 1}
		s.apply(kernelnat.Change{Old: given, New: turned})
		s.split("tcp", turned, heavy, light, 3)
		s.split("udp", turned, light, heavy, 1)
		s.sync(even)
		s.split("tcp", even, light, heavy, 1)
	})
}

// split fails unless the heavy one of two answers so many times as often.
func (s *suite) split(network string, service plan.Service, light, heavy *netlab.Host, times int) {
	s.Helper()
	const flows = 400
	got := s.shares(s.client, network, service.Frontends[0].At, flows)
	// A chance of one in a million with 1 degree of freedom.
	expected := float64(flows) / float64(1+times)
	d := float64(got[light.Name]) - expected
	if chi2 := d*d/expected + d*d/(flows-expected); chi2 > 23.9 || got[light.Name]+got[heavy.Name] != flows {
		s.Errorf("%s: shares %v, want 1 to %d for %s and %s", network, got, times, light.Name, heavy.Name)
	}
}

func (s *suite) need(p cluster.Policy) {
	s.Helper()
	if slices.Contains(s.lacks, p) {
		s.Skipf("the backend has no %s", p)
	}
}

// Endpoints take turns, each Service's for themselves. Who keeps its endpoint keeps it.
func (s *suite) roundRobin() {
	s.need(cluster.RoundRobin)
	s.families(func(s *suite, family cluster.Family) {
		in := func(p plan.Service) plan.Service {
			p.Pools[0].Policy = cluster.RoundRobin
			return p
		}
		tcp, udp := in(s.port(cluster.TCP, 80, family, s.pods...)), in(s.port(cluster.UDP, 80, family, s.pods...))
		two, sticky := in(s.port(cluster.TCP, 81, family, s.pods[:2]...)), in(s.port(cluster.TCP, 82, family, s.pods...))
		weighted := in(s.port(cluster.TCP, 83, family, s.pods[:2]...))
		weighted.Pools[0].Weights, sticky.Pools[0].AffinitySeconds = []cluster.Weight{1, 3}, 600
		s.sync(Named("three", tcp, udp), Named("two", two), Named("sticky", sticky), Named("weighted", weighted))
		// In between come connections to another, with which a common count would
		// lead to one endpoint alone.
		ofThree, ofTwo := make(map[string]int), make(map[string]int)
		for range 60 {
			ofThree[s.answer(s.client, "tcp", tcp.Frontends[0].At).Host]++
			ofTwo[s.answer(s.client, "tcp", two.Frontends[0].At).Host]++
		}
		for _, c := range []struct {
			got       map[string]int
			endpoints int
		}{{ofThree, 3}, {ofTwo, 2}, {s.shares(s.client, "udp", udp.Frontends[0].At, 60), 3}} {
			for _, pod := range s.pods[:c.endpoints] {
				if d := c.got[pod.Name] - 60/c.endpoints; d < -1 || d > 1 {
					s.Errorf("shares %v, want the same for each of %d", c.got, c.endpoints)
				}
			}
		}
		if got := s.shares(s.client, "tcp", weighted.Frontends[0].At, 40); got[s.pods[0].Name] != 10 || got[s.pods[1].Name] != 30 {
			s.Errorf("weights 1 and 3: shares %v", got)
		}
		if got := s.shares(s.client, "tcp", sticky.Frontends[0].At, 7); len(got) != 1 {
			s.Errorf("one client that keeps its endpoint met %v", got)
		}
	})
}

// A client always meets the same endpoint, as long as that is one; whose goes meet another
// each; and with the same endpoints there are the same clients, whatever was in between.
func (s *suite) sourceHash() {
	s.need(cluster.SourceHash)
	clients := []*netlab.Host{s.client, s.node.Host, s.node.Outside}
	for i := range 29 {
		pod, err := s.node.AddPod(fmt.Sprint("client-", i), netip.MustParseAddr(fmt.Sprint("10.42.2.", i+1)), netip.MustParseAddr(fmt.Sprintf("fd00:10:42::2:%x", i+1)))
		s.must(err)
		clients = append(clients, pod)
	}
	s.families(func(s *suite, family cluster.Family) {
		named := func(pods ...*netlab.Host) plan.Service {
			port := s.port(cluster.TCP, 80, family, pods...)
			port.Pools[0].Policy = cluster.SourceHash
			return Named("hashed", port)
		}
		all, less := named(s.pods...), named(s.pods[0], s.pods[2])
		meet := func(when string) map[string]string {
			s.Helper()
			met := make(map[string]string)
			for _, c := range clients {
				of := s.shares(c, "tcp", all.Frontends[0].At, 3)
				if len(of) != 1 {
					s.Errorf("%s: %s meets %v, want one", when, c.Name, of)
				}
				for host := range of {
					met[c.Name] = host
				}
			}
			return met
		}
		s.sync(all)
		first := meet("at first")
		for _, pod := range s.pods {
			if !slices.Contains(slices.Collect(maps.Values(first)), pod.Name) {
				s.Errorf("of %d clients nobody meets %s: %v", len(clients), pod.Name, first)
			}
		}
		s.apply(kernelnat.Change{Old: all, New: less})
		moved := 0
		for client, host := range meet("without one") {
			switch {
			case host == s.pods[1].Name:
				s.Errorf("%s meets %s, which is no endpoint any more", client, host)
			case first[client] != s.pods[1].Name && first[client] != host:
				moved++
			}
		}
		if moved > 1 { // 2 % of the clients
			s.Errorf("%d clients of other endpoints than the one that is gone have moved", moved)
		}
		s.apply(kernelnat.Change{Old: less, New: all})
		if again := meet("with it again"); !maps.Equal(first, again) {
			s.Errorf("clients meet %v, and before %v", again, first)
		}
		for i, c := range []plan.Service{less, all} {
			s.sync(c)
			if again := meet("after a Sync"); i == 1 && !maps.Equal(first, again) {
				s.Errorf("after a Sync clients meet %v, and before %v", again, first)
			}
		}
	})
}
