package backendtest

import (
	"net/netip"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// rangesOverlap: a range of ClusterIPs holds the pods, the nodes' network and all else
// of the family that the test has. What is exempt is reached, by itself and through
// Services; what was translated is reached in any case; what is nobody's is refused.
func (s *suite) rangesOverlap() {
	s.must(s.node.Outside.ServeTCP(targetPort))
	s.must(s.node.Outside.ServeUDP(targetPort))
	s.families(func(s *suite, family cluster.Family) {
		vip := clusterIP(family)
		port := s.port(cluster.TCP, 80, family, s.pods...)
		udp := s.port(cluster.UDP, 80, family, s.pods...)
		outside := netip.PrefixFrom(s.node.Outside.Addr(family), vip.BitLen()-8).Masked()
		around := map[cluster.Family]netip.Prefix{cluster.IPv4: netip.MustParsePrefix("10.0.0.0/8"), cluster.IPv6: netip.MustParsePrefix("fd00:10::/32")}
		s.ranges = []netip.Prefix{around[family], outside}
		pod := netip.AddrPortFrom(s.pods[0].Addr(family), targetPort)
		beyond := netip.AddrPortFrom(s.node.Outside.Addr(family), targetPort)

		// Nothing is known: what was translated passes, and nothing else.
		s.known = nil
		s.sync(Named("echo", port, udp))
		s.each(func(from *netlab.Host, network string) {
			s.answer(from, network, port.Frontends[0].At)
			s.refuses(from, network, netip.AddrPortFrom(vip.Prev(), 80))
		})
		s.refuses(s.client, "tcp", beyond)
		s.refuses(s.node.Outside, "tcp", pod)

		// What is known is reached, after a small write.
		s.known = []plan.Known{{At: podNetwork(family)}, plan.KnownAt(beyond.Addr(), "")}
		s.refuse(family)
		s.each(func(from *netlab.Host, network string) {
			s.answer(from, network, port.Frontends[0].At)
			s.answer(from, network, pod)
			if from != s.node.Outside {
				s.answer(from, network, beyond)
			}
			s.refuses(from, network, netip.AddrPortFrom(vip.Prev(), 80))
		})

		// And all of it where a range is known to be something else.
		s.known = []plan.Known{{At: around[family]}, {At: outside}}
		s.refuse(family)
		s.answer(s.client, "tcp", beyond)
		s.answer(s.node.Outside, "tcp", pod)
		if _, err := s.ask(s.client, "tcp", netip.AddrPortFrom(vip.Prev(), 80)); refused(err) {
			s.Errorf("an address in a range that refuses nothing: %v", err)
		}
	})
}

// each calls f for who asks and over what.
func (s *suite) each(f func(from *netlab.Host, network string)) {
	for _, from := range []*netlab.Host{s.client, s.node.Host, s.node.Outside} {
		for _, network := range []string{"tcp", "udp"} {
			f(from, network)
		}
	}
}

// refuse has the backends refuse what is nobody's now.
func (s *suite) refuse(family cluster.Family) {
	s.Helper()
	s.must(s.node.Do(func() error { return s.backends[family].Refuse(s.Context(), s.refused(family)) }))
}

func (s *suite) refuses(from *netlab.Host, network string, to netip.AddrPort) {
	s.Helper()
	if _, err := s.ask(from, network, to); !refused(err) {
		s.Errorf("%s asks %s %s: %v, want a refusal", from.Name, network, to, err)
	}
}

// leftRefusals: rules of an earlier process refuse what is in use. Before anything is
// known they are taken away, and nothing else is.
func (s *suite) leftRefusals() {
	s.must(s.node.Outside.ServeTCP(targetPort))
	s.families(func(s *suite, family cluster.Family) {
		port := s.port(cluster.TCP, 80, family, s.pods...)
		beyond := netip.AddrPortFrom(s.node.Outside.Addr(family), targetPort)
		s.ranges = []netip.Prefix{netip.PrefixFrom(beyond.Addr(), beyond.Addr().BitLen()-8).Masked()}
		s.known = nil
		s.sync(Named("echo", port))
		s.refuses(s.client, "tcp", beyond)

		s.close(s.backends)
		var err error
		s.backends, err = s.newBackends()
		s.must(err)
		defer s.close(s.backends) // the next family's are another process
		for range 2 {
			s.must(s.node.Do(func() error { return s.backends[family].Refuse(s.Context(), nil) }))
			s.answer(s.client, "tcp", beyond)
			s.answer(s.client, "tcp", port.Frontends[0].At)
		}
		s.sync(Named("echo", port))
		s.refuses(s.client, "tcp", beyond)
	})
}
