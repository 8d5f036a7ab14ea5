package ipvs

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudflare/ipvs"
	"github.com/cloudflare/ipvs/netmask"
	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/backendtest"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/kernelnat/nftables"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var settings = netfilter.Settings{MasqueradeBit: netfilter.DefaultMasqueradeBit}

// site is a node with pods and this backend for IPv4.
type site struct {
	*testing.T
	node     *netlab.Node
	pods     []*netlab.Host
	client   *netlab.Host
	vip      netip.AddrPort
	settings netfilter.Settings
	*Backend
	counted *client
	now     plan.Service
}

func newSite(t *testing.T, pods int) *site {
	t.Helper()
	required(t)
	node, err := netlab.NewNode()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &site{T: t, node: node, settings: settings, vip: netip.MustParseAddrPort("10.43.0.1:80")}
	for i := range pods + 1 {
		pod, err := node.AddPod(fmt.Sprint("pod-", i), netip.MustParseAddr(fmt.Sprint("10.42.1.", i+1)), netip.MustParseAddr(fmt.Sprint("fd00:10:42::1:", i+1)))
		s.must(err)
		if s.client = pod; i < pods {
			s.must(pod.ServeTCP(targetPort))
			s.pods = append(s.pods, pod)
		}
	}
	s.next()
	return s
}

// next is the next process.
func (s *site) next() {
	if s.Backend != nil {
		s.must(s.Backend.Close())
	}
	k := new(client)
	backends, err := newBackends(s.settings, k)
	s.must(err)
	s.Backend, s.counted = backends[cluster.IPv4], k
}

func (s *site) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *site) do(f func() error) {
	s.Helper()
	s.must(s.node.Do(f))
}

// service is one with these pods, by a policy.
func (s *site) service(policy cluster.Policy, weights []cluster.Weight, pods ...*netlab.Host) plan.Service {
	var at []netip.AddrPort
	for _, p := range pods {
		at = append(at, netip.AddrPortFrom(p.Addr(cluster.IPv4), targetPort))
	}
	p := backendtest.Port(cluster.TCP, s.vip, at...)
	p.Pools[0].Policy, p.Pools[0].Weights = policy, weights
	return backendtest.Named("echo", p)
}

func (s *site) sync(services ...plan.Service) (written []string) {
	s.Helper()
	s.do(func() (err error) {
		written, err = s.Sync(s.Context(), kernelnat.State{Services: services})
		return err
	})
	if len(services) > 0 {
		s.now = services[0]
	}
	return written
}

func (s *site) apply(next plan.Service) {
	s.Helper()
	s.do(func() error { return s.Apply(s.Context(), []kernelnat.Change{{Old: s.now, New: next}}) })
	s.now = next
}

// ask returns who answers.
func (s *site) ask(from *netlab.Host) string {
	s.Helper()
	l := &lab{T: s.T, node: s.node}
	return l.ask(from, "tcp", s.vip).Host
}

