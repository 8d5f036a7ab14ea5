package conntrack

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
)

const dnsIP = "10.43.0.10:53"

func dns(endpoints ...string) plan.Service {
	return service("dns", cluster.UDP, endpoints...)
}

func service(name string, protocol cluster.Protocol, endpoints ...string) plan.Service {
	pool := plan.Pool{Protocol: protocol}
	for _, e := range endpoints {
		pool.Endpoints = append(pool.Endpoints, netip.MustParseAddrPort(e))
	}
	return plan.Service{
		Name:      cluster.ServiceName{Namespace: "kube-system", Name: name},
		Frontends: []plan.Frontend{{Key: plan.Key{At: netip.MustParseAddrPort(dnsIP), Protocol: protocol}, Kind: plan.ClusterIP, Verdict: plan.Forward, Treatment: new(plan.Treatment)}},
		Pools:     []plan.Pool{pool},
	}
}

func draining(s plan.Service, endpoint string) plan.Service {
	s.Pools[0].Draining = []netip.AddrPort{netip.MustParseAddrPort(endpoint)}
	return s
}

func none(name string) plan.Service {
	return plan.Service{Name: cluster.ServiceName{Namespace: "kube-system", Name: name}}
}

func TestChanged(t *testing.T) {
	const a, b = "10.42.0.1:53", "10.42.0.2:53"
	tests := []struct {
		name    string
		changes []plan.Change
		// want maps the frontends looked at to the endpoints that stay.
		want map[string][]string
	}{
		{"endpoint goes", []plan.Change{{Old: dns(a, b), New: dns(b)}}, map[string][]string{dnsIP: {b}}},
		{"endpoint comes", []plan.Change{{Old: dns(a), New: dns(a, b)}}, nil},
		{"first endpoint comes", []plan.Change{{Old: dns(), New: dns(a)}}, map[string][]string{dnsIP: {a}}},
		{"last endpoint goes", []plan.Change{{Old: dns(a), New: dns()}}, map[string][]string{dnsIP: nil}},
		{"Service comes", []plan.Change{{Old: none("dns"), New: dns(a)}}, map[string][]string{dnsIP: {a}}},
		{"Service goes", []plan.Change{{Old: dns(a), New: none("dns")}}, map[string][]string{dnsIP: nil}},
		{"endpoint drains", []plan.Change{{Old: dns(a, b), New: draining(dns(b), a)}}, nil},
		{"drained endpoint goes", []plan.Change{{Old: draining(dns(b), a), New: dns(b)}}, map[string][]string{dnsIP: {b}}},
		{"TCP", []plan.Change{{Old: service("web", cluster.TCP, a), New: service("web", cluster.TCP)}}, nil},
		{"SCTP", []plan.Change{{Old: service("sctp", cluster.SCTP, a), New: service("sctp", cluster.SCTP, b)}}, map[string][]string{dnsIP: {b}}},
		{"address moves to a Service that sorts before", []plan.Change{
			{Old: none("a"), New: service("a", cluster.UDP, b)},
			{Old: dns(a), New: none("dns")},
		}, map[string][]string{dnsIP: {b}}},
		{"address moves to a Service that sorts after", []plan.Change{
			{Old: dns(a), New: none("dns")},
			{Old: none("z"), New: service("z", cluster.UDP, b)},
		}, map[string][]string{dnsIP: {b}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var s Stale
			s.Changed(tt.changes)
			got := map[string][]string{}
			for f, serving := range s.serving {
				var list []string
				for _, e := range serving {
					list = append(list, e.String())
				}
				got[f.At.String()] = list
			}
			if tt.want == nil {
				tt.want = map[string][]string{}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if s.Empty() != (len(tt.want) == 0) {
				t.Errorf("Empty() = %v", s.Empty())
			}
		})
	}
}

// What could not be deleted stays noted, with the endpoints as they are by then.
func TestChangedAddsToWhatIsPending(t *testing.T) {
	var s Stale
	s.Changed([]plan.Change{{Old: dns("10.42.0.1:53", "10.42.0.2:53"), New: dns("10.42.0.2:53")}})
	s.Changed([]plan.Change{{Old: dns("10.42.0.2:53"), New: dns("10.42.0.2:53", "10.42.0.3:53")}})
	if !(&filter{&s, nil, new(Draining), nil}).MatchConntrackFlow(flow(17, dnsIP, "10.42.0.1:53")) {
		t.Error("the flow to the endpoint that went is no longer stale")
	}
	if (&filter{&s, nil, new(Draining), nil}).MatchConntrackFlow(flow(17, dnsIP, "10.42.0.3:53")) {
		t.Error("a flow to the new endpoint counts as stale")
	}
}

// A look judges by what is known at its end, and what has come meanwhile is looked at again.
func TestChangedDuringALook(t *testing.T) {
	var s Stale
	stale := func(endpoint string) bool {
		return (&filter{&s, nil, new(Draining), nil}).MatchConntrackFlow(flow(17, dnsIP, endpoint))
	}
	s.Changed([]plan.Change{{Old: dns("10.42.0.1:53", "10.42.0.2:53"), New: dns("10.42.0.2:53")}})
	s.Begin(false)
	if !s.Empty() || !stale("10.42.0.1:53") {
		t.Error("what a look is under way for waits, or is not looked for")
	}
	s.Changed([]plan.Change{{Old: dns("10.42.0.2:53"), New: dns("10.42.0.2:53", "10.42.0.3:53")}})
	if stale("10.42.0.3:53") {
		t.Error("a flow to an endpoint that has come during the look counts as stale")
	}
	s.End(nil)
	if s.Empty() {
		t.Error("what has come during the look is not looked at")
	}
	s.Begin(false)
	s.End(errors.New("refused"))
	if s.Empty() {
		t.Error("after a look that failed there is nothing to look at")
	}
	s.Begin(true)
	s.End(nil)
	if s.Empty() {
		t.Error("what is to be kept is gone")
	}
	s.Begin(false)
	s.End(nil)
	if !s.Empty() || stale("10.42.0.1:53") {
		t.Error("after a look there is something to look at")
	}
}

// What begins to terminate during a look is looked for in the next.
func TestTerminatesDuringALook(t *testing.T) {
	const a, b = "10.42.0.1:53", "10.42.0.2:53"
	var d Draining
	next, _ := d.Next()
	d.Changed([]plan.Change{{Old: dns(a, b), New: terminates(dns(b), a)}})
	d.looked(next, false)
	if _, due := d.Next(); !due {
		t.Error("no look is due")
	}
}

func TestMatchConntrackFlow(t *testing.T) {
	var s Stale
	s.All([]plan.Service{draining(dns("10.42.0.1:53"), "10.42.0.2:53")}, nil)
	var all Stale
	all.All([]plan.Service{dns("10.42.0.1:53")}, []plan.Range{
		{CIDR: netip.MustParsePrefix("10.43.0.0/24"), Exempt: []netip.Prefix{netip.MustParsePrefix("10.43.0.8/32")}},
		{CIDR: netip.MustParsePrefix("10.42.0.0/16"), Open: true},
	})
	for to, want := range map[string]bool{"10.43.0.9:53": true, "10.43.1.9:53": false, "10.43.0.8:53": false, "10.42.7.7:53": false} {
		if (&filter{&all, nil, new(Draining), nil}).MatchConntrackFlow(flow(17, to, "10.42.0.1:53")) != want {
			t.Errorf("a flow to %s, which belongs to no Service, is stale: %t, want %[2]t", to, !want)
		}
	}
	tests := []struct {
		name string
		flow *netlink.ConntrackFlow
		want bool
	}{
		{"to a serving endpoint", flow(17, dnsIP, "10.42.0.1:53"), false},
		{"to a draining endpoint", flow(17, dnsIP, "10.42.0.2:53"), false},
		{"to one that went", flow(17, dnsIP, "10.42.0.9:53"), true},
		{"to another port of a serving endpoint", flow(17, dnsIP, "10.42.0.1:54"), true},
		{"not translated", flow(17, dnsIP, dnsIP), true},
		{"TCP", flow(6, dnsIP, "10.42.0.9:53"), false},
		{"SCTP, which is another frontend", flow(132, dnsIP, "10.42.0.9:53"), false},
		{"another port of the address", flow(17, "10.43.0.10:54", "10.42.0.9:53"), false},
		{"somebody else's", flow(17, "192.0.2.1:53", "192.0.2.1:53"), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := (&filter{&s, nil, new(Draining), nil}).MatchConntrackFlow(tt.flow); got != tt.want {
				t.Errorf("stale = %v, want %v", got, tt.want)
			}
		})
	}
}

