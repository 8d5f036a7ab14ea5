// Package backendtest is the suite that every kernelnat.Backend must pass: plans
// are written on a node made of network namespaces, and real packets show what
// becomes of them. The cases know nothing of how a backend does it.
package backendtest

import (
	"context"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// patience is how long an answer may take on a busy machine.
const patience = 5 * time.Second

// The ports on which every pod answers, TCP and UDP.
const (
	targetPort = 5678
	otherPort  = 5679
)

// Run runs all cases but those of policies that the backend lacks. prepare is called once for each, before anything is written,
// and newBackends then; their methods are called in the
// node's namespace. The tools are those that they need.
func Run(t *testing.T, lacks []cluster.Policy, prepare func() error, newBackends func() (map[cluster.Family]kernelnat.Backend, error), tools ...string) {
	netlab.Require(t, tools...)
	for _, c := range []struct {
		name string
		run  func(s *suite)
	}{
		{"Distribution", (*suite).distribution},
		{"ManyPorts", (*suite).manyPorts},
		{"SCTP", (*suite).sctp},
		{"Hairpin", (*suite).hairpin},
		{"Masquerade", (*suite).masquerade},
		{"Verdicts", (*suite).verdicts},
		{"ExternalCluster", (*suite).externalCluster},
		{"ExternalLocal", (*suite).externalLocal},
		{"ExternalRefused", (*suite).externalRefused},
		{"SourceRanges", (*suite).sourceRanges},
		{"Affinity", (*suite).affinity},
		{"Weights", (*suite).weights},
		{"RoundRobin", (*suite).roundRobin},
		{"SourceHash", (*suite).sourceHash},
		{"Localhost", (*suite).localhost},
		{"NoSuchService", (*suite).noSuchService},
		{"RangesOverlap", (*suite).rangesOverlap},
		{"LeftRefusals", (*suite).leftRefusals},
		{"TwoNodes", (*suite).twoNodes},
		{"ConnectionsSurvive", (*suite).connectionsSurvive},
		{"NeverInterrupted", (*suite).neverInterrupted},
		{"NeverLeaks", (*suite).neverLeaks},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSuite(t, prepare, newBackends)
			s.lacks = lacks
			c.run(s)
		})
	}
}

// suite is one case's network: three pods that answer, a pod that asks, and a
// host outside the cluster.
type suite struct {
	*testing.T
	node   *netlab.Node
	pods   []*netlab.Host
	client *netlab.Host

	lacks       []cluster.Policy
	prepare     func() error
	newBackends func() (map[cluster.Family]kernelnat.Backend, error)
	backends    map[cluster.Family]kernelnat.Backend
	ranges      []netip.Prefix // of ClusterIPs; none unless a case sets them
	known       []plan.Known   // what else is in them
}

func newSuite(t *testing.T, prepare func() error, newBackends func() (map[cluster.Family]kernelnat.Backend, error)) *suite {
	t.Helper()
	node, err := netlab.NewNode()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Close(); err != nil {
			t.Errorf("close node: %v", err)
		}
	})
	s := &suite{T: t, node: node, prepare: prepare}
	s.newBackends = func() (map[cluster.Family]kernelnat.Backend, error) {
		backends, err := newBackends()
		t.Cleanup(func() { s.close(backends) })
		return backends, err
	}
	s.must(node.Do(prepare))
	s.must(node.Do(answerEachWithICMP))
	for _, p := range []struct {
		name string
		v4   string
		v6   string
	}{
		{"pod-a", "10.42.0.49", "fd00:10:42::49"},
		{"pod-b", "10.42.1.63", "fd00:10:42::1:63"},
		{"pod-c", "10.42.1.64", "fd00:10:42::1:64"},
		{"client", "10.42.0.2", "fd00:10:42::2"},
	} {
		pod := s.addPod(node, p.name, p.v4, p.v6)
		if p.name == "client" {
			s.client = pod
			continue
		}
		s.pods = append(s.pods, pod)
	}
	s.backends, err = s.newBackends()
	s.must(err)
	return s
}

// close ends the use of backends, as the end of their process does.
func (s *suite) close(backends map[cluster.Family]kernelnat.Backend) {
	s.Helper()
	for _, b := range backends {
		s.must(b.Close())
	}
}

