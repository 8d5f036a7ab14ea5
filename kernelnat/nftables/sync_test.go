package nftables

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/backendtest"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

var settings = netfilter.Settings{MasqueradeBit: netfilter.DefaultMasqueradeBit}

// synced has a new process write a state, and returns what it had to write.
func (h host) synced(state kernelnat.State, family cluster.Family) []string {
	h.Helper()
	b := newBackend(h.TB, family, settings)
	var written []string
	h.do(func() (err error) {
		written, err = b.Sync(h.Context(), state)
		return err
	})
	if err := b.Close(); err != nil {
		h.Fatal(err)
	}
	return written
}

// A process that finds the kernel as it should be rewrites nothing.
func TestNextProcessRewritesNothing(t *testing.T) {
	for _, family := range cluster.Families {
		t.Run(family.String(), func(t *testing.T) {
			h := newHost(t)
			if written := h.synced(stateOf(family), family); len(written) == 0 {
				t.Error("nothing is written into an empty kernel")
			}
			before := listed(h)
			for range 2 {
				if written := h.synced(stateOf(family), family); len(written) > 0 {
					t.Errorf("%q is written again", written)
				}
			}
			if !slices.Equal(before, listed(h)) {
				t.Error("the table has changed")
			}
		})
	}
}

// churn is Services that change at random, as plans.
type churn struct {
	*rand.Rand
	family cluster.Family
	most   int // endpoints
}

func (c *churn) service(i int) plan.Service {
	name, s := c.object(i)
	if s == nil {
		return plan.Service{Name: name}
	}
	return plan.Compute(s, c.family, plan.Node{Name: "here"}, c.options())
}

func (c *churn) options() plan.Options {
	return plan.Options{ClusterCIDRs: []netip.Prefix{c.clusterCIDR()}}
}

func (c *churn) clusterCIDR() netip.Prefix {
	if c.family == cluster.IPv6 {
		return netip.MustParsePrefix("fd00:10:42::/64")
	}
	return netip.MustParsePrefix("10.42.0.0/16")
}

// object is a Service as it is next; nil is gone.
func (c *churn) object(i int) (cluster.ServiceName, *cluster.Service) {
	name := cluster.ServiceName{Namespace: "testing", Name: fmt.Sprint("churn-", i)}
	if c.IntN(10) == 0 {
		return name, nil
	}
	base, pods := netip.MustParseAddr("10.43.1.0"), netip.MustParseAddr("10.42.1.0")
	if c.family == cluster.IPv6 {
		base, pods = netip.MustParseAddr("fd00:10:43::100"), netip.MustParseAddr("fd00:10:42::100")
	}
	address := func(a netip.Addr, n int) netip.Addr {
		for range n {
			a = a.Next()
		}
		return a
	}
	s := cluster.Service{
		Name: name, Kind: cluster.KindClusterIP, ClusterIPs: []netip.Addr{address(base, i)},
		InternalLocal: c.IntN(6) == 0, AffinitySeconds: uint32(c.IntN(4) / 3 * 60 * (1 + c.IntN(2))),
	}
	if c.IntN(3) == 0 {
		policy := []cluster.Policy{cluster.Random, cluster.RoundRobin, cluster.RoundRobin, cluster.SourceHash}[c.IntN(4)]
		s.Policy = &policy
	}
	slice := &cluster.EndpointSlice{}
	if c.IntN(3) == 0 {
		weight := cluster.Weight(c.IntN(4))
		slice.Weight = &weight
	}
	for p := range 1 + c.IntN(2) {
		protocol := []cluster.Protocol{cluster.TCP, cluster.UDP}[p]
		port := cluster.Port{Name: fmt.Sprint("p", p), Protocol: protocol, Port: 80}
		if c.IntN(3) == 0 {
			port.NodePort = uint16(30000 + 2*i + p)
		}
		s.Ports = append(s.Ports, port)
		slice.Ports = append(slice.Ports, cluster.EndpointPort{Name: port.Name, Protocol: protocol, Port: 8080})
	}
	s.External.Local = c.IntN(3) == 0
	for n := range c.IntN(3) {
		s.External.LoadBalancerIPs = append(s.External.LoadBalancerIPs, address(base, 1000+2*i+n))
	}
	if c.IntN(3) == 0 {
		s.External.SourceRanges = []netip.Prefix{c.clusterCIDR(), netip.PrefixFrom(address(base, c.IntN(3)), base.BitLen())}
	}
	var endpoints []cluster.Endpoint
	second := &cluster.EndpointSlice{Ports: slice.Ports}
	for e := range c.most {
		if e == c.most/2 {
			slice = second
		}
		if c.IntN(2) == 0 {
			endpoints = append(endpoints, cluster.Endpoint{Addr: address(pods, e), Slice: slice, Ready: true, Serving: true,
				Topology: &cluster.Topology{NodeName: []string{"here", "there"}[c.IntN(2)]}})
		}
	}
	return name, cluster.New(s, endpoints)
}