// External and load balancer addresses and NodePorts are frontends like the
// ClusterIP; a NodePort is at this node's addresses alone.
func TestExternalFrontends(t *testing.T) {
	service := dns("10.42.0.1:53")
	for kind, at := range map[plan.Kind]string{plan.ExternalIP: "198.51.100.1:53", plan.LoadBalancer: "203.0.113.7:53", plan.NodePort: "0.0.0.0:30053"} {
		f := service.Frontends[0]
		f.Kind, f.At = kind, netip.MustParseAddrPort(at)
		service.Frontends = append(service.Frontends, f)
	}
	var s Stale
	s.Changed([]plan.Change{{Old: service, New: dns()}})
	own := map[netip.Addr]bool{netip.MustParseAddr("192.0.2.1"): true}
	for to, want := range map[string]bool{
		dnsIP: true, "198.51.100.1:53": true, "203.0.113.7:53": true,
		"192.0.2.1:30053": true, "192.0.2.9:30053": false, "198.51.100.1:30053": false, "192.0.2.1:53": false,
	} {
		if got := (&filter{&s, own, new(Draining), nil}).MatchConntrackFlow(flow(17, to, "10.42.0.1:53")); got != want {
			t.Errorf("a flow to %s is stale: %t, want %t", to, got, want)
		}
	}
}

// flow builds what the kernel reports, where IPv4 addresses come in 4 bytes.
func flow(protocol uint8, to, repliedBy string) *netlink.ConntrackFlow {
	dst, src := netip.MustParseAddrPort(to), netip.MustParseAddrPort(repliedBy)
	return &netlink.ConntrackFlow{
		Forward: netlink.IPTuple{Protocol: protocol, DstIP: net.IP(dst.Addr().AsSlice()), DstPort: dst.Port()},
		Reverse: netlink.IPTuple{Protocol: protocol, SrcIP: net.IP(src.Addr().AsSlice()), SrcPort: src.Port()},
	}
}
