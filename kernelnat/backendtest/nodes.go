package backendtest

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/vishvananda/netlink"
)

// site is one node of two, with a pod that answers, a pod that asks, and what the
// node's rules are made from.
type site struct {
	*netlab.Node
	pod, client *netlab.Host
	backends    map[cluster.Family]kernelnat.Backend
	plans       map[cluster.Family]plan.Service // as written
}

// sites are the suite's node and a second one. The addresses of its pods are those
// that the network routes to it.
func (s *suite) sites() []*site {
	s.Helper()
	node, err := s.node.AddNode()
	s.must(err)
	s.must(node.Do(s.prepare))
	s.must(node.Do(answerEachWithICMP))
	second := &site{Node: node}
	second.pod = s.addPod(node, "pod-2", "10.42.200.49", "fd00:10:42::c8:49")
	second.client = s.addPod(node, "client-2", "10.42.200.2", "fd00:10:42::c8:2")
	second.backends, err = s.newBackends()
	s.must(err)
	return []*site{{Node: s.node, pod: s.pods[0], client: s.client, backends: s.backends}, second}
}

// endpoint is a pod as an endpoint of the Service.
func (at *site) endpoint(family cluster.Family) cluster.Endpoint {
	return cluster.Endpoint{
		Addr: at.pod.Addr(family), Topology: &cluster.Topology{NodeName: at.Name}, Ready: true, Serving: true,
		Slice: &cluster.EndpointSlice{Ports: []cluster.EndpointPort{
			{Name: "tcp", Protocol: cluster.TCP, Port: targetPort}, {Name: "udp", Protocol: cluster.UDP, Port: targetPort},
		}},
	}
}

// program has the nodes serve a Service with these endpoints, each as the plan for
// it says: with Sync at first, then with the change.
func (s *suite) program(sites []*site, family cluster.Family, service cluster.Service, endpoints ...cluster.Endpoint) {
	s.Helper()
	service.Name = cluster.ServiceName{Namespace: "testing", Name: "echo"}
	service.Kind, service.ClusterIPs = cluster.KindClusterIP, []netip.Addr{clusterIP(family)}
	service.Ports = []cluster.Port{
		{Name: "tcp", Protocol: cluster.TCP, Port: 80, NodePort: nodePort}, {Name: "udp", Protocol: cluster.UDP, Port: 80, NodePort: nodePort},
	}
	made := cluster.New(service, endpoints)
	for _, at := range sites {
		p := plan.Compute(made, family, plan.Node{Name: at.Name, Addresses: at.Addrs}, plan.Options{ClusterCIDRs: []netip.Prefix{podNetwork(family)}})
		s.must(at.Do(func() error {
			if at.plans == nil {
				at.plans = map[cluster.Family]plan.Service{}
			}
			old, written := at.plans[family]
			at.plans[family] = p
			if written {
				return at.backends[family].Apply(s.Context(), []kernelnat.Change{{Old: old, New: p}})
			}
			_, err := at.backends[family].Sync(s.Context(), kernelnat.State{Services: []plan.Service{p}})
			return err
		}))
		// A datagram from a port that an earlier one came from would follow it.
		s.must(at.Do(func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) }))
	}
}

// seen asks often enough to miss neither of two pods but with a chance of 2^-29, and
// returns which pods answer, each with the addresses that it sees.
func (s *suite) seen(from *netlab.Host, network string, to netip.AddrPort) map[string]netip.Addr {
	s.Helper()
	out := make(map[string]netip.Addr)
	for range 30 {
		reply := s.answer(from, network, to)
		client := reply.Client.Addr()
		if before, known := out[reply.Host]; known && before != client {
			s.Errorf("%s sees %s as %s and as %s", reply.Host, from.Name, before, client)
		}
		out[reply.Host] = client
	}
	return out
}

