package backendtest

import (
	"context"
	"errors"
	"net/netip"
	"syscall"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

const nodePort = 30080

// external is a plan with frontends of all kinds for port 80 over TCP and UDP.
func (s *suite) external(family cluster.Family, e Outside, anywhere, local []*netlab.Host) plan.Service {
	e.NodePort = nodePort
	e.IPs, e.LoadBalancers = []netip.Addr{externalIP(family)}, []netip.Addr{loadBalancer(family)}
	var ports []plan.Service
	for _, protocol := range []cluster.Protocol{cluster.TCP, cluster.UDP} {
		p := s.port(protocol, 80, family, anywhere...)
		p.Pools[0].Local = at(family, local)
		p.Frontends[0].Masquerade.Outside = plan.Clients{Range: podNetwork(family)}
		if len(anywhere) == 0 {
			p.Frontends[0].Verdict = plan.Reject
		}
		ports = append(ports, e.Add(p))
	}
	return Named("echo", ports...)
}

func externalIP(family cluster.Family) netip.Addr {
	if family == cluster.IPv4 {
		return netip.MustParseAddr("198.51.100.1")
	}
	return netip.MustParseAddr("2001:db8:1::1")
}

func loadBalancer(family cluster.Family) netip.Addr {
	if family == cluster.IPv4 {
		return netip.MustParseAddr("203.0.113.7")
	}
	return netip.MustParseAddr("2001:db8:2::7")
}

// outside are where clients outside connect to.
func (s *suite) outside(service plan.Service) (out []netip.AddrPort) {
	for _, f := range service.Frontends {
		switch {
		case f.Protocol != cluster.TCP || f.Kind == plan.ClusterIP:
		case f.Kind == plan.NodePort:
			out = append(out, netip.AddrPortFrom(s.node.Addr(cluster.FamilyOf(f.At.Addr())), f.At.Port()))
		default:
			out = append(out, f.At)
		}
	}
	return out
}

// externalCluster: whoever comes to any frontend reaches some endpoint, and is
// seen as the node.
func (s *suite) externalCluster() {
	s.families(func(s *suite, family cluster.Family) {
		echo := s.external(family, Outside{Verdict: plan.Forward}, s.pods, nil)
		s.sync(echo)
		for _, to := range s.outside(echo) {
			for _, from := range []*netlab.Host{s.node.Outside, s.client, s.node.Host} {
				for _, network := range []string{"tcp", "udp"} {
					reply := s.answer(from, network, to)
					if seen := reply.Client.Addr(); seen != gateway(family) {
						s.Errorf("%s asks %s %s and is seen as %s, want %s", from.Name, network, to, seen, gateway(family))
					}
				}
			}
		}
	})
}

// externalLocal: a client outside keeps its address and reaches endpoints of this
// node only; one on this node reaches all.
func (s *suite) externalLocal() {
	s.families(func(s *suite, family cluster.Family) {
		e := Outside{Verdict: plan.Forward, Treatment: plan.Treatment{Local: true, Inside: plan.Clients{Range: podNetwork(family)}}}
		here, elsewhere := s.pods[:1], s.pods[1:2]
		echo := s.external(family, e, elsewhere, here)
		s.sync(echo)
		for _, to := range s.outside(echo) {
			for from, want := range map[*netlab.Host]struct{ pod, seen string }{
				s.node.Outside: {here[0].Name, s.node.Outside.Addr(family).String()},
				s.client:       {elsewhere[0].Name, s.client.Addr(family).String()},
				s.node.Host:    {elsewhere[0].Name, gateway(family).String()},
			} {
				reply := s.answer(from, "tcp", to)
				if reply.Host != want.pod || reply.Client.Addr().String() != want.seen {
					s.Errorf("%s asks %s: %s answers and sees %s, want %s and %s", from.Name, to, reply.Host, reply.Client.Addr(), want.pod, want.seen)
				}
			}
		}

		e.Verdict = plan.Drop
		s.sync(s.external(family, e, elsewhere, nil))
		for _, to := range s.outside(echo) {
			s.unanswered(s.node.Outside, to)
			if reply := s.answer(s.client, "tcp", to); reply.Host != elsewhere[0].Name {
				s.Errorf("%s answers the pod", reply.Host)
			}
		}
	})
}

// externalRefused: without endpoints every frontend refuses.
func (s *suite) externalRefused() {
	s.families(func(s *suite, family cluster.Family) {
		echo := s.external(family, Outside{Verdict: plan.Reject}, nil, nil)
		s.sync(echo)
		for _, to := range s.outside(echo) {
			for _, network := range []string{"tcp", "udp"} {
				if _, err := s.ask(s.node.Outside, network, to); !refused(err) {
					s.Errorf("%s %s: %v, want a refusal", network, to, err)
				}
			}
		}
	})
}

// sourceRanges: others than those do not reach the load balancer's address, and
// whoever it is reaches the other frontends.
func (s *suite) sourceRanges() {
	s.families(func(s *suite, family cluster.Family) {
		to := netip.AddrPortFrom(loadBalancer(family), 80)
		outside := s.node.Outside.Addr(family)
		e := Outside{Verdict: plan.Forward, Treatment: plan.Treatment{Sources: []netip.Prefix{netip.PrefixFrom(outside, outside.BitLen())}}}
		allowed := s.external(family, e, s.pods, nil)
		s.sync(allowed)
		s.answer(s.node.Outside, "tcp", to)
		s.unanswered(s.client, to)

		e.Sources = []netip.Prefix{podNetwork(family)}
		denied := s.external(family, e, s.pods, nil)
		s.apply(kernelnat.Change{Old: allowed, New: denied})
		s.unanswered(s.node.Outside, to)
		s.answer(s.client, "tcp", to)
		for _, to := range s.outside(denied) {
			if to.Addr() != loadBalancer(family) {
				s.answer(s.node.Outside, "tcp", to)
			}
		}
	})
}

// unanswered fails if somebody answers, or refuses. Whoever sends from the node
// itself is told that it may not.
func (s *suite) unanswered(from *netlab.Host, to netip.AddrPort) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 100*time.Millisecond)
	defer cancel()
	if reply, err := from.Ask(ctx, "tcp", to); !timedOut(err) && !errors.Is(err, syscall.EPERM) {
		s.Errorf("%s asks %s: reply %q, error %v; want silence", from.Name, to, reply.Host, err)
	}
}