// What is there is taken over, what somebody has changed is noticed and repaired, and cleanup removes
// what is ours alone.
func TestInKernelKept(t *testing.T) {
	s := newSite(t, 3)
	service := s.service(cluster.LC, nil, s.pods...)
	if written := s.sync(service); len(written) == 0 {
		t.Error("the first Sync says nothing")
	}
	var others ipvs.Client
	foreign := ipvs.Service{Address: netip.MustParseAddr("203.0.113.7"), Port: 80, Protocol: ipvs.TCP, Family: ipvs.INET, Scheduler: "rr", Netmask: netmask.MaskFrom(32, 32)}
	s.do(func() (err error) {
		if others, err = ipvs.New(); err == nil {
			err = others.CreateService(foreign)
		}
		return err
	})
	s.next()
	if written := s.sync(service); len(written) > 0 || s.counted.messages.Load() > 0 {
		t.Errorf("the next process writes %q in %d messages", written, s.counted.messages.Load())
	}
	s.do(func() error {
		if !s.Untouched() {
			t.Error("somebody is said to have written")
		}
		held, err := readHeld(s.servers.within)
		if err != nil || len(held) != 1 {
			return fmt.Errorf("held are %v, %w", held, err)
		}
		for of, h := range held {
			if err := others.RemoveDestination(serviceOf(of, ""), destinationOf(h.reals[1])); err != nil {
				return err
			}
		}
		if s.Untouched() {
			t.Error("nobody is said to have removed an endpoint")
		}
		looked, err := Look(t.Context(), cluster.IPv4, service, kernelnat.State{}, settings)
		if err != nil {
			return err
		}
		if wrong := fmt.Sprint(looked.Wrong, looked.Frontends[0].Wrong); !strings.Contains(wrong, "lacks endpoint "+service.Pools[0].Endpoints[1].String()) {
			t.Errorf("explain says %s", wrong)
		}
		return nil
	})
	s.sync(service)
	s.do(func() error {
		if !s.Untouched() {
			t.Error("after a Sync somebody is said to have written")
		}
		looked, err := Look(t.Context(), cluster.IPv4, service, kernelnat.State{}, settings)
		if err != nil {
			return err
		}
		if len(looked.Wrong)+len(looked.Frontends[0].Wrong) > 0 {
			t.Errorf("explain says %v", looked)
		}
		t.Logf("%q", looked.Frontends[0].Meets)
		if looked, err := nftables.Look(t.Context(), cluster.IPv4, service, kernelnat.State{}, settings); err != nil || looked != nil {
			t.Errorf("nftables finds %v, %v", looked, err)
		}
		if err := s.Cleanup(t.Context()); err != nil {
			return err
		}
		left, err := others.Services()
		if err != nil || len(left) != 1 || left[0].Address != foreign.Address {
			t.Errorf("left are %v, %v", left, err)
		}
		text, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
		if strings.Contains(string(text), "clusterip") {
			t.Errorf("left is %s", text)
		}
		routes, errRoutes := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: routeProtocol, Table: 255}, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
		if errRoutes != nil || len(routes) > 0 {
			t.Errorf("left are %v, %v", routes, errRoutes)
		}
		return err
	})
}

// One endpoint that comes or goes is one message, however many there are; a connection to one that
// goes lives on.
func TestInKernelOneMessage(t *testing.T) {
	s := newSite(t, 3)
	s.sync(s.service(cluster.RR, nil, s.pods...))
	conns := s.hold(6)
	for _, pods := range [][]*netlab.Host{s.pods[:2], s.pods, s.pods[1:]} {
		before := s.counted.messages.Load()
		s.apply(s.service(cluster.RR, nil, pods...))
		if n := s.counted.messages.Load() - before; n > 2 {
			t.Errorf("%d messages for one endpoint, or for one that comes and one that goes", n)
		}
		s.alive(conns, fmt.Sprint(len(pods), " endpoints"))
	}
}

func (s *site) hold(n int) (conns []held) {
	s.Helper()
	l := &lab{T: s.T, node: s.node}
	for range n {
		conns = append(conns, l.hold(s.client, s.vip))
	}
	return conns
}

func (s *site) alive(conns []held, after string) {
	s.Helper()
	for i, c := range conns {
		if err := c.echo(after); err != nil {
			s.Errorf("%s: connection %d: %v", after, i, err)
		}
	}
}

