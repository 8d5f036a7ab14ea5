package backendtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// Each endpoint gets its share, whoever asks and over either protocol.
func (s *suite) distribution() {
	var ports []plan.Service
	for _, family := range cluster.Families {
		for _, protocol := range []cluster.Protocol{cluster.TCP, cluster.UDP} {
			ports = append(ports, s.port(protocol, 80, family, s.pods...))
		}
	}
	s.sync(Named("echo", ports...))
	s.families(func(s *suite, family cluster.Family) {
		to := netip.AddrPortFrom(clusterIP(family), 80)
		for _, network := range []string{"tcp", "udp"} {
			const flows = 300
			shares := make(map[string]int)
			for range flows {
				shares[s.answer(s.client, network, to).Host]++
			}
			// A chance of one in a million with 2 degrees of freedom. A
			// probability left out (1/2, 1/4, 1/4) gives 37 on average.
			if chi2 := chiSquare(shares, s.pods, flows); chi2 > 27.6 {
				s.Errorf("%s: shares %v, chi-square %.1f", network, shares, chi2)
			}
			for _, from := range []*netlab.Host{s.node.Host, s.node.Outside} {
				s.answer(from, network, to)
			}
		}
	})
}

func chiSquare(shares map[string]int, pods []*netlab.Host, flows int) float64 {
	expected := float64(flows) / float64(len(pods))
	sum := 0.0
	for _, pod := range pods {
		d := float64(shares[pod.Name]) - expected
		sum += d * d / expected
	}
	return sum
}

// Ports of one Service, and of Services on one address, do not mix; neither do
// protocols that share a number.
func (s *suite) manyPorts() {
	first := s.port(cluster.TCP, 80, cluster.IPv4, s.pods[0])
	udp := s.port(cluster.UDP, 80, cluster.IPv4, s.pods[1])
	second := s.port(cluster.TCP, 81, cluster.IPv4, s.pods[2])
	second.Pools[0].Port, second.Pools[0].Endpoints[0] = "second", netip.AddrPortFrom(s.pods[2].Addr(cluster.IPv4), otherPort)
	neighbour := s.port(cluster.TCP, 82, cluster.IPv4, s.pods[1])
	s.sync(Named("a", first, udp, second), Named("b", neighbour))
	for _, c := range []struct {
		network string
		port    uint16
		want    *netlab.Host
	}{{"tcp", 80, s.pods[0]}, {"udp", 80, s.pods[1]}, {"tcp", 81, s.pods[2]}, {"tcp", 82, s.pods[1]}} {
		if reply := s.answer(s.client, c.network, netip.AddrPortFrom(clusterIP(cluster.IPv4), c.port)); reply.Host != c.want.Name {
			s.Errorf("%s port %d: %s answers, not %s", c.network, c.port, reply.Host, c.want.Name)
		}
	}
}

// A pod reaches itself through its Service, and sees the node as the client.
func (s *suite) hairpin() {
	s.families(func(s *suite, family cluster.Family) {
		pod := s.pods[0]
		s.sync(Named("echo", s.port(cluster.TCP, 80, family, pod), s.port(cluster.UDP, 80, family, pod)))
		for _, network := range []string{"tcp", "udp"} {
			reply := s.answer(pod, network, netip.AddrPortFrom(clusterIP(family), 80))
			if reply.Host != pod.Name || reply.Client.Addr() != gateway(family) {
				s.Errorf("%s: reply %q, want it from %s to %s", network, reply, pod.Name, gateway(family))
			}
		}
	})
}

