package plan_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

const (
	node        = "node-1"
	here, there = node, "node-2"
)

var self = plan.Node{Name: node, Zone: "zone-a", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.42.7.0/24")}}

var (
	name = cluster.ServiceName{Namespace: "testing", Name: "echo"}
	vip4 = netip.MustParseAddr("10.43.0.1")
	vip6 = netip.MustParseAddr("fd00:10:43::1")
	http = cluster.EndpointPort{Name: "http", Protocol: cluster.TCP, Port: 5678}
)

// condition is what discovery/v1 says of an endpoint.
type condition int

const (
	ready condition = iota
	notReady
	terminating // and still serving
	gone        // terminating and not serving
)

func endpoint(addr string, c condition, node string, ports ...cluster.EndpointPort) cluster.Endpoint {
	if ports == nil {
		ports = []cluster.EndpointPort{http}
	}
	return cluster.Endpoint{
		Addr: netip.MustParseAddr(addr), Slice: &cluster.EndpointSlice{Ports: ports}, Topology: &cluster.Topology{NodeName: node},
		Ready: c == ready, Serving: c == ready || c == terminating, Terminating: c == terminating || c == gone,
	}
}

func service(local bool, endpoints ...cluster.Endpoint) *cluster.Service {
	return cluster.New(cluster.Service{
		Name: name, Kind: cluster.KindClusterIP, ClusterIPs: []netip.Addr{vip4}, InternalLocal: local,
		Ports: []cluster.Port{{Name: "http", Protocol: cluster.TCP, Port: 80}},
	}, endpoints)
}

func addrPorts(texts ...string) []netip.AddrPort {
	var out []netip.AddrPort
	for _, text := range texts {
		out = append(out, netip.MustParseAddrPort(text))
	}
	return out
}

// endpointCases say which endpoints count, by condition and by internalTrafficPolicy (KEP-1669).
var endpointCases = []struct {
	name      string
	local     bool
	endpoints []cluster.Endpoint
	verdict   plan.Verdict
	want      []netip.AddrPort
	draining  []netip.AddrPort
}{
	{name: "none", verdict: plan.Reject},
	{
		name:      "ready",
		endpoints: []cluster.Endpoint{endpoint("10.42.0.2", ready, here), endpoint("10.42.0.1", ready, there)},
		verdict:   plan.Forward, want: addrPorts("10.42.0.1:5678", "10.42.0.2:5678"),
	},
	{
		name:      "ready before terminating",
		endpoints: []cluster.Endpoint{endpoint("10.42.0.1", ready, here), endpoint("10.42.0.2", terminating, here), endpoint("10.42.0.3", notReady, here)},
		verdict:   plan.Forward, want: addrPorts("10.42.0.1:5678"), draining: addrPorts("10.42.0.2:5678"),
	},
	{
		name:      "terminating if none is ready",
		endpoints: []cluster.Endpoint{endpoint("10.42.0.2", terminating, here), endpoint("10.42.0.3", notReady, here), endpoint("10.42.0.4", gone, here)},
		verdict:   plan.Forward, want: addrPorts("10.42.0.2:5678"),
	},
	{
		name:      "none serves",
		endpoints: []cluster.Endpoint{endpoint("10.42.0.3", notReady, here), endpoint("10.42.0.4", gone, here)},
		verdict:   plan.Reject,
	},
	{
		name:      "another port only",
		endpoints: []cluster.Endpoint{endpoint("10.42.0.1", ready, here, cluster.EndpointPort{Name: "http", Protocol: cluster.UDP, Port: 5678})},
		verdict:   plan.Reject,
	},
	{
		name:      "another family only",
		endpoints: []cluster.Endpoint{endpoint("fd00:10:42::1", ready, here)},
		verdict:   plan.Reject,
	},
	{
		name: "local", local: true,
		endpoints: []cluster.Endpoint{endpoint("10.42.0.1", ready, here), endpoint("10.42.1.1", ready, there), endpoint("10.42.2.1", ready, "")},
		verdict:   plan.Forward, want: addrPorts("10.42.0.1:5678"), draining: addrPorts("10.42.1.1:5678", "10.42.2.1:5678"),
	},
	{
		name: "local terminating, though others are ready elsewhere", local: true,
		endpoints: []cluster.Endpoint{endpoint("10.42.0.1", terminating, here), endpoint("10.42.1.1", ready, there)},
		verdict:   plan.Forward, want: addrPorts("10.42.0.1:5678"), draining: addrPorts("10.42.1.1:5678"),
	},
	{
		name: "local, all elsewhere", local: true,
		endpoints: []cluster.Endpoint{endpoint("10.42.1.1", ready, there), endpoint("10.42.1.2", terminating, there)},
		verdict:   plan.Drop, draining: addrPorts("10.42.1.1:5678", "10.42.1.2:5678"),
	},
	{name: "local, none at all", local: true, verdict: plan.Reject},
}

func TestEndpoints(t *testing.T) {
	for _, c := range endpointCases {
		t.Run(c.name, func(t *testing.T) {
			s := plan.Compute(service(c.local, c.endpoints...), cluster.IPv4, self, plan.Options{})
			if len(s.Frontends) != 1 || len(s.Pools) != 1 {
				t.Fatalf("%d frontends, %d pools", len(s.Frontends), len(s.Pools))
			}
			f, p := s.Frontends[0], s.Pools[0]
			if f.Verdict != c.verdict || f.Local != c.local {
				t.Errorf("verdict %v, local %v", f.Verdict, f.Local)
			}
			endpoints := p.For(c.local)
			if others := p.For(!c.local); len(others) > 0 {
				t.Errorf("endpoints %v of the other policy, which nothing uses", others)
			}
			if !slices.Equal(endpoints, c.want) || !slices.Equal(p.Draining, c.draining) {
				t.Errorf("endpoints %v draining %v, want %v and %v", endpoints, p.Draining, c.want, c.draining)
			}
		})
	}
}

// Terminating are the endpoints whose flows are to go elsewhere: not those that still get
// new ones, nor an address that the next pod serves at already.
func TestTerminating(t *testing.T) {
	for _, c := range []struct {
		name      string
		local     bool
		endpoints []cluster.Endpoint
		want      []netip.AddrPort
	}{
		{"beside a ready one", false, []cluster.Endpoint{endpoint("10.42.0.1", ready, here), endpoint("10.42.0.2", terminating, here)}, addrPorts("10.42.0.2:5678")},
		{"none is ready", false, []cluster.Endpoint{endpoint("10.42.0.2", terminating, here), endpoint("10.42.0.3", notReady, here)}, nil},
		{"ready elsewhere", true, []cluster.Endpoint{endpoint("10.42.0.1", ready, here), endpoint("10.42.1.1", ready, there), endpoint("10.42.1.2", terminating, there)}, addrPorts("10.42.1.2:5678")},
		{"the next pod is there", true, []cluster.Endpoint{endpoint("10.42.0.1", ready, here), endpoint("10.42.1.1", ready, there), endpoint("10.42.1.1", terminating, there)}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := plan.Compute(service(c.local, c.endpoints...), cluster.IPv4, self, plan.Options{}).Pools[0]
			if !slices.Equal(p.Terminating, c.want) {
				t.Errorf("terminating %v, want %v", p.Terminating, c.want)
			}
		})
	}
}

