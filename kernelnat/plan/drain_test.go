package plan_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// What serves and gets no new connections drains, each once, and what is about to go is told
// apart, whatever slices have the endpoints and however they are mixed.
func TestWhatServesDrains(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 0))
		s := cluster.Service{
			Name: cluster.ServiceName{Namespace: "testing", Name: "drains"}, Kind: cluster.KindClusterIP, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.43.0.1")},
			Ports: []cluster.Port{{Name: "a", Port: 80, Protocol: cluster.TCP, NodePort: 30080}, {Name: "b", Port: 81, Protocol: cluster.UDP}},
		}
		s.External.Local = r.IntN(2) == 0
		var several []*cluster.EndpointSlice
		for i := range uint16(3) {
			several = append(several, &cluster.EndpointSlice{Ports: []cluster.EndpointPort{
				{Name: "a", Protocol: cluster.TCP, Port: 8080 + i%2}, {Name: "b", Protocol: cluster.UDP, Port: 8090 + uint16(r.IntN(2))}}})
		}
		var endpoints []cluster.Endpoint
		for range 1 + r.IntN(30) {
			endpoints = append(endpoints, cluster.Endpoint{
				Addr: netip.AddrFrom4([4]byte{10, 42, 0, byte(r.IntN(20))}), Slice: several[r.IntN(3)],
				Ready: r.IntN(3) > 0, Serving: r.IntN(3) > 0, Terminating: r.IntN(3) == 0,
				Topology: &cluster.Topology{NodeName: []string{"here", "there"}[r.IntN(2)]},
			})
		}
		service := cluster.New(s, endpoints)
		p := plan.Compute(service, cluster.IPv4, plan.Node{Name: "here"}, plan.Options{})
		for i, pool := range p.Pools {
			if len(cluster.Usable(service.Endpoints)) == 0 {
				continue // it has no endpoints at all
			}
			var draining, terminating []netip.AddrPort
			stays := make(map[netip.AddrPort]bool)
			at := func(e cluster.Endpoint) netip.AddrPort {
				number, _ := e.PortFor(service.Ports[i])
				return netip.AddrPortFrom(e.Addr, number)
			}
			for _, e := range service.Endpoints {
				stays[at(e)] = stays[at(e)] || e.Serving && !e.Terminating
			}
			for _, e := range service.Endpoints {
				used := slices.Contains(pool.Endpoints, at(e)) || slices.Contains(pool.Local, at(e))
				if !e.Serving || used || slices.Contains(draining, at(e)) {
					continue
				}
				if draining = append(draining, at(e)); !stays[at(e)] {
					terminating = append(terminating, at(e))
				}
			}
			slices.SortFunc(draining, netip.AddrPort.Compare)
			slices.SortFunc(terminating, netip.AddrPort.Compare)
			if !slices.Equal(pool.Draining, draining) || !slices.Equal(pool.Terminating, terminating) {
				t.Errorf("seed %d, port %d: %v drain, of which %v go, want %v and %v", seed, i, pool.Draining, pool.Terminating, draining, terminating)
			}
		}
	}
}