// Whose source address the endpoint sees.
func (s *suite) masquerade() {
	s.families(func(s *suite, family cluster.Family) {
		inside, outside, node := s.client.Addr(family), s.node.Outside.Addr(family), gateway(family)
		for _, c := range []struct {
			name                    string
			masquerade              plan.Masquerade
			fromInside, fromOutside netip.Addr
		}{
			{"nobody", plan.Masquerade{}, inside, outside},
			{"clients outside", plan.Masquerade{Outside: plan.Clients{Range: podNetwork(family)}}, inside, node},
			{"who does not come in over the pods' bridge", plan.Masquerade{Outside: plan.Clients{Interface: netlab.Bridge}}, inside, node},
			{"who does not come in over one of such interfaces", plan.Masquerade{Outside: plan.Clients{Interface: netlab.Bridge[:2] + "+"}}, inside, node},
			{"everybody", plan.Masquerade{All: true}, node, node},
		} {
			port := s.port(cluster.TCP, 80, family, s.pods[0])
			port.Frontends[0].Masquerade = c.masquerade
			s.sync(Named("echo", port))
			if got := s.answer(s.client, "tcp", port.Frontends[0].At).Client.Addr(); got != c.fromInside {
				s.Errorf("%s: a client inside is seen as %s, want %s", c.name, got, c.fromInside)
			}
			if got := s.answer(s.node.Outside, "tcp", port.Frontends[0].At).Client.Addr(); got != c.fromOutside {
				s.Errorf("%s: a client outside is seen as %s, want %s", c.name, got, c.fromOutside)
			}
		}
	})
}

// What happens where there is no endpoint.
func (s *suite) verdicts() {
	s.families(func(s *suite, family cluster.Family) {
		var rejects, drops []plan.Service
		for _, protocol := range []cluster.Protocol{cluster.TCP, cluster.UDP} {
			reject, drop := s.port(protocol, 80, family), s.port(protocol, 81, family)
			reject.Frontends[0].Verdict = plan.Reject
			drop.Frontends[0].Verdict, drop.Frontends[0].Local = plan.Drop, true
			rejects, drops = append(rejects, reject), append(drops, drop)
		}
		rejected, dropped := Named("rejected", rejects...), Named("dropped", drops...)
		s.sync(rejected, dropped)
		for _, from := range []*netlab.Host{s.client, s.node.Host, s.node.Outside} {
			for _, network := range []string{"tcp", "udp"} {
				start := time.Now()
				_, err := s.ask(from, network, rejected.Frontends[0].At)
				if !refused(err) || time.Since(start) > patience/2 {
					s.Errorf("%s asks %s where it must be refused: %v after %v", from.Name, network, err, time.Since(start))
				}
				ctx, cancel := context.WithTimeout(s.Context(), 100*time.Millisecond)
				_, err = from.Ask(ctx, network, dropped.Frontends[0].At)
				if !timedOut(err) && !errors.Is(err, syscall.EPERM) {
					s.Errorf("%s asks %s where there must be no answer: %v", from.Name, network, err)
				}
				cancel()
			}
		}
	})
}

// refused: a process on the node itself is told that it may not send a datagram
// before the ICMP error arrives, whether that is refused or dropped.
func refused(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EPERM)
}

func timedOut(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, net.ErrClosed)
}

// A connection that stands stays with its endpoint, whatever is written.
func (s *suite) connectionsSurvive() {
	port := s.port(cluster.TCP, 80, cluster.IPv4, s.pods[0])
	all := Named("echo", port)
	s.sync(all)
	ctx, cancel := context.WithTimeout(s.Context(), 4*patience)
	defer cancel()
	conn, err := s.client.Dial(ctx, "tcp", port.Frontends[0].At)
	s.must(err)
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	r := bufio.NewReader(conn)
	reply, err := netlab.ReadReply(r)
	s.must(err)
	if reply.Host != s.pods[0].Name {
		s.Fatalf("%s answers", reply.Host)
	}
	echo := func(after string) {
		s.Helper()
		if _, err := fmt.Fprintln(conn, after); err != nil {
			s.Fatalf("after %s: %v", after, err)
		}
		if line, err := r.ReadString('\n'); err != nil || line != after+"\n" {
			s.Fatalf("after %s: %q, %v", after, line, err)
		}
	}
	echo("dialling")
	s.sync(all)
	echo("the same Sync")
	scaled := Named("echo", s.port(cluster.TCP, 80, cluster.IPv4, s.pods...))
	s.apply(kernelnat.Change{Old: all, New: scaled})
	echo("more endpoints")
	moved := Named("echo", s.port(cluster.TCP, 80, cluster.IPv4, s.pods[1]))
	s.apply(kernelnat.Change{Old: scaled, New: moved})
	echo("its endpoint is no longer one")
	s.sync(Named("other", s.port(cluster.TCP, 90, cluster.IPv4, s.pods[2])))
	echo("its Service is gone")
}