// want fails unless exactly these pods answer and see these addresses.
func (s *suite) want(from *netlab.Host, to netip.AddrPort, pods map[string]netip.Addr) {
	s.Helper()
	for _, network := range []string{"tcp", "udp"} {
		if got := s.seen(from, network, to); !maps.Equal(got, pods) {
			s.Errorf("%s asks %s %s: %v, want %v", from.Name, network, to, got, pods)
		}
	}
}

// twoNodes: what the policies and the fallback to pods that end mean where the
// endpoints are on two nodes.
func (s *suite) twoNodes() {
	sites := s.sites()
	here, there := sites[0], sites[1]
	s.families(func(s *suite, family cluster.Family) {
		vip := netip.AddrPortFrom(clusterIP(family), 80)
		port := func(at *site) netip.AddrPort { return netip.AddrPortFrom(at.Addr(family), nodePort) }
		outside := s.node.Outside
		client := outside.Addr(family)
		near := func(at *site) netip.Addr { return at.Addrs[2+slices.Index(cluster.Families, family)] } // its gateway

		// Whoever asks on one node reaches the pod on the other. Pods are seen
		// as they are, others as the node that they came to.
		s.program(sites, family, cluster.Service{}, there.endpoint(family))
		s.want(here.client, vip, map[string]netip.Addr{there.pod.Name: here.client.Addr(family)})
		s.want(there.client, vip, map[string]netip.Addr{there.pod.Name: there.client.Addr(family)})
		s.want(here.Host, vip, map[string]netip.Addr{there.pod.Name: here.Addr(family)})
		s.want(outside, port(here), map[string]netip.Addr{there.pod.Name: here.Addr(family)})
		s.want(outside, port(there), map[string]netip.Addr{there.pod.Name: near(there)})

		s.program(sites, family, cluster.Service{}, here.endpoint(family), there.endpoint(family))
		s.want(there.client, vip, map[string]netip.Addr{here.pod.Name: there.client.Addr(family), there.pod.Name: there.client.Addr(family)})

		// internalTrafficPolicy Local keeps clients on their node.
		s.program(sites, family, cluster.Service{InternalLocal: true}, here.endpoint(family), there.endpoint(family))
		for _, at := range sites {
			s.want(at.client, vip, map[string]netip.Addr{at.pod.Name: at.client.Addr(family)})
		}
		s.program(sites, family, cluster.Service{InternalLocal: true}, there.endpoint(family))
		s.unanswered(here.client, vip)
		s.want(there.client, vip, map[string]netip.Addr{there.pod.Name: there.client.Addr(family)})

		// externalTrafficPolicy Local keeps the client's address.
		local := cluster.Service{External: cluster.External{Local: true}}
		s.program(sites, family, local, here.endpoint(family), there.endpoint(family))
		for _, at := range sites {
			s.want(outside, port(at), map[string]netip.Addr{at.pod.Name: client})
		}
		s.program(sites, family, local, there.endpoint(family))
		s.unanswered(outside, port(here))
		s.want(outside, port(there), map[string]netip.Addr{there.pod.Name: client})

		// A pod that ends gets no new clients while another is ready, but for
		// those that may use none but it.
		ending := here.endpoint(family)
		ending.Ready, ending.Terminating = false, true
		s.program(sites, family, local, ending, there.endpoint(family))
		s.want(here.client, vip, map[string]netip.Addr{there.pod.Name: here.client.Addr(family)})
		s.want(outside, port(here), map[string]netip.Addr{here.pod.Name: client})

		// Hints keep clients on their node (trafficDistribution PreferSameNode).
		hinted := []cluster.Endpoint{here.endpoint(family), there.endpoint(family)}
		for i, at := range sites {
			hinted[i].Hints = &cluster.Hints{Nodes: []string{at.Name}}
		}
		s.program(sites, family, cluster.Service{}, hinted...)
		for _, at := range sites {
			s.want(at.client, vip, map[string]netip.Addr{at.pod.Name: at.client.Addr(family)})
		}
	})
}
