package nftables

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/backendtest"
	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// stickyNode is a node with pods that answer, a Service for them that remembers its clients for
// an hour, and clients.
type stickyNode struct {
	testing.TB
	*netlab.Node
	b       *Backend
	pods    []netip.AddrPort
	names   map[string]netip.AddrPort
	clients []*netlab.Host
	now     plan.Service
}

func newStickyNode(t testing.TB, clients int) *stickyNode {
	t.Helper()
	netlab.Require(t)
	node, err := netlab.NewNode()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { node.Close() })
	n := &stickyNode{TB: t, Node: node, b: newBackend(t, cluster.IPv4, settings), names: make(map[string]netip.AddrPort)}
	pod := func(name string, last int) *netlab.Host {
		h, err := node.AddPod(name, netip.AddrFrom4([4]byte{10, 42, 0, byte(last)}))
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	for i := range 3 {
		h := pod(fmt.Sprint("p", i), 10+i)
		if err := h.ServeTCP(5678); err != nil {
			t.Fatal(err)
		}
		n.pods = append(n.pods, netip.AddrPortFrom(h.Addr(cluster.IPv4), 5678))
		n.names[h.Name] = n.pods[i]
	}
	for i := range clients {
		n.clients = append(n.clients, pod(fmt.Sprint("c", i), 50+i))
	}
	return n
}

var stickyVIP = netip.MustParseAddrPort("10.43.0.10:80")

// service has a ClusterIP that leads to all endpoints, and a NodePort that leads to those on
// this node, if there are any, else to all.
func (n *stickyNode) service(all, local []netip.AddrPort) plan.Service {
	p := backendtest.Port(cluster.TCP, stickyVIP, all...)
	p.Pools[0].AffinitySeconds = 3600
	o := backendtest.Outside{Verdict: plan.Forward, NodePort: 30080}
	if local != nil {
		p.Pools[0].Local, o.Local = local, true
	}
	return backendtest.Named("sticky", o.Add(p))
}

func (n *stickyNode) apply(next plan.Service) {
	n.Helper()
	if err := n.Do(func() error { return n.b.Apply(n.Context(), []kernelnat.Change{{Old: n.now, New: next}}) }); err != nil {
		n.Fatal(err)
	}
	n.now = next
}

func (n *stickyNode) sync(next plan.Service) {
	n.Helper()
	err := n.Do(func() error {
		_, err := n.b.Sync(n.Context(), kernelnat.State{Services: []plan.Service{next}})
		return err
	})
	if err != nil {
		n.Fatal(err)
	}
	n.now = next
}

// ask returns the one endpoint that answers a client some times.
func (n *stickyNode) ask(from *netlab.Host, to netip.AddrPort, times int) netip.AddrPort {
	n.Helper()
	answered := n.answers(from, to, times)
	if len(answered) != 1 {
		n.Fatalf("%s is answered by %v", from.Name, answered)
	}
	for a := range answered {
		return a
	}
	panic("unreachable")
}

// answers counts the endpoints that answer.
func (n *stickyNode) answers(from *netlab.Host, to netip.AddrPort, times int) map[netip.AddrPort]int {
	n.Helper()
	out := make(map[netip.AddrPort]int)
	for range times {
		ctx, cancel := context.WithTimeout(n.Context(), 10*time.Second)
		reply, err := from.Ask(ctx, "tcp", to)
		cancel()
		if err != nil {
			n.Fatal(err)
		}
		out[n.names[reply.Host]]++
	}
	return out
}

func without(all []netip.AddrPort, gone netip.AddrPort) (rest []netip.AddrPort) {
	for _, e := range all {
		if e != gone {
			rest = append(rest, e)
		}
	}
	return rest
}

// A client whose endpoint goes gets another one, which it keeps, also when the first one is
// back, and in the next process.
func TestClientWhoseEndpointGoes(t *testing.T) {
	n := newStickyNode(t, 1)
	client, nodePort := n.clients[0], netip.AddrPortFrom(n.Addr(cluster.IPv4), 30080)
	n.sync(n.service(n.pods, nil))
	for round := range 6 {
		at := n.ask(client, stickyVIP, 8)
		n.apply(n.service(without(n.pods, at), nil))
		next := n.ask(client, []netip.AddrPort{stickyVIP, nodePort}[round%2], 8)
		if next == at {
			t.Fatalf("%v answers, which has gone", at)
		}
		n.apply(n.service(n.pods, nil))
		if round%3 == 2 {
			n.b.Close()
			n.b = newBackend(t, cluster.IPv4, settings)
			n.sync(n.now)
		}
		for _, to := range []netip.AddrPort{nodePort, stickyVIP} {
			if again := n.ask(client, to, 4); again != next {
				t.Fatalf("round %d: %v answers at %v after %v", round, again, to, next)
			}
		}
	}
}

