package plan_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// large makes a Service of so many ports and endpoints in slices of up to 1,000, with
// so many external addresses.
func large(ports, endpoints, externalIPs int) *cluster.Service {
	s := cluster.Service{Name: name, Kind: cluster.KindClusterIP, ClusterIPs: []netip.Addr{vip4}}
	var shared []cluster.EndpointPort
	for i := range ports {
		p := cluster.Port{Name: fmt.Sprintf("p%d", i), Protocol: cluster.TCP, Port: uint16(i + 1)}
		s.Ports = append(s.Ports, p)
		shared = append(shared, cluster.EndpointPort{Name: p.Name, Protocol: p.Protocol, Port: p.Port})
	}
	for i := range externalIPs {
		s.External.IPs = append(s.External.IPs, netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}))
	}
	var all []cluster.Endpoint
	var slice *cluster.EndpointSlice
	for i := range endpoints {
		if i%1000 == 0 {
			slice = &cluster.EndpointSlice{Ports: shared}
		}
		all = append(all, cluster.Endpoint{
			Addr: netip.AddrFrom4([4]byte{10, 100, byte(i >> 8), byte(i)}), Slice: slice, Ready: true, Serving: true,
		})
	}
	return cluster.New(s, all)
}

func frontendsAndRules(s plan.Service) (frontends, rules int) {
	for _, f := range s.Frontends {
		rules += 3 * len(s.Pools[f.Pool].Endpoints)
	}
	return len(s.Frontends), rules
}

// What one Service may ask for is bounded, and what is left out is told.
func TestBounds(t *testing.T) {
	for _, c := range []struct {
		ports, endpoints, ips   int
		frontends, endpointsFor int
		told                    string
	}{
		{ports: 2, endpoints: 3, ips: 2, frontends: 6, endpointsFor: 3},
		{ports: 10, endpoints: 5000, frontends: 10, endpointsFor: 5000},
		{ports: 10, endpoints: 10_000, frontends: 10, endpointsFor: 5000, told: "a port has 10000 endpoints, and may have 5000: each"},
		{ports: 100, endpoints: 2000, frontends: 100, endpointsFor: 666, told: "a port has 2000 endpoints, and may have 666 with so many ports"},
		{ports: 250, endpoints: 1, ips: 4000, frontends: 250, endpointsFor: 1, told: "are 1000250 frontends, and a Service may have 32768"},
		{ports: 20_000, endpoints: 3, frontends: 20_000, endpointsFor: 3},
		{ports: 65_535, endpoints: 1, frontends: 32_768, endpointsFor: 1, told: "65535 ports, of which the first 32768 are served"},
		{ports: 20_000, endpoints: 1000, frontends: 20_000, endpointsFor: 3, told: "20000 ports of 1000 endpoints, of which this node looks at 200"},
	} {
		t.Run(fmt.Sprintf("%d ports, %d endpoints, %d external addresses", c.ports, c.endpoints, c.ips), func(t *testing.T) {
			p := plan.Compute(large(c.ports, c.endpoints, c.ips), cluster.IPv4, self, plan.Options{})
			frontends, rules := frontendsAndRules(p)
			if frontends != c.frontends || len(p.Pools[0].Endpoints) != c.endpointsFor {
				t.Errorf("%d frontends, each with %d endpoints; want %d with %d", frontends, len(p.Pools[0].Endpoints), c.frontends, c.endpointsFor)
			}
			if frontends > plan.MaxFrontends || rules > 200_000 {
				t.Errorf("%d frontends and %d rules are beyond the bounds", frontends, rules)
			}
			if (c.told == "") != (p.Excess == "") || !strings.Contains(p.Excess, c.told) {
				t.Errorf("told %q, want %q", p.Excess, c.told)
			}
		})
	}
}

// A backend has bounds of its own.
func TestBoundsOfBackend(t *testing.T) {
	options := plan.Options{Bounds: plan.Bounds{Endpoints: 20_000, Targets: 60_000, Sticky: 2000}}
	for _, c := range []struct{ ports, endpoints, ips, want int }{{1, 20_000, 2, 20_000}, {1, 20_001, 0, 20_000}, {3, 20_000, 1, 10_000}} {
		p := plan.Compute(large(c.ports, c.endpoints, c.ips), cluster.IPv4, self, options)
		if n := len(p.Pools[0].Endpoints); n != c.want || (n == c.endpoints) != (p.Excess == "") {
			t.Errorf("%d ports of %d endpoints at %d more addresses: %d endpoints, told %q", c.ports, c.endpoints, c.ips, n, p.Excess)
		}
	}
}

// Clients that keep their endpoints have a list at each.
func TestBoundsOfAffinity(t *testing.T) {
	s := large(4, 3000, 0)
	s.AffinitySeconds = 10
	p := plan.Compute(s, cluster.IPv4, self, plan.Options{})
	if n := len(p.Pools[0].Endpoints); n != plan.DefaultBounds.Sticky/4 || p.Excess == "" {
		t.Errorf("%d endpoints of each of 4 ports, told %q", n, p.Excess)
	}
}

// Source ranges are rules of every load balancer address.
func TestBoundsCountSourceRanges(t *testing.T) {
	s := large(100, 1, 0)
	s.External.LoadBalancerIPs = []netip.Addr{netip.MustParseAddr("203.0.113.7")}
	for i := range 1000 {
		s.External.SourceRanges = append(s.External.SourceRanges, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24))
	}
	p := plan.Compute(s, cluster.IPv4, self, plan.Options{})
	if len(p.Frontends) != 100 || p.Excess == "" {
		t.Errorf("%d frontends of 100 ports, told %q", len(p.Frontends), p.Excess)
	}
	if f := p.Frontends[0]; f.Kind != plan.ClusterIP || f.Verdict != plan.Forward {
		t.Error("the ClusterIP is not served")
	}
}