// Connections are counted of ports by nftables and, if asked for, of endpoints by IPVS: whichever
// frontend they came to, each once.
func TestInKernelConnectionsAreCounted(t *testing.T) {
	s := newSite(t, 2)
	o := backendtest.Outside{Verdict: plan.Forward, NodePort: 30080}
	service := s.service(cluster.RR, nil, s.pods...)
	service = backendtest.Named("echo", o.Add(service))
	port := kernelnat.Connections{Service: service.Name, Port: service.Pools[0].Port}
	l := &lab{T: t, node: s.node}
	for round, endpoints := range []bool{true, false} {
		s.settings.CountEndpoints = endpoints
		s.next()
		s.sync(service)
		for range 3 {
			s.ask(s.client)
			s.ask(s.client)
			l.ask(s.client, "tcp", netip.AddrPortFrom(s.node.Addr(cluster.IPv4), 30080))
			l.ask(s.client, "tcp", netip.AddrPortFrom(s.node.Addr(cluster.IPv4), 30080))
		}
		want := map[kernelnat.Connections]uint64{port: uint64(12 * (round + 1))}
		if endpoints {
			for _, e := range service.Pools[0].Endpoints {
				of := port
				of.Endpoint = e
				want[of] = 6
			}
		}
		got := s.counts()
		for until := time.Now().Add(patience); !maps.Equal(got, want) && time.Now().Before(until); got = s.counts() {
			time.Sleep(patience / 100) // the kernel is not up to date at once
		}
		if !maps.Equal(got, want) {
			t.Errorf("counted are %v, want %v", got, want)
		}
	}
}

// counts returns what Connections does, each without its count.
func (s *site) counts() map[kernelnat.Connections]uint64 {
	s.Helper()
	got := make(map[kernelnat.Connections]uint64)
	s.do(func() error {
		all, err := s.Connections()
		for _, c := range all {
			of := c
			of.Count = 0
			got[of] = c.Count
		}
		return err
	})
	return got
}

// The backend nftables takes over, and this one again, and no connection notices.
func TestInKernelSwitch(t *testing.T) {
	s := newSite(t, 3)
	service := s.service(cluster.RR, nil, s.pods...)
	s.sync(service)
	conns := s.hold(3)
	s.must(s.Backend.Close())
	others, err := nftables.New(settings)
	s.must(err)
	random := s.service(cluster.Random, nil, s.pods...)
	s.do(func() error {
		if _, err := others[cluster.IPv4].Sync(t.Context(), kernelnat.State{Services: []plan.Service{random}}); err != nil {
			return err
		}
		return Leave(t.Context(), cluster.IPv4, settings)
	})
	s.alive(conns, "backend nftables")
	conns = append(conns, s.hold(3)...)
	s.do(func() error {
		held, err := readHeld(s.servers.within)
		if len(held) > 0 {
			t.Errorf("left are %v", held)
		}
		return err
	})
	s.must(others[cluster.IPv4].Close())
	s.Backend = nil
	s.next()
	s.sync(service)
	s.alive(conns, "this backend again")
	s.alive(s.hold(3), "new ones")
}

// Who asks a virtual server itself is refused.
func TestInKernelServersAreNobodys(t *testing.T) {
	s := newSite(t, 1)
	s.sync(s.service(cluster.RR, nil, s.pods...))
	at := s.servers.wanted[s.now.Name][0].at
	s.must(s.node.Outside.Do(func() error {
		return netlink.RouteAdd(&netlink.Route{
			Dst: &net.IPNet{IP: at.Addr().AsSlice(), Mask: net.CIDRMask(32, 32)}, Gw: s.node.Addr(cluster.IPv4).AsSlice(),
		})
	}))
	for _, from := range []*netlab.Host{s.client, s.node.Outside} {
		if reply, err := from.Ask(t.Context(), "tcp", at); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%s asks %s: %v, %v, want a refusal", from.Name, at, reply, err)
		}
	}
}

// A thousand Services of ten endpoints are read at once, and written each once.
func TestInKernelManyServices(t *testing.T) {
	const services, endpoints = 1_000, 10
	s := newSite(t, 0)
	var all []plan.Service
	for i := range services {
		var at []netip.AddrPort
		for j := range endpoints {
			at = append(at, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 50 + byte(i/25600), byte(i / 100), byte(i%25*10 + j)}), uint16(8000+i)))
		}
		p := backendtest.Port(cluster.TCP, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 43, byte(i / 256), byte(i)}), 80), at...)
		p.Pools[0].Policy = cluster.LC
		all = append(all, backendtest.Named(fmt.Sprint("echo-", i), p))
	}
	s.sync(all...)
	if n := s.counted.messages.Load(); n != services*(endpoints+1) {
		t.Errorf("the first Sync sends %d messages, want %d", n, services*(endpoints+1))
	}
	s.sync(all...)
	s.next()
	s.sync(all...)
	if n := s.counted.messages.Load(); n != 0 {
		t.Errorf("the next process sends %d messages", n)
	}
	changed := all[77]
	changed.Pools = []plan.Pool{changed.Pools[0]}
	changed.Pools[0].Endpoints = changed.Pools[0].Endpoints[1:]
	s.now = all[77]
	s.apply(changed)
	if n := s.counted.messages.Load(); n != 1 {
		t.Errorf("one endpoint less is %d messages, want 1", n)
	}
}

