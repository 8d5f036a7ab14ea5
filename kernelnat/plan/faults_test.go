package plan_test

import (
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/clusterip/clusterip/test/clustertest"
)

// faulty is a Service with a ClusterIP of each family.
func faulty(change func(*cluster.Service), endpoints ...[]cluster.Endpoint) *cluster.Service {
	s := clustertest.Service("shop/web", "10.43.0.7", "fd00:43::7")
	if change != nil {
		change(&s)
	}
	return cluster.New(s, endpoints...)
}

// with changes endpoints.
func with(change func(*cluster.Endpoint), endpoints []cluster.Endpoint) []cluster.Endpoint {
	for i := range endpoints {
		change(&endpoints[i])
	}
	return endpoints
}

func TestFaults(t *testing.T) {
	ready := clustertest.Ready
	onNode := func(e *cluster.Endpoint) { e.Topology = &cluster.Topology{NodeName: "n"} }
	zoned := func(e *cluster.Endpoint) { e.Hints = &cluster.Hints{Zones: []string{"a"}} }
	noded := func(e *cluster.Endpoint) { e.Hints = &cluster.Hints{Nodes: []string{"n"}, Zones: []string{"a"}} }
	unready := func(e *cluster.Endpoint) { e.Ready, e.Serving = false, false }
	namesOnly := func(e *cluster.Endpoint) { e.Slice = &cluster.EndpointSlice{Ports: e.Slice.Ports, NamesOnly: true} }
	otherPort := func(e *cluster.Endpoint) {
		e.Slice = &cluster.EndpointSlice{Ports: []cluster.EndpointPort{{Name: "web", Protocol: cluster.TCP, Port: 8080}}}
	}
	internal := func(s *cluster.Service) { s.InternalLocal = true }
	external := func(s *cluster.Service) { s.External.Local, s.Ports[0].NodePort = true, 30080 }
	for _, c := range []struct {
		what    string
		service *cluster.Service
		want    []string // the reason, and a part of the text
	}{
		{"well", faulty(nil, ready("10.42.0.1", "fd00::1")), nil},
		{"no endpoints", faulty(nil), nil},
		{"none ready", faulty(nil, with(unready, with(otherPort, ready("10.42.0.1")))), nil},
		{"another port", faulty(nil, with(otherPort, ready("10.42.0.1"))), []string{"PortWithoutEndpoints", "no endpoint has the port http 80/TCP,"}},
		{"another port, one family has it", faulty(nil, with(otherPort, ready("10.42.0.1")), ready("fd00::1")), nil},
		{"another port, who has it is not ready", faulty(nil, with(otherPort, ready("10.42.0.1")), with(unready, ready("10.42.0.2"))), nil},
		{"another port, for names alone", faulty(nil, with(namesOnly, with(otherPort, ready("10.42.0.1")))), nil},
		{"another port, of a family that it lacks", faulty(func(s *cluster.Service) { s.ClusterIPs = s.ClusterIPs[:1] }, with(otherPort, ready("fd00::1"))), nil},
		{"a port without a name", faulty(func(s *cluster.Service) { s.Ports[0].Name = "" }, ready("10.42.0.1")), []string{"PortWithoutEndpoints", "the port 80/TCP,"}},
		{"many ports", faulty(func(s *cluster.Service) {
			for n := range uint16(9) {
				s.Ports = append(s.Ports, cluster.Port{Name: "more", Protocol: cluster.UDP, Port: 1000 + n})
			}
		}, ready("10.42.0.1")), []string{"PortWithoutEndpoints", "more 1004/UDP and 4 more, so"}},
		{"internal Local, on a node", faulty(internal, with(onNode, ready("10.42.0.1"))), nil},
		{"internal Local, one on a node", faulty(internal, ready("10.42.0.1"), with(onNode, ready("10.42.0.2"))), nil},
		{"internal Local, nowhere", faulty(internal, ready("10.42.0.1")), []string{"PolicyWithoutNodes", "internalTrafficPolicy is Local"}},
		{"internal Local, nowhere and without the port", faulty(internal, with(otherPort, ready("10.42.0.1"))), []string{"PortWithoutEndpoints", ""}},
		{"external Local, nowhere", faulty(external, ready("10.42.0.1")), []string{"PolicyWithoutNodes", "externalTrafficPolicy is Local"}},
		{"external Local, and nothing external", faulty(func(s *cluster.Service) { s.External.Local = true }, ready("10.42.0.1")), nil},
		{"hints of all", faulty(nil, with(zoned, ready("10.42.0.1", "10.42.0.2"))), nil},
		{"hints of one family", faulty(nil, with(zoned, ready("10.42.0.1")), ready("fd00::1")), nil},
		{"hints of some", faulty(nil, with(zoned, ready("10.42.0.1")), ready("10.42.0.2")), []string{"HintsIgnored", "hints for zones"}},
		{"hints of all that are ready", faulty(nil, with(zoned, ready("10.42.0.1")), with(unready, ready("10.42.0.2"))), nil},
		{"hints for nodes of some", faulty(nil, with(noded, ready("10.42.0.1")), with(zoned, ready("10.42.0.2"))), []string{"HintsIgnored", "hints for nodes"}},
		{"hints of some that nobody asks for", faulty(internal, with(onNode, with(zoned, ready("10.42.0.1"))), ready("10.42.0.2")), nil},
		{"somebody else's", faulty(func(s *cluster.Service) { s.Proxy = cluster.NamedProxy("other") }, with(otherPort, ready("10.42.0.1"))), nil},
		{"headless", faulty(func(s *cluster.Service) { s.Kind, s.ClusterIPs = cluster.KindHeadless, nil }, with(otherPort, ready("10.42.0.1"))), nil},
	} {
		t.Run(c.what, func(t *testing.T) {
			found := plan.Faults(c.service, cluster.Proxy{})
			switch {
			case len(c.want) == 0:
				if len(found) > 0 {
					t.Errorf("found %v", found)
				}
			case len(found) != 1 || string(found[0].Why) != c.want[0] || !strings.Contains(found[0].Text, c.want[1]):
				t.Errorf("found %v, want %v", found, c.want)
			}
		})
	}
}

// A Fault is the same, however endpoints change.
func TestFaultsStay(t *testing.T) {
	zoned := func(e *cluster.Endpoint) { e.Hints = &cluster.Hints{Zones: []string{"a"}} }
	before := plan.Faults(faulty(nil, with(zoned, clustertest.Ready("10.42.0.1")), clustertest.Ready("10.42.0.2")), cluster.Proxy{})
	after := plan.Faults(faulty(nil, with(zoned, clustertest.Ready("10.42.0.3", "10.42.0.4")), clustertest.Ready("10.42.0.5", "fd00::1")), cluster.Proxy{})
	if len(before) != 1 || len(after) != 1 || before[0] != after[0] {
		t.Errorf("before: %v, after: %v", before, after)
	}
}