// affinity: a client stays with its endpoint, whichever frontend it uses, until
// it has been away for long enough.
func (s *suite) affinity() {
	s.families(func(s *suite, family cluster.Family) {
		service := s.external(family, Outside{Verdict: plan.Forward}, s.pods, nil)
		for i := range service.Pools {
			service.Pools[i].AffinitySeconds = 2
		}
		s.sync(service)
		frontend := service.Frontends[0].At
		for _, network := range []string{"tcp", "udp"} {
			first := s.answer(s.client, network, frontend).Host
			// By chance alone 3^-12 < 2e-6.
			for range 12 {
				if reply := s.answer(s.client, network, frontend); reply.Host != first {
					s.Fatalf("%s: %s answers after %s", network, reply.Host, first)
				}
			}
		}
		others := make(map[string]bool)
		for _, to := range s.outside(service) {
			others[s.answer(s.node.Outside, "tcp", to).Host] = true
		}
		if len(others) != 1 {
			s.Errorf("one client is sent to several endpoints by several frontends: %v", others)
		}
		// Away for longer than the timeout, it is as any other client: within
		// 40 returns it would meet one endpoint alone with a chance below 1e-18.
		first := s.answer(s.client, "tcp", frontend).Host
		for range 40 {
			time.Sleep(time.Duration(service.Pools[0].AffinitySeconds)*time.Second + 100*time.Millisecond)
			if s.answer(s.client, "tcp", frontend).Host != first {
				return
			}
		}
		s.Errorf("the client never leaves %s", first)
	})
}

// localhost: a NodePort is at 127.0.0.1 too, for the node itself.
func (s *suite) localhost() {
	s.sync(s.external(cluster.IPv4, Outside{Verdict: plan.Forward}, s.pods, nil))
	for _, network := range []string{"tcp", "udp"} {
		s.answer(s.node.Host, network, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), nodePort))
	}
}

// noSuchService: what is in the range of ClusterIPs and is no frontend is refused
// at once, instead of leaving the node; a ClusterIP works as before.
func (s *suite) noSuchService() {
	s.families(func(s *suite, family cluster.Family) {
		vip := clusterIP(family)
		port := s.port(cluster.TCP, 80, family, s.pods...)
		s.ranges = []netip.Prefix{netip.PrefixFrom(vip, vip.BitLen()-8).Masked()}
		s.sync(Named("echo", port))
		for _, from := range []*netlab.Host{s.client, s.node.Host, s.node.Outside} {
			s.answer(from, "tcp", port.Frontends[0].At)
			for _, to := range []netip.AddrPort{netip.AddrPortFrom(vip, 81), netip.AddrPortFrom(vip.Prev(), 80)} {
				for _, network := range []string{"tcp", "udp"} {
					if _, err := s.ask(from, network, to); !refused(err) {
						s.Errorf("%s asks %s %s: %v, want a refusal", from.Name, network, to, err)
					}
				}
			}
		}
	})
}