// What leads to a Service that is not known stays, and so does its virtual server.
func TestInKernelUnknown(t *testing.T) {
	s := newSite(t, 2)
	service := s.service(cluster.RR, nil, s.pods...)
	gone := backendtest.Named("gone", backendtest.Port(cluster.TCP, netip.MustParseAddrPort("10.43.0.2:80"), service.Pools[0].Endpoints...))
	gone.Pools[0].Policy = cluster.RR
	s.sync(service, gone)
	s.next()
	s.do(func() error {
		_, err := s.Sync(t.Context(), kernelnat.State{Incomplete: true, Known: map[cluster.ServiceName]bool{gone.Name: true}})
		if err != nil {
			return err
		}
		held, err := readHeld(s.servers.within)
		if len(held) != 1 {
			t.Errorf("%d virtual servers are there, want that of the Service that is not known", len(held))
		}
		return err
	})
	for _, from := range []*netlab.Host{s.client, s.pods[0], s.pods[0]} { // one of two reaches itself
		s.ask(from)
	}
	if written := s.sync(service); len(written) > 0 {
		t.Errorf("when all are known, %q is written", written)
	}
	s.ask(s.client)
}

// A large Service comes and goes in steps, and others change in between.
func TestInKernelLarge(t *testing.T) {
	s := newSite(t, 2)
	s.sync()
	small := s.service(cluster.RR, nil, s.pods...)
	large := backendtest.Port(cluster.TCP, netip.MustParseAddrPort("10.43.0.9:80"))
	large.Pools[0].Policy = cluster.LC
	for i := range 3000 {
		large.Pools[0].Endpoints = append(large.Pools[0].Endpoints, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 60, byte(i / 256), byte(i)}), 80))
	}
	before := backendtest.Named("large")
	for _, endpoints := range [][]netip.AddrPort{large.Pools[0].Endpoints, large.Pools[0].Endpoints[1500:], nil} {
		next := large
		next.Pools = []plan.Pool{large.Pools[0]}
		next.Pools[0].Endpoints = endpoints
		to := backendtest.Named("large", next)
		if endpoints == nil {
			to = backendtest.Named("large")
		}
		rest, works := s.Large([]kernelnat.Change{{Old: before, New: to}})
		if len(rest) > 0 || len(works) != 1 {
			t.Fatalf("%d changes at once and %d in steps", len(rest), len(works))
		}
		steps := 0
		for done := false; !done; steps++ {
			sent := s.counted.messages.Load()
			s.do(func() (err error) { done, err = works[0].Step(t.Context()); return err })
			if n := s.counted.messages.Load() - sent; n > maxStep+1 {
				t.Errorf("step %d sends %d messages", steps, n)
			}
			if steps == 2 {
				s.apply(small)
				s.ask(s.client)
			}
		}
		s.do(func() error {
			held, err := readHeld(s.servers.within)
			for of, h := range held {
				if of.at != s.servers.wanted[small.Name][0].at && len(h.reals) != len(endpoints) {
					t.Errorf("%s has %d endpoints, want %d", of.at, len(h.reals), len(endpoints))
				}
			}
			if want := min(len(endpoints), 1) + 1; len(held) != want {
				t.Errorf("%d virtual servers, want %d", len(held), want)
			}
			return err
		})
		before = to
	}
}