// A frontend for the endpoints on this node does not lead to the one elsewhere that a client
// has been to over another frontend. That one leads to the one on this node from then on.
func TestClientOfEndpointElsewhere(t *testing.T) {
	n := newStickyNode(t, 0)
	client, nodePort := n.Outside, netip.AddrPortFrom(n.Addr(cluster.IPv4), 30080)
	n.sync(n.service(n.pods, nil))
	at := n.ask(client, stickyVIP, 4)
	here := without(n.pods, at)
	n.apply(n.service(n.pods, here))
	if again := n.ask(client, stickyVIP, 4); again != at {
		t.Fatalf("%v answers after %v", again, at)
	}
	local := n.ask(client, nodePort, 8)
	if local == at {
		t.Fatalf("%v answers, which is elsewhere", at)
	}
	if again := n.ask(client, stickyVIP, 4); again != local {
		t.Errorf("%v answers after %v", again, local)
	}
}

// Where no more clients can be remembered, those that are keep their endpoints, and others get
// any. Who is forgotten makes room.
func TestMoreClientsThanCanBeRemembered(t *testing.T) {
	n := newStickyNode(t, 4)
	n.b.schema.clients.size = 2
	n.sync(n.service(n.pods, nil))
	known := []netip.AddrPort{n.ask(n.clients[0], stickyVIP, 4), n.ask(n.clients[1], stickyVIP, 4)}
	for _, c := range n.clients[2:] {
		// By chance alone one answers with 3^-29.
		if answered := n.answers(c, stickyVIP, 30); len(answered) == 1 {
			t.Errorf("%s is answered by %v alone", c.Name, answered)
		}
	}
	for i, at := range known {
		if again := n.ask(n.clients[i], stickyVIP, 8); again != at {
			t.Errorf("%v answers after %v", again, at)
		}
	}
	// The kernel takes a second to have room again.
	at := known[0]
	for range 3 {
		n.apply(n.service(without(n.pods, at), nil))
		n.answers(n.clients[0], stickyVIP, 2)
		n.apply(n.service(n.pods, nil))
		for deadline := time.Now().Add(30 * time.Second); ; {
			answered := n.answers(n.clients[0], stickyVIP, 10)
			if len(answered) == 1 {
				for at = range answered {
				}
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%v answer: there is no room again", answered)
			}
		}
	}
}

// stickyService remembers clients, and has some endpoints of many.
func stickyService(n, from, endpoints int) plan.Service {
	var all []netip.AddrPort
	for i := range endpoints {
		all = append(all, endpointOf(from+i))
	}
	p := backendtest.Port(cluster.TCP, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 43, 0, byte(n)}), 80), all...)
	p.Pools[0].AffinitySeconds = 60
	return backendtest.Named(fmt.Sprint("sticky-", n), p)
}

// A member has a number that no other has had lately, and that begins with its pool's. Where
// there are too few, the rest has none.
func TestNumbersOfMembers(t *testing.T) {
	s := newState(newSchema(cluster.IPv4, false))
	had := make(map[uint32]netip.AddrPort)
	var written tally
	to := func(from, endpoints int) (numbered int) {
		t.Helper()
		p := stickyService(1, from, endpoints)
		next := s.target(s.services[p.Name], &p)
		s.change(&written, s.services[p.Name], next)
		s.services[p.Name] = next
		given := make(map[uint32]bool)
		for at, m := range next.pools[0].members {
			if m.number == 0 {
				continue
			}
			if given[m.number] || m.number&^ofOnePool != next.pools[0].number {
				t.Fatalf("%v has the number %x in pool %x", at, m.number, next.pools[0].number)
			}
			given[m.number], had[m.number] = true, at
		}
		return len(given)
	}
	for i := range ofOnePool - 9 {
		if n := to(i, 10); n != 10 {
			t.Fatalf("%d of 10 endpoints have numbers", n)
		}
	}
	if len(had) != ofOnePool {
		t.Errorf("%d numbers are given out, and there are %d", len(had), ofOnePool)
	}
	to(0, 5000)
	if n := to(10_000, 5000); n != ofOnePool-5000 {
		t.Errorf("beside 5000 others %d have numbers", n)
	}
}

// Where more ports than have numbers are to remember clients, the rest does not.
func TestNumbersOfPools(t *testing.T) {
	s := newState(newSchema(cluster.IPv4, false))
	s.poolNumbers = newNumbering(members>>memberBits, 2)
	var written tally
	sticky := func(n int) bool {
		p := stickyService(n, 0, 3)
		next := s.target(nil, &p)
		s.change(&written, nil, next)
		s.services[p.Name] = next
		return s.classIDs[next.frontends[0].class].affinity > 0
	}
	for n, want := range []bool{true, true, false} {
		if sticky(n) != want {
			t.Errorf("Service %d remembers its clients: %t", n, !want)
		}
	}
	name := stickyService(0, 0, 0).Name
	s.change(&written, s.services[name], nil)
	if !sticky(3) {
		t.Error("the number of a Service that has gone is not free")
	}
}
