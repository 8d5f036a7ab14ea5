package backendtest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/vishvananda/netlink"
)

// whileAsking calls change, while the client asks all the time; check gets each
// answer. It fails if there were none.
func (s *suite) whileAsking(to netip.AddrPort, check func(netlab.Reply, error) error, change func()) {
	s.Helper()
	var stop atomic.Bool
	done := make(chan error)
	go func() {
		asked := 0
		var errs []error
		for len(errs) == 0 && (asked == 0 || !stop.Load()) {
			reply, err := s.ask(s.client, "tcp", to)
			if err := check(reply, err); err != nil {
				errs = append(errs, fmt.Errorf("connection %d: %w", asked, err))
			}
			asked++
		}
		done <- errors.Join(errs...)
	}()
	change()
	stop.Store(true)
	if err := <-done; err != nil {
		s.Error(err)
	}
}

// A Service that has endpoints before and after answers at every moment in
// between.
func (s *suite) neverInterrupted() {
	echo := Named("echo", s.port(cluster.TCP, 80, cluster.IPv4, s.pods[:2]...))
	next := Named("echo", s.port(cluster.TCP, 80, cluster.IPv4, s.pods[1:]...))
	var others []plan.Service
	for i := range 120 {
		p := s.port(cluster.TCP, 80, cluster.IPv4, s.pods...)
		p.Frontends[0].At = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 43, 1, byte(i)}), 80)
		others = append(others, Named(fmt.Sprintf("other-%d", i), p))
	}
	s.sync(echo)
	answered := func(_ netlab.Reply, err error) error { return err }
	s.whileAsking(echo.Frontends[0].At, answered, func() {
		s.sync(append(others[:60:60], echo)...)
		s.sync(append(others[60:], next)...)
		for range 10 {
			s.apply(kernelnat.Change{Old: next, New: echo})
			s.apply(kernelnat.Change{Old: echo, New: next})
		}
		local := Named("echo", s.port(cluster.TCP, 80, cluster.IPv4))
		local.Frontends[0].Local, local.Pools[0].Local = true, next.Pools[0].Endpoints
		s.apply(kernelnat.Change{Old: next, New: local})
		s.sync(echo)
	})
}

// A Service that gets or loses its endpoints answers or refuses; no packet
// leaves the node for the ClusterIP, where a server outside waits for it.
func (s *suite) neverLeaks() {
	vip := clusterIP(cluster.IPv4)
	s.must(s.node.Outside.Do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.AddrAdd(lo, &netlink.Addr{IPNet: &net.IPNet{IP: vip.AsSlice(), Mask: net.CIDRMask(32, 32)}})
	}))
	s.must(s.node.Outside.ServeTCP(80))
	to := netip.AddrPortFrom(vip, 80)
	s.sync()
	if reply := s.answer(s.client, "tcp", to); reply.Host != s.node.Outside.Name {
		s.Fatalf("the trap does not work: %s answers", reply.Host)
	}

	forwarded := Named("echo", s.port(cluster.TCP, 80, cluster.IPv4, s.pods...))
	rejected := Named("echo", s.port(cluster.TCP, 80, cluster.IPv4))
	rejected.Frontends[0].Verdict = plan.Reject
	s.sync(rejected)
	check := func(reply netlab.Reply, err error) error {
		switch {
		case refused(err):
			return nil
		case err == nil && reply.Host == s.node.Outside.Name:
			return errors.New("it has left the node")
		}
		return err
	}
	s.whileAsking(to, check, func() {
		for range 10 {
			s.apply(kernelnat.Change{Old: rejected, New: forwarded})
			s.apply(kernelnat.Change{Old: forwarded, New: rejected})
		}
		for range 10 {
			s.sync(forwarded)
			s.sync(rejected)
		}
	})
}