// Ports are matched by name and protocol, in whichever slice they are, and may
// have another number at each endpoint.
func TestNamedPorts(t *testing.T) {
	metrics := func(number uint16) cluster.EndpointPort {
		return cluster.EndpointPort{Name: "metrics", Protocol: cluster.TCP, Port: number}
	}
	s := service(false)
	s = cluster.New(cluster.Service{
		Name: name, ClusterIPs: s.ClusterIPs,
		Ports: append(s.Ports, cluster.Port{Name: "metrics", Protocol: cluster.TCP, Port: 9000}),
	},
		[]cluster.Endpoint{endpoint("10.42.0.1", ready, node, http, metrics(9001))},
		[]cluster.Endpoint{endpoint("10.42.0.2", ready, node, http, metrics(9002)), endpoint("10.42.0.3", ready, node)},
	)
	p := plan.Compute(s, cluster.IPv4, self, plan.Options{})
	ports := p.Pools
	if want := addrPorts("10.42.0.1:5678", "10.42.0.2:5678", "10.42.0.3:5678"); !slices.Equal(ports[0].Endpoints, want) {
		t.Errorf("http: %v, want %v", ports[0].Endpoints, want)
	}
	if want := addrPorts("10.42.0.1:9001", "10.42.0.2:9002"); !slices.Equal(ports[1].Endpoints, want) {
		t.Errorf("metrics: %v, want %v", ports[1].Endpoints, want)
	}
	if ports[0].Port != "http" || ports[1].Port != "metrics" || p.Of(1)[0].At != netip.AddrPortFrom(vip4, 9000) {
		t.Errorf("plan %v", p)
	}
}

