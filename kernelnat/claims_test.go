package kernelnat

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

func claiming(name string, port uint16, nodePort uint16, ips ...string) plan.Service {
	e := plan.External{NodePort: nodePort, Verdict: plan.Reject}
	for _, ip := range ips {
		e.IPs = append(e.IPs, netip.MustParseAddr(ip))
	}
	if !e.Any() {
		e = plan.External{}
	}
	return plan.Service{Name: cluster.ServiceName{Namespace: "testing", Name: name}, Ports: []plan.Port{{
		Protocol: cluster.TCP, Frontend: netip.AddrPortFrom(netip.MustParseAddr("10.43.0.7"), port), Verdict: plan.Reject, External: e,
	}}}
}

// After every change, those that set names have what a look at everything grants,
// and nobody else has anything new.
func TestClaimsRandomWalk(t *testing.T) {
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 0))
		c := newClaims()
		plans := make(map[cluster.ServiceName]plan.Service)
		created := make(map[cluster.ServiceName]time.Time)
		arrived := make(map[frontend][]cluster.ServiceName)
		granted := make(map[cluster.ServiceName]plan.Service)
		for range 300 {
			name := string(rune('a' + r.IntN(6)))
			p := claiming(name, uint16(80+r.IntN(2)), uint16([]int{0, 30080, 30081}[r.IntN(3)]), []string{"203.0.113.7", "203.0.113.8"}[:r.IntN(3)]...)
			born := []time.Time{{}, time.Unix(int64(r.IntN(3)), 0)}[r.IntN(2)]
			if r.IntN(4) == 0 {
				p = plan.Service{Name: p.Name}
			}
			same := created[p.Name].Equal(born)
			for f := range frontendsOf(plans[p.Name]) {
				if held := winner(arrived[f], created) == p.Name; !held || !same || !frontendsOf(p)[f] {
					arrived[f] = slices.DeleteFunc(arrived[f], func(n cluster.ServiceName) bool { return n == p.Name })
				}
			}
			plans[p.Name], created[p.Name] = p, born
			for f := range frontendsOf(p) {
				if !slices.Contains(arrived[f], p.Name) {
					arrived[f] = append(arrived[f], p.Name)
				}
			}
			for _, other := range append(c.set(p.Name, born, p), p.Name) {
				granted[other], _ = c.grant(plans[other])
			}
			for name, p := range plans {
				want, wantRefused := grantNaively(p, func(f frontend) bool { return winner(arrived[f], created) == p.Name })
				got, refused := c.grant(p)
				if !got.Equal(want) || !granted[name].Equal(want) || len(refused) != wantRefused {
					t.Fatalf("seed %d: %s has %v, was last told %v with %d refused, want %v with %d", seed, name, got, granted[name], len(refused), want, wantRefused)
				}
			}
		}
		for name := range plans {
			c.set(name, time.Time{}, plan.Service{Name: name})
		}
		if len(c.asked)+len(c.wanted) > 0 {
			t.Errorf("left behind: %v, %v", c.asked, c.wanted)
		}
	}
}

// winner is the oldest, of several such the one whose name sorts first, and of those
// of unknown age the one that came first.
func winner(arrived []cluster.ServiceName, created map[cluster.ServiceName]time.Time) (first cluster.ServiceName) {
	for i, name := range arrived {
		a, b := created[name], created[first]
		if i == 0 || !a.IsZero() && (b.IsZero() || a.Before(b) || a.Equal(b) && name.Compare(first) < 0) {
			first = name
		}
	}
	return first
}

