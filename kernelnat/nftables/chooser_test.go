package nftables

import (
	"context"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/backendtest"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// chooserOfSome takes the pools that have an even number of endpoints.
type chooserOfSome struct{}

func (chooserOfSome) Range() netip.Prefix { return netip.MustParsePrefix("192.88.99.0/24") }

func (chooserOfSome) Server(service cluster.ServiceName, p *plan.Pool, local bool, _ netip.AddrPort) (at netip.AddrPort, chosen bool) {
	if n := len(p.For(local)); n == 0 || n%2 == 1 || p.AffinitySeconds > 0 || p.Policy == cluster.SourceHash {
		return at, false
	}
	h := fnv.New32a()
	h.Write([]byte(service.String() + p.Port + p.Protocol.String()))
	host := byte(0)
	if local {
		host = 1
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 88, 99, host}), uint16(1+h.Sum32()%60000)), true
}

func (chooserOfSome) Ready(context.Context) error { return nil }

func (chooserOfSome) Keep(netip.AddrPort, cluster.Protocol) []netip.AddrPort { return nil }

// An endpoint that comes to a virtual server, or goes, is an element of hairpin; and of the slots at
// 127.0.0.0/8 where there is a NodePort.
func TestElementsOfVirtualServers(t *testing.T) {
	for _, nodePort := range []uint16{0, 30080} {
		service := func(endpoints int) plan.Service {
			var all []netip.AddrPort
			for i := range endpoints {
				all = append(all, endpointOf(i))
			}
			o := backendtest.Outside{Verdict: plan.Forward, NodePort: nodePort}
			return backendtest.Named("echo", o.Add(backendtest.Port(cluster.TCP, netip.MustParseAddrPort("10.43.0.1:80"), all...)))
		}
		s := newState(newSchema(cluster.IPv4, false)).chosenBy(chooserOfSome{})
		var written tally
		step := func(p plan.Service) int {
			written = 0
			next := s.target(s.services[p.Name], &p)
			s.change(&written, s.services[p.Name], next)
			s.services[p.Name] = next
			return int(written)
		}
		step(service(2000))
		want := 2
		if nodePort != 0 {
			want += 2 + 2 // two slots, and another class
		}
		if n := step(service(2002)); n != want {
			t.Errorf("NodePort %d: two endpoints more are %d elements, want %d", nodePort, n, want)
		}
		held := s.services[service(1).Name]
		for _, f := range held.frontends {
			if len(f.near) != 1 || !s.virtual.Contains(f.near[0].Addr()) {
				t.Errorf("%s has slots %v, want a virtual server", f.Key, f.near)
			}
			if n := len(f.loopback); (n == 2002) != (f.At.Addr().IsUnspecified()) || n != 0 && n != 2002 {
				t.Errorf("%s has %d slots at 127.0.0.0/8", f.Key, n)
			}
		}
	}
}

// A table whose pools lead to virtual servers becomes one without them, and back, without being made
// anew: what was translated before stays.
func TestChooserComesAndGoes(t *testing.T) {
	h := newHost(t)
	endpoints := []netip.AddrPort{endpointOf(0), endpointOf(1)}
	o := backendtest.Outside{Verdict: plan.Forward, NodePort: 30080}
	state := kernelnat.State{Services: []plan.Service{backendtest.Named("echo", o.Add(backendtest.Port(cluster.TCP, netip.MustParseAddrPort("10.43.0.1:80"), endpoints...)))}}
	for i, chooser := range []Chooser{nil, chooserOfSome{}, chooserOfSome{}, nil} {
		choosers := make(map[cluster.Family]Chooser)
		if chooser != nil {
			choosers[cluster.IPv4] = chooser
		}
		both, err := NewFor(settings, choosers)
		if err != nil {
			t.Fatal(err)
		}
		b := both[cluster.IPv4]
		var written []string
		h.do(func() (err error) { written, err = b.Sync(t.Context(), state); return err })
		b.Close()
		text := strings.Join(written, "; ")
		if strings.Contains(text, "another layout") || i == 2 && len(written) > 0 {
			t.Errorf("Sync %d writes %s", i, text)
		}
	}
}

// An endpoint that says it is where virtual servers are gets no packets.
func TestEndpointsAreNoVirtualServers(t *testing.T) {
	own, other := endpointOf(1), netip.MustParseAddrPort("192.88.99.0:7")
	for _, c := range []struct {
		endpoints []netip.AddrPort
		want      int
	}{{[]netip.AddrPort{own, other, endpointOf(2)}, 2}, {[]netip.AddrPort{other}, 0}} {
		p := backendtest.Named("echo", backendtest.Port(cluster.TCP, netip.MustParseAddrPort("10.43.0.1:80"), c.endpoints...))
		f := newState(newSchema(cluster.IPv4, false)).chosenBy(chooserOfSome{}).target(nil, &p).frontends[0]
		if len(f.near) != c.want || slices.Contains(f.near, other) || (f.class != 0) != (c.want > 0) {
			t.Errorf("%v: slots %v and class %x", c.endpoints, f.near, f.class)
		}
	}
}

// taker is a Chooser whose virtual servers are taken over as they are.
type taker struct {
	chooserOfSome
	given map[netip.AddrPort]string // to the Services that it was told of
	next  uint16
}

func (k *taker) Server(service cluster.ServiceName, p *plan.Pool, local bool, before netip.AddrPort) (at netip.AddrPort, chosen bool) {
	if len(p.For(local)) == 0 {
		return at, false
	}
	if at = before; !at.IsValid() || k.given[at] != "" {
		k.next++
		at = netip.AddrPortFrom(netip.MustParseAddr("192.88.99.0"), k.next)
	}
	k.given[at] = service.String() + ":" + p.Port
	return at, true
}

// Who has got a frontend of another Service, or of another port, while nobody ran does not take the
// virtual server over that others of its frontends still lead to.
func TestVirtualServersStayTheirServices(t *testing.T) {
	h := newHost(t)
	port := func(name string, clusterIP int, nodePort uint16) plan.Service {
		o := backendtest.Outside{Verdict: plan.Forward, NodePort: nodePort}
		p := o.Add(withEndpoints(clusterIP, 2))
		p.Pools[0].Port = name
		return p
	}
	of := backendtest.Named
	sync := func(k *taker, services ...plan.Service) {
		b := newBackendFor(t, k)
		h.do(func() error { _, err := b.Sync(t.Context(), kernelnat.State{Services: services}); return err })
		b.Close()
	}
	first := &taker{given: make(map[netip.AddrPort]string)}
	sync(first, of("b", port("http", 2, 30080)), of("c", port("old", 4, 30081)))
	second := &taker{given: make(map[netip.AddrPort]string), next: first.next}
	sync(second, of("a", port("http", 1, 30080)), of("b", port("http", 2, 0)), of("c", port("new", 3, 30081), port("old", 4, 0)))
	for at, was := range first.given {
		if is := second.given[at]; is != was {
			t.Errorf("%s is of %q, and was of %s", at, is, was)
		}
	}
}

func newBackendFor(t *testing.T, chooser Chooser) *Backend {
	t.Helper()
	both, err := NewFor(settings, map[cluster.Family]Chooser{cluster.IPv4: chooser})
	if err != nil {
		t.Fatal(err)
	}
	return both[cluster.IPv4]
}