// Sets of kube-proxy in its IPVS mode go, but for those that somebody else looks into; all others stay.
func TestInKernelSetsOfProxy(t *testing.T) {
	s := newSite(t, 0)
	const used, foreign = "KUBE-LOOP-BACK", "OTHERS"
	s.do(func() error {
		for _, name := range []string{"KUBE-CLUSTER-IP", proxySet(cluster.IPv6, "KUBE-LOAD-BALANCER-SOURCE-CIDR"), used, foreign} {
			if err := netlink.IpsetCreate(name, "hash:ip", netlink.IpsetCreateOptions{}); err != nil {
				return fmt.Errorf("create %s: %w", name, err)
			}
		}
		if out, err := exec.Command("iptables", "-A", "OUTPUT", "-m", "set", "--match-set", used, "dst", "-j", "ACCEPT").CombinedOutput(); err != nil {
			return fmt.Errorf("iptables: %w: %s", err, out)
		}
		for _, family := range cluster.Families {
			if n, err := LeaveProxy(family, nil, true); n > 0 || err != nil {
				t.Errorf("%s: %d connections are waited for, %v", family, n, err)
			}
		}
		left, err := netlink.IpsetListAll()
		var names []string
		for _, l := range left {
			names = append(names, l.SetName)
		}
		if slices.Sort(names); !slices.Equal(names, []string{used, foreign}) {
			t.Errorf("left are %q", names)
		}
		return err
	})
}

// What kube-proxy in its IPVS mode has left serves the connections that it has, and no new ones; then it goes.
func TestInKernelAfterProxy(t *testing.T) {
	s := newSite(t, 2)
	var k ipvs.Client
	theirs := ipvs.Service{Address: s.vip.Addr(), Port: s.vip.Port(), Protocol: ipvs.TCP, Family: ipvs.INET, Scheduler: "rr", Netmask: netmask.MaskFrom(32, 32)}
	nodePort := theirs
	nodePort.Address, nodePort.Port = s.node.Addr(cluster.IPv4), 30080
	foreign := nodePort
	foreign.Address = netip.MustParseAddr("203.0.113.7")
	s.do(func() error {
		link := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: proxyLink}}
		if err := netlink.LinkAdd(link); err != nil {
			return err
		}
		if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: s.vip.Addr().AsSlice(), Mask: net.CIDRMask(32, 32)}}); err != nil {
			return err
		}
		var err error
		if k, err = ipvs.New(); err != nil {
			return err
		}
		for _, v := range []ipvs.Service{theirs, nodePort, foreign} {
			if err := k.CreateService(v); err != nil {
				return err
			}
		}
		return errors.Join(setSysctl("conntrack", "1"), k.CreateDestination(theirs, destinationOf(real{netip.AddrPortFrom(s.pods[0].Addr(cluster.IPv4), targetPort), 1})))
	})
	conns := s.hold(2)
	service := s.service(cluster.RR, nil, s.pods[1])
	o := backendtest.Outside{Verdict: plan.Forward, NodePort: 30080}
	service = backendtest.Named("echo", o.Add(service))
	s.sync(service)
	leave := func(wait bool, want int) {
		t.Helper()
		s.do(func() error {
			n, err := LeaveProxy(cluster.IPv4, []plan.Service{service}, wait)
			if n != want {
				t.Errorf("%d connections are waited for, want %d", n, want)
			}
			return err
		})
	}
	leave(true, 2)
	s.alive(conns, "the new rules")
	if by := s.ask(s.client); by != s.pods[1].Name {
		t.Errorf("%s answers a new connection, want %s", by, s.pods[1].Name)
	}
	leave(true, 2)
	leave(false, 0)
	s.do(func() error {
		left, err := k.Services()
		for _, l := range left {
			if l.Address != foreign.Address && !s.servers.within.Contains(l.Address) {
				t.Errorf("%s:%d is left", l.Address, l.Port)
			}
		}
		if len(left) != 2 {
			t.Errorf("%d virtual servers are left, want ours and one of somebody else", len(left))
		}
		if _, err := netlink.LinkByName(proxyLink); err == nil {
			t.Errorf("%s is left", proxyLink)
		}
		return err
	})
	s.ask(s.client)
	leave(true, 0)
}