func grantNaively(p plan.Service, has func(frontend) bool) (out plan.Service, refused int) {
	first := func(f frontend) bool {
		if !has(f) {
			refused++
			return false
		}
		return true
	}
	out = plan.Service{Name: p.Name}
	for _, port := range p.Ports {
		e := plan.External{Verdict: port.External.Verdict}
		for _, ip := range port.External.IPs {
			if first(frontend{port.Protocol, netip.AddrPortFrom(ip, port.Frontend.Port())}) {
				e.IPs = append(e.IPs, ip)
			}
		}
		if n := port.External.NodePort; n != 0 && first(nodePort(port.Frontend.Addr(), port.Protocol, n)) {
			e.NodePort = n
		}
		if port.External = e; !e.Any() {
			port.External = plan.External{}
		}
		out.Ports = append(out.Ports, port)
	}
	return out, refused
}

func TestClaimsInTheRangeOfClusterIPs(t *testing.T) {
	c := newClaims()
	c.ranges = []netip.Prefix{netip.MustParsePrefix("10.43.0.0/16")}
	p := claiming("a", 80, 0, "10.43.0.9", "203.0.113.7")
	c.set(p.Name, time.Time{}, p)
	got, refused := c.grant(p)
	if ips := got.Ports[0].External.IPs; len(ips) != 1 || ips[0].String() != "203.0.113.7" {
		t.Errorf("granted %v", ips)
	}
	if len(refused) != 1 || !strings.Contains(refused[0].String(), "10.43.0.9:80/TCP is a ClusterIP, or in the range of them") {
		t.Errorf("refused %v", refused)
	}
}

// Of two Services of unknown age the one that has the frontend keeps it.
func TestHolderKeepsItsFrontend(t *testing.T) {
	c := newClaims()
	for _, name := range []string{"z", "a", "z"} {
		p := claiming(name, 80, 30080)
		c.set(p.Name, time.Time{}, p)
	}
	if got, _ := c.grant(claiming("z", 80, 30080)); got.Ports[0].External.NodePort == 0 {
		t.Error("the Service that had the NodePort lost it to a new one")
	}
	if _, refused := c.grant(claiming("a", 80, 30080)); len(refused) != 1 {
		t.Errorf("refused %v", refused)
	}
}

// The younger Service gets the frontend when the older one goes, with no change of
// its own.
func TestConflictIsSettledAndUnsettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, backend := cluster.NewStore(), newMemory()
		withNodePort := func(name string, created int64) cluster.ServiceUpdate {
			u := service(name, "10.42.0.1")
			s := *u.Service
			s.Created, s.Ports = time.Unix(created, 0), []cluster.Port{{Protocol: cluster.TCP, Port: 80, NodePort: 30080}}
			u.Service = &s
			return u
		}
		has := func(want string) {
			t.Helper()
			synctest.Wait()
			var got []string
			for name, p := range backend.held {
				if p.Ports[0].External.NodePort != 0 {
					got = append(got, name.Name)
				}
			}
			if fmt.Sprint(got) != want {
				t.Errorf("%v have the NodePort, want %s", got, want)
			}
		}
		store.Apply(cluster.Update{Synced: true, Services: []cluster.ServiceUpdate{withNodePort("young", 200)}})
		run(t, Options{}, backend, store)
		has("[young]")
		store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{withNodePort("old", 100)}})
		has("[old]")
		store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{gone("old")}})
		has("[young]")
	})
}

// What every host of a network gets is nobody's.
func TestBroadcastIsNobodys(t *testing.T) {
	c := newClaims()
	c.shared = []netip.Addr{netip.MustParseAddr("192.0.2.255")}
	p := claiming("a", 80, 30080, "192.0.2.255", "192.0.2.254")
	c.set(p.Name, time.Time{}, p)
	got, refused := c.grant(p)
	if e := got.Ports[0].External; e.NodePort != 30080 || len(e.IPs) != 1 || e.IPs[0].String() != "192.0.2.254" {
		t.Errorf("granted %+v", e)
	}
	if len(refused) != 1 || refused[0].String() != "192.0.2.255:80/TCP is the broadcast address of a network of this node: choose an address of its own" {
		t.Errorf("refused %v", refused)
	}
}