// addPod makes a pod that answers.
func (s *suite) addPod(node *netlab.Node, name, v4, v6 string) *netlab.Host {
	s.Helper()
	pod, err := node.AddPod(name, netip.MustParseAddr(v4), netip.MustParseAddr(v6))
	s.must(err)
	for _, port := range []uint16{targetPort, otherPort} {
		s.must(pod.ServeTCP(port))
		s.must(pod.ServeUDP(port))
	}
	return pod
}

// answerEachWithICMP lifts the limit of about one ICMP error a second for each
// client: who is refused would have to try again.
func answerEachWithICMP() error {
	for _, limit := range []string{"ipv4/icmp_ratelimit", "ipv6/icmp/ratelimit"} {
		if err := os.WriteFile("/proc/sys/net/"+limit, []byte("0"), 0); err != nil {
			return err
		}
	}
	return nil
}

func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) sync(services ...plan.Service) {
	s.Helper()
	for _, family := range cluster.Families {
		state := kernelnat.State{Ranges: s.refused(family)}
		for _, service := range services {
			state.Services = append(state.Services, Part(service, family))
		}
		s.must(s.node.Do(func() error {
			_, err := s.backends[family].Sync(s.Context(), state)
			return err
		}))
	}
}

func (s *suite) refused(family cluster.Family) []plan.Range {
	ranges, _ := plan.Ranges(s.ranges, family, s.known)
	return ranges
}

func (s *suite) apply(changes ...kernelnat.Change) {
	s.Helper()
	for _, family := range cluster.Families {
		var own []kernelnat.Change
		for _, c := range changes {
			own = append(own, kernelnat.Change{Old: Part(c.Old, family), New: Part(c.New, family)})
		}
		s.must(s.node.Do(func() error { return s.backends[family].Apply(s.Context(), own) }))
	}
}

// families runs f for IPv4 and IPv6, each as a subtest.
func (s *suite) families(f func(s *suite, family cluster.Family)) {
	for _, family := range cluster.Families {
		s.Run(family.String(), func(t *testing.T) {
			sub := *s
			sub.T = t
			f(&sub, family)
		})
	}
}

// clusterIP is an address of no host. Packets to it that are not translated
// leave the node for Outside.
func clusterIP(family cluster.Family) netip.Addr {
	if family == cluster.IPv4 {
		return netip.MustParseAddr("10.43.134.253")
	}
	return netip.MustParseAddr("fd00:10:43::253")
}

func podNetwork(family cluster.Family) netip.Prefix {
	if family == cluster.IPv4 {
		return netlab.GatewayIPv4.Masked()
	}
	return netlab.GatewayIPv6.Masked()
}

// gateway is the node's address that pods see when a client is masqueraded.
func gateway(family cluster.Family) netip.Addr {
	if family == cluster.IPv4 {
		return netlab.GatewayIPv4.Addr()
	}
	return netlab.GatewayIPv6.Addr()
}

// port is a plan that forwards from the family's ClusterIP to targetPort of the
// pods.
func (s *suite) port(protocol cluster.Protocol, number uint16, family cluster.Family, pods ...*netlab.Host) plan.Service {
	p := Port(protocol, netip.AddrPortFrom(clusterIP(family), number), at(family, pods)...)
	p.Pools[0].Port = protocol.Lower()
	return p
}

func at(family cluster.Family, pods []*netlab.Host) (endpoints []netip.AddrPort) {
	for _, pod := range pods {
		endpoints = append(endpoints, netip.AddrPortFrom(pod.Addr(family), targetPort))
	}
	return endpoints
}

func (s *suite) ask(from *netlab.Host, network string, to netip.AddrPort) (netlab.Reply, error) {
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	defer cancel()
	return from.Ask(ctx, network, to)
}

// answer asks and fails if nobody answers.
func (s *suite) answer(from *netlab.Host, network string, to netip.AddrPort) netlab.Reply {
	s.Helper()
	reply, err := s.ask(from, network, to)
	if err != nil {
		s.Fatalf("%s asks %s %s: %v", from.Name, network, to, err)
	}
	return reply
}
