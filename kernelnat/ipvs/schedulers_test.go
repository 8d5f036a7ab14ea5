package ipvs

import (
	"bufio"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/vishvananda/netlink"
)

// The kernel says which schedulers it has, and nothing is made for that.
func TestInKernelSchedulers(t *testing.T) {
	s := newSite(t, 0)
	s.do(func() error {
		known := new(Schedulers)
		for _, p := range cluster.Schedulers() {
			// Linux has twos from 5.11 on.
			if err := known.Missing(p); err != nil && p != cluster.TwoS {
				t.Errorf("%s: %v", p, err)
			}
		}
		asked := known.kernel.messages.Load()
		if err := errors.Join(known.Missing(cluster.MH), known.Missing(cluster.Random)); err != nil || known.kernel.messages.Load() != asked {
			t.Errorf("%v, and the kernel is asked again", err)
		}
		for range 2 {
			if err := known.ask("fastest"); err == nil || !strings.Contains(err.Error(), "modprobe ip_vs_fastest") {
				t.Errorf("a scheduler that there is not: %v", err)
			}
		}
		if n := known.kernel.messages.Load() - asked; n != 1 {
			t.Errorf("%d messages for a scheduler that there is not", n)
		}
		held, err := readHeld(s.servers.within)
		held6, err6 := readHeld(ranges[cluster.IPv6])
		if len(held)+len(held6) > 0 {
			t.Errorf("left are %v, %v", held, held6)
		}
		return errors.Join(err, err6)
	})
}

// Of connections of which every third one stays, turns give all that stay to one of three endpoints,
// and least connections the same number to each.
func TestInKernelLeastConnections(t *testing.T) {
	for _, c := range []struct {
		policy      cluster.Policy
		least, most float64 // of one endpoint, by the mean
	}{{cluster.RR, 3, 3}, {cluster.Random, 1, 3}, {cluster.LC, 1, 1.2}, {cluster.WLC, 1, 1.2}, {cluster.SED, 1, 1.2}, {cluster.NQ, 1, 1.2}} {
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
		if ratio < c.least || ratio > c.most {
			t.Errorf("%s: %v, want %.1f to %.1f times the mean", c.policy, held, c.least, c.most)
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
		t.Logf("%s by weights 1, 2, 3: %v", policy, got)
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
	clients := s.clients(150)
	for _, policy := range []cluster.Policy{cluster.SH, cluster.MH} {
		s.sync(s.service(policy, nil, s.pods...))
		first, again := s.meet(clients), s.meet(clients)
		shares := make(map[string]int)
		for i := range first {
			if shares[first[i]]++; first[i] != again[i] {
				t.Errorf("%s: %s meets %s, and then %s", policy, clients[i], first[i], again[i])
			}
		}
		if len(shares) != len(s.pods) {
			t.Errorf("%s: %v, want all %d endpoints", policy, shares, len(s.pods))
		}
		s.apply(s.service(policy, nil, s.pods[1:]...))
		moved, mover := 0, 0
		for i, host := range s.meet(clients) {
			switch {
			case host == s.pods[0].Name:
				t.Errorf("%s: %s meets %s, which is gone", policy, clients[i], host)
			case first[i] == s.pods[0].Name:
				mover++
			case first[i] != host:
				moved++
			}
		}
		t.Logf("%s: %v, %d had the one that goes, and %d others move", policy, shares, mover, moved)
		if policy == cluster.MH && moved > len(clients)/50 {
			t.Errorf("%d of %d clients move whose endpoint stays", moved, len(clients))
		}
	}
}

// clients gives the client so many addresses more.
func (s *site) clients(n int) (clients []netip.Addr) {
	s.Helper()
	s.must(s.client.Do(func() error {
		link, err := netlink.LinkByName(netlab.Uplink)
		if err != nil {
			return err
		}
		for i := range n {
			a := netip.AddrFrom4([4]byte{10, 42, 9, byte(i + 1)})
			clients = append(clients, a)
			if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)}}); err != nil {
				return fmt.Errorf("add %s to %s: %w", a, netlab.Uplink, err)
			}
		}
		return nil
	}))
	return clients
}

// meet has each of the client's addresses make a connection, and returns who answers. They are made
// in one stay in the client's namespace, which an emulated machine takes long to enter.
func (s *site) meet(clients []netip.Addr) (met []string) {
	s.Helper()
	s.must(s.client.Do(func() error {
		for _, a := range clients {
			from := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, 0)), Timeout: patience}
			conn, err := from.DialContext(s.Context(), "tcp", s.vip.String())
			if err != nil {
				return fmt.Errorf("from %s: %w", a, err)
			}
			reply, err := replyOf(conn)
			if err != nil {
				return fmt.Errorf("from %s: %w", a, err)
			}
			met = append(met, reply.Host)
		}
		return nil
	}))
	return met
}

// replyOf reads the reply, and closes the connection.
func replyOf(conn net.Conn) (netlab.Reply, error) {
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return netlab.Reply{}, err
	}
	return netlab.ReadReply(bufio.NewReader(conn))
}
