package ipvs

import (
	"bufio"
	"fmt"
	"math"
	"net"
	"net/netip"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/vishvananda/netlink"
)

// Of connections of which every third one stays, turns give all that stay to one of three endpoints,
// and least connections the same number to each.
func TestInKernelLeastConnections(t *testing.T) {
	for _, c := range []struct {
		policy cluster.Policy
		most   float64 // of one endpoint, by the mean
	}{{cluster.RR, 3}, {cluster.Random, math.Inf(1)}, {cluster.LC, 1.2}, {cluster.WLC, 1.2}, {cluster.SED, 1.2}, {cluster.NQ, 1.2}} {
		s := newSite(t, 3)
		s.sync(s.service(c.policy, nil, s.pods...))
		held := make(map[string]int)
		const stay = 30
		l := &lab{T: t, node: s.node}
		for range stay {
			held[l.holdFrom(s.client, s.vip)]++
			for range 2 {
				s.ask(s.client)
			}
		}
		most := 0
		for _, n := range held {
			most = max(most, n)
		}
		ratio := float64(most) * float64(len(s.pods)) / stay
		t.Logf("%s: max/mean %.2f: %v", c.policy, ratio, held)
		if ratio > c.most {
			t.Errorf("%s: %v, want %.1f times the mean at most", c.policy, held, c.most)
		}
	}
}

// holdFrom holds a connection and returns its endpoint.
func (l *lab) holdFrom(from *netlab.Host, to netip.AddrPort) string {
	l.Helper()
	conn, err := from.Dial(l.Context(), "tcp", to)
	l.must(err)
	l.Cleanup(func() { conn.Close() })
	reply, err := netlab.ReadReply(bufio.NewReader(conn))
	l.must(err)
	return reply.Host
}

// Weights are right to within 2 %.
func TestInKernelWeights(t *testing.T) {
	s := newSite(t, 3)
	for _, policy := range []cluster.Policy{cluster.WRR, cluster.RR} {
		weights := []cluster.Weight{1, 2, 3}
		s.sync(s.service(policy, weights, s.pods...))
		const times = 600
		got := make(map[string]int)
		for range times {
			got[s.ask(s.client)]++
		}
		for i, pod := range s.pods {
			if d := float64(got[pod.Name])/times - float64(weights[i])/6; math.Abs(d) > 0.02 {
				t.Errorf("%s: %v, want 1 to 2 to 3", policy, got)
			}
		}
	}
}

// A client keeps its endpoint, and under mh as good as no client moves whose endpoint stays.
func TestInKernelHashing(t *testing.T) {
	s := newSite(t, 5)
	const clients = 200
	var from []netip.Addr
	s.must(s.client.Do(func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		for i := range clients {
			a := netip.AddrFrom4([4]byte{10, 42, 9, byte(i + 1)})
			from = append(from, a)
			if err := netlink.AddrAdd(links[len(links)-1], &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)}}); err != nil {
				return fmt.Errorf("add %s to %s: %w", a, links[len(links)-1].Attrs().Name, err)
			}
		}
		return nil
	}))
	meet := func() (met []string) {
		for _, a := range from {
			var conn net.Conn
			s.must(s.client.Do(func() (err error) {
				d := net.Dialer{LocalAddr: &net.TCPAddr{IP: a.AsSlice()}, Timeout: patience}
				conn, err = d.DialContext(t.Context(), "tcp", s.vip.String())
				return err
			}))
			reply, err := netlab.ReadReply(bufio.NewReader(conn))
			conn.Close()
			s.must(err)
			met = append(met, reply.Host)
		}
		return met
	}
	for _, policy := range []cluster.Policy{cluster.SH, cluster.MH} {
		s.sync(s.service(policy, nil, s.pods...))
		first, again := meet(), meet()
		shares := make(map[string]int)
		for i := range first {
			if shares[first[i]]++; first[i] != again[i] {
				t.Errorf("%s: %s meets %s, and then %s", policy, from[i], first[i], again[i])
			}
		}
		s.apply(s.service(policy, nil, s.pods[1:]...))
		moved, mover := 0, 0
		for i, host := range meet() {
			switch {
			case host == s.pods[0].Name:
				t.Errorf("%s: %s meets %s, which is gone", policy, from[i], host)
			case first[i] == s.pods[0].Name:
				mover++
			case first[i] != host:
				moved++
			}
		}
		t.Logf("%s: %v, %d had the one that goes, and %d others move", policy, shares, mover, moved)
		if policy == cluster.MH && moved > clients/50 {
			t.Errorf("%d of %d clients move whose endpoint stays", moved, clients)
		}
	}
}