// Nodes choose different endpoints, so that together they use all, and a choice
// changes by what changes.
func TestNodesChooseDifferentEndpoints(t *testing.T) {
	service := large(1, 3000, 99)
	chosen := func(node string, s *cluster.Service) []netip.AddrPort {
		return plan.Compute(s, cluster.IPv4, plan.Node{Name: node}, plan.Options{}).Pools[0].Endpoints
	}
	used := make(map[netip.AddrPort]bool)
	for i := range 40 {
		for _, e := range chosen(fmt.Sprint("node-", i), service) {
			used[e] = true
		}
	}
	if len(used) != 3000 {
		t.Errorf("40 nodes use %d endpoints of 3000", len(used))
	}
	before, without := chosen("a", service), *service
	gone := slices.IndexFunc(without.Endpoints, func(e cluster.Endpoint) bool { return e.Addr == before[7].Addr() })
	without.Endpoints = slices.Delete(slices.Clone(service.Endpoints), gone, gone+1)
	after := chosen("a", &without)
	kept := slices.DeleteFunc(slices.Clone(before), func(e netip.AddrPort) bool { return !slices.Contains(after, e) })
	if len(kept) != len(before)-1 || len(after) != len(before) {
		t.Errorf("of %d endpoints one goes: %d are kept, %d in all", len(before), len(kept), len(after))
	}
	if draining := plan.Compute(service, cluster.IPv4, self, plan.Options{}).Pools[0].Draining; len(draining) != 3000-666 {
		t.Errorf("%d endpoints that are not chosen keep their flows, want 2334", len(draining))
	}
}

// Ten times as many parts are ten times the work, not a hundred times.
func BenchmarkCompute(b *testing.B) {
	for _, size := range [][2]int{{10, 1000}, {10, 10_000}, {2000, 10}, {20_000, 10}, {1, 10}} {
		b.Run(fmt.Sprintf("ports=%d/endpoints=%d", size[0], size[1]), func(b *testing.B) {
			s := large(size[0], size[1], 10)
			for b.Loop() {
				plan.Compute(s, cluster.IPv4, self, plan.Options{})
			}
		})
	}
}

// Tables of slots, and ranges of clients, are bounded however many ports and addresses there
// are: a Service of 2 endpoints at 32,000 frontends would have 130 million slots.
func TestBoundsOfSlotsAndSources(t *testing.T) {
	hash := cluster.SourceHash
	s := cluster.Service{Name: cluster.ServiceName{Namespace: "a", Name: "b"}, Kind: cluster.KindClusterIP, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.43.0.1")}}
	slice := &cluster.EndpointSlice{}
	for p := range 128 {
		s.Ports = append(s.Ports, cluster.Port{Name: fmt.Sprint(p), Protocol: cluster.TCP, Port: uint16(p + 1)})
		slice.Ports = append(slice.Ports, cluster.EndpointPort{Name: fmt.Sprint(p), Protocol: cluster.TCP, Port: 8080})
	}
	endpoints := []cluster.Endpoint{}
	for i := range 2 {
		endpoints = append(endpoints, cluster.Endpoint{Addr: netip.AddrFrom4([4]byte{10, 42, 0, byte(i)}), Slice: slice, Ready: true, Serving: true})
	}
	options := plan.Options{Bounds: plan.Bounds{Endpoints: 20_000, Targets: 400_000, Sticky: 2000, Slots: 1 << 20, Sources: 4000}}
	for _, c := range []struct {
		ips, sources int
		policy       *cluster.Policy
		weights      bool
		excess       string
	}{
		{1, 0, &hash, false, ""}, {2, 0, &hash, false, "1572864 slots"}, {200, 0, nil, true, "2778624 slots"}, {1, 31, nil, false, ""}, {1, 32, nil, false, "4096 ranges"},
	} {
		s.Policy, s.External, s.Weights = c.policy, cluster.External{}, nil
		for i := range c.ips {
			s.External.LoadBalancerIPs = append(s.External.LoadBalancerIPs, netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}))
		}
		for i := range c.sources {
			s.External.SourceRanges = append(s.External.SourceRanges, netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 32))
		}
		if c.weights {
			s.Weights = []cluster.WeightRule{{Range: netip.MustParsePrefix("10.42.0.1/32"), Weight: 9}}
		}
		p := plan.Compute(cluster.New(s, endpoints), cluster.IPv4, plan.Node{}, options)
		if bounded := c.excess != ""; bounded != (p.Excess != "") || !strings.Contains(p.Excess, c.excess) {
			t.Errorf("%d addresses, %d ranges: %q", c.ips, c.sources, p.Excess)
		}
		slots, sources := 0, 0
		for i, pool := range p.Pools {
			slots += len(p.Of(i)) * len(plan.Slots(pool.Endpoints, pool.Weights, pool.Policy))
			for _, f := range p.Of(i) {
				sources += len(f.Sources)
			}
		}
		if slots > 1<<20 || sources > 4000 {
			t.Errorf("%d addresses, %d ranges: %d slots, %d ranges are served", c.ips, c.sources, slots, sources)
		}
	}
}