// An address that is in two slices, with different ports, is one endpoint of
// each port.
func TestAddressInTwoSlices(t *testing.T) {
	s := service(false)
	other := cluster.EndpointPort{Name: "other", Protocol: cluster.TCP, Port: 1}
	s = cluster.New(*s,
		[]cluster.Endpoint{endpoint("10.42.0.1", ready, node, http)},
		[]cluster.Endpoint{endpoint("10.42.0.1", ready, node, http, other)})
	if got, want := plan.Compute(s, cluster.IPv4, self, plan.Options{}).Pools[0].Endpoints, addrPorts("10.42.0.1:5678"); !slices.Equal(got, want) {
		t.Errorf("endpoints %v, want %v", got, want)
	}
}

// Whose Services are planned for, by what their labels say.
func TestProxy(t *testing.T) {
	proxies := []cluster.Proxy{{}, cluster.NamedProxy(""), cluster.NamedProxy("other"), cluster.NoProxy()}
	for _, own := range proxies[:3] {
		for _, of := range proxies {
			s := service(false, endpoint("10.42.0.1", ready, node))
			s.Proxy = of
			if got := len(plan.Compute(s, cluster.IPv4, self, plan.Options{Proxy: own}).Frontends) > 0; got != (own == of) {
				t.Errorf("proxy %+v serves a Service for %+v: %t", own, of, got)
			}
		}
	}
}

// An endpoint that is for names counts where another slice has it too.
func TestNamesOnly(t *testing.T) {
	names := func(e cluster.Endpoint) cluster.Endpoint {
		slice := *e.Slice
		slice.NamesOnly = true
		e.Slice = &slice
		return e
	}
	first, second := endpoint("10.42.0.1", ready, node), endpoint("10.42.0.2", ready, node)
	for _, c := range []struct {
		given   []cluster.Endpoint
		verdict plan.Verdict
		want    []netip.AddrPort
	}{
		{[]cluster.Endpoint{names(first), names(second)}, plan.Reject, nil},
		{[]cluster.Endpoint{names(first), second}, plan.Forward, addrPorts("10.42.0.2:5678")},
		{[]cluster.Endpoint{names(first), first}, plan.Forward, addrPorts("10.42.0.1:5678")},
	} {
		p := plan.Compute(service(false, c.given...), cluster.IPv4, self, plan.Options{})
		if v, endpoints := p.Frontends[0].Verdict, p.Pools[0].Endpoints; v != c.verdict || !slices.Equal(endpoints, c.want) {
			t.Errorf("verdict %v, endpoints %v; want %v, %v", v, endpoints, c.verdict, c.want)
		}
	}
}

func TestDualStack(t *testing.T) {
	s := cluster.New(cluster.Service{
		Name: name, ClusterIPs: []netip.Addr{vip6, vip4}, Ports: service(false).Ports,
	}, []cluster.Endpoint{endpoint("10.42.0.1", ready, node), endpoint("fd00:10:42::1", ready, node)})
	for _, want := range []struct {
		family   cluster.Family
		frontend netip.Addr
		endpoint string
	}{{cluster.IPv6, vip6, "[fd00:10:42::1]:5678"}, {cluster.IPv4, vip4, "10.42.0.1:5678"}} {
		p := plan.Compute(s, want.family, self, plan.Options{})
		if len(p.Frontends) != 1 || p.Frontends[0].At.Addr() != want.frontend || !slices.Equal(p.Pools[0].Endpoints, addrPorts(want.endpoint)) {
			t.Errorf("%s: plan %v", want.family, p)
		}
	}
}

func TestMasquerade(t *testing.T) {
	cidr4, cidr6 := netip.MustParsePrefix("10.42.0.0/16"), netip.MustParsePrefix("fd00:10:42::/64")
	both := cluster.New(cluster.Service{Name: name, ClusterIPs: []netip.Addr{vip4, vip6}, Ports: service(false).Ports})
	for _, c := range []struct {
		name    string
		options plan.Options
		v4, v6  plan.Masquerade
	}{
		{name: "nobody"},
		{"clients outside, both families", plan.Options{ClusterCIDRs: []netip.Prefix{cidr6, cidr4}}, plan.Masquerade{Outside: plan.Clients{Range: cidr4}}, plan.Masquerade{Outside: plan.Clients{Range: cidr6}}},
		{"clients outside, one family", plan.Options{ClusterCIDRs: []netip.Prefix{cidr4}}, plan.Masquerade{Outside: plan.Clients{Range: cidr4}}, plan.Masquerade{}},
		{"clients outside the node's pod ranges", plan.Options{ClusterCIDRs: []netip.Prefix{cidr4}, NodeCIDR: true},
			plan.Masquerade{Outside: plan.Clients{Range: self.PodCIDRs[0]}}, plan.Masquerade{}},
		{"clients from another interface", plan.Options{PodInterface: "veth+"}, plan.Masquerade{Outside: plan.Clients{Interface: "veth+"}}, plan.Masquerade{Outside: plan.Clients{Interface: "veth+"}}},
		{"everybody", plan.Options{ClusterCIDRs: []netip.Prefix{cidr4}, MasqueradeAll: true}, plan.Masquerade{All: true}, plan.Masquerade{All: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for family, want := range map[cluster.Family]plan.Masquerade{cluster.IPv4: c.v4, cluster.IPv6: c.v6} {
				if got := plan.Compute(both, family, self, c.options).Frontends[0].Masquerade; got != want {
					t.Errorf("%s: %v, want %v", family, got, want)
				}
			}
		})
	}
}