// unneeded are what a process may leave for the next that finds it.
var unneeded = map[string]bool{"classes that no frontend has": true, "chains that nothing needs": true}

// Whatever changes, one by one or many together, the kernel holds what a start would write.
func TestChangesEndAsAStart(t *testing.T) {
	for _, family := range cluster.Families {
		t.Run(family.String(), func(t *testing.T) {
			h, b := newHost(t), newBackend(t, family, settings)
			c := churn{rand.New(rand.NewPCG(1, uint64(family))), family, 12}
			now := make(map[cluster.ServiceName]plan.Service)
			state := func() (s kernelnat.State) {
				for _, name := range slices.SortedFunc(maps.Keys(now), cluster.ServiceName.Compare) {
					if len(now[name].Frontends) > 0 {
						s.Services = append(s.Services, now[name])
					}
				}
				return s
			}
			h.do(func() error { _, err := b.Sync(t.Context(), state()); return err })
			for round := range 60 {
				var changes []kernelnat.Change
				for _, i := range c.Perm(20)[:1+c.IntN(8)] {
					next := c.service(i)
					old := now[next.Name]
					old.Name = next.Name
					now[next.Name] = next
					changes = append(changes, kernelnat.Change{Old: old, New: next})
				}
				h.do(func() error { return b.Apply(t.Context(), changes) })
				if round%10 != 9 {
					continue
				}
				b.Close()
				for _, w := range h.synced(state(), family) {
					if !unneeded[trimCount(w)] {
						t.Fatalf("round %d: a start writes %q", round, w)
					}
				}
				h.do(func() error { _, err := b.Sync(t.Context(), state()); return err })
			}
		})
	}
}

// A frontend that another Service comes to have is that one's, whichever change is written
// first, together or apart.
func TestFrontendChangesHands(t *testing.T) {
	port := func(n int) plan.Service {
		return backendtest.Port(cluster.TCP, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 43, 0, byte(n)}), 80), endpointOf(n))
	}
	before := []plan.Service{backendtest.Named("a", port(1), port(2)), backendtest.Named("b", port(3), port(4))}
	after := []plan.Service{backendtest.Named("a", port(1), port(4)), backendtest.Named("b", port(3), port(2))}
	changes := []kernelnat.Change{{Old: before[0], New: after[0]}, {Old: before[1], New: after[1]}}
	for _, order := range [][]kernelnat.Change{changes, {changes[1], changes[0]}} {
		for _, together := range []bool{true, false} {
			h, b := newHost(t), newBackend(t, cluster.IPv4, settings)
			h.do(func() error { _, err := b.Sync(t.Context(), kernelnat.State{Services: before}); return err })
			if together {
				h.do(func() error { return b.Apply(t.Context(), order) })
			} else {
				h.do(func() error { return b.Apply(t.Context(), order[:1]) })
				h.do(func() error { return b.Apply(t.Context(), order[1:]) })
			}
			b.Close()
			if written := h.synced(kernelnat.State{Services: after}, cluster.IPv4); len(written) > 0 {
				t.Errorf("together %t: a start writes %q", together, written)
			}
		}
	}
}

func trimCount(s string) string {
	for i := range s {
		if s[i] == '(' {
			return s[:i-1]
		}
	}
	return s
}

// A large Service is written in small steps, and ends as a start would write it.
func TestLargeInSteps(t *testing.T) {
	h, b := newHost(t), newBackend(t, cluster.IPv4, settings)
	c := churn{rand.New(rand.NewPCG(7, 7)), cluster.IPv4, 6000}
	h.do(func() error { _, err := b.Sync(t.Context(), kernelnat.State{}); return err })
	old := plan.Service{Name: cluster.ServiceName{Namespace: "testing", Name: "churn-1"}}
	for range 8 {
		next := c.service(1)
		change := kernelnat.Change{Old: old, New: next}
		h.do(func() error { return h.large(t.Context(), b, change) })
		var state kernelnat.State
		if len(next.Frontends) > 0 {
			state.Services = []plan.Service{next}
		}
		b.Close()
		for _, w := range h.synced(state, cluster.IPv4) {
			if !unneeded[trimCount(w)] {
				t.Fatalf("a start writes %q", w)
			}
		}
		h.do(func() error { _, err := b.Sync(t.Context(), state); return err })
		old = next
	}
}

// large makes a change step by step.
func (h host) large(ctx context.Context, b *Backend, c kernelnat.Change) error {
	rest, works := b.Large([]kernelnat.Change{c})
	if len(rest) > 0 {
		return b.Apply(ctx, rest)
	}
	for steps := 0; ; steps++ {
		if done, err := works[0].Step(ctx); done || err != nil {
			h.Logf("%d steps", steps+1)
			return err
		}
		if steps > 1000 {
			return fmt.Errorf("no end after %d steps", steps)
		}
	}
}