func TestWithoutAddress(t *testing.T) {
	s := cluster.New(cluster.Service{Name: name, Kind: cluster.KindHeadless, Ports: service(false).Ports},
		[]cluster.Endpoint{endpoint("10.42.0.1", ready, node)})
	if got := plan.Compute(s, cluster.IPv4, self, plan.Options{}); got.Name != name || len(got.Frontends)+len(got.Pools) != 0 {
		t.Errorf("plan %v", got)
	}
}

// However the endpoints are spread over slices, the plan is the same.
func TestOrderDoesNotMatter(t *testing.T) {
	endpoints := []cluster.Endpoint{
		endpoint("10.42.0.1", ready, node), endpoint("10.42.0.2", terminating, node),
		endpoint("10.42.0.2", ready, node), endpoint("10.42.0.3", terminating, "node-2"),
	}
	want := plan.Compute(service(false, endpoints...), cluster.IPv4, self, plan.Options{})
	slices.Reverse(endpoints)
	template := service(false)
	got := plan.Compute(cluster.New(*template, endpoints[:1], endpoints[1:]), cluster.IPv4, self, plan.Options{})
	if !got.Equal(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestEqual(t *testing.T) {
	base := func() plan.Service {
		return plan.Compute(service(true, endpoint("10.42.0.1", ready, node), endpoint("10.42.0.2", terminating, node)), cluster.IPv4, self, plan.Options{})
	}
	if !base().Equal(base()) {
		t.Fatal("a plan is not equal to itself")
	}
	for name, change := range map[string]func(s *plan.Service){
		"name":       func(s *plan.Service) { s.Name.Name = "other" },
		"nothing":    func(s *plan.Service) { s.Frontends, s.Pools = nil, nil },
		"health":     func(s *plan.Service) { s.HealthCheckNodePort++ },
		"excess":     func(s *plan.Service) { s.Excess = "too many" },
		"port name":  func(s *plan.Service) { s.Pools[0].Port = "other" },
		"protocol":   func(s *plan.Service) { s.Pools[0].Protocol = cluster.UDP },
		"affinity":   func(s *plan.Service) { s.Pools[0].AffinitySeconds++ },
		"frontend":   func(s *plan.Service) { s.Frontends[0].At = addrPorts("10.43.0.1:81")[0] },
		"of":         func(s *plan.Service) { s.Frontends[0].Protocol = cluster.UDP },
		"kind":       func(s *plan.Service) { s.Frontends[0].Kind = plan.NodePort },
		"pool":       func(s *plan.Service) { s.Frontends[0].Pool++ },
		"verdict":    func(s *plan.Service) { s.Frontends[0].Verdict = plan.Drop },
		"policy":     func(s *plan.Service) { s.Frontends[0].Local = false },
		"masquerade": func(s *plan.Service) { s.Frontends[0].Masquerade.All = true },
		"inside":     func(s *plan.Service) { s.Frontends[0].Inside.Interface = "cni0" },
		"sources":    func(s *plan.Service) { s.Frontends[0].Sources = self.PodCIDRs },
		"from node":  func(s *plan.Service) { s.Frontends[0].FromNode = true },
		"endpoints":  func(s *plan.Service) { s.Pools[0].Endpoints = addrPorts("10.42.0.9:5678") },
		"local":      func(s *plan.Service) { s.Pools[0].Local = addrPorts("10.42.0.9:5678") },
		"draining":   func(s *plan.Service) { s.Pools[0].Draining = nil },
		"terminates": func(s *plan.Service) { s.Pools[0].Terminating = nil },
	} {
		s := base()
		change(&s)
		if s.Equal(base()) || base().Equal(s) {
			t.Errorf("%s is not looked at", name)
		}
	}
}
