package status

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/clusterip/clusterip/test/clustertest"
)

// Of a Service with very many ports that all lack endpoints, a few are explained, and the
// others counted.
func TestManyPortsWithoutEndpoints(t *testing.T) {
	const ports, endpoints = 300, 20
	given := clustertest.Service("shop/web", "10.43.0.7")
	given.Ports = nil
	for i := range uint16(ports) {
		given.Ports = append(given.Ports, cluster.Port{Name: fmt.Sprintf("p%d", i), Protocol: cluster.TCP, Port: i + 1})
	}
	var addrs []string
	for i := range endpoints {
		addrs = append(addrs, netip.AddrFrom4([4]byte{10, 42, 0, byte(i)}).String())
	}
	s := cluster.New(given, clustertest.Ready(addrs...))
	e := Explain(Facts{
		Target: Target{Text: "shop/web", Service: s.Name}, Source: Source{Synced: true}, Service: s,
		Families: []FamilyFacts{{Family: cluster.IPv4, Plan: Plan(s, cluster.IPv4, plan.Options{}, NAT{})}},
	})
	wrong := 0
	for _, step := range e.Steps {
		if step.Condition == Wrong {
			wrong++
		}
	}
	if e.Works || wrong != maxNear+1 {
		t.Errorf("%d steps are wrong: %s", wrong, e.Verdict)
	}
	want := "IPv4: likewise 295 more ports have no endpoint: p5, p6, p7, p8, p9 and 290 more"
	if got := e.Steps[len(e.Steps)-2].Text; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if n := len(e.Service.Endpoints); n != MaxEndpoints || n+e.Service.Left != ports*endpoints || e.Service.Endpoints[n-1].Reason != "no_such_port" {
		t.Errorf("%d endpoints, %d left, the last %+v", n, e.Service.Left, e.Service.Endpoints[n-1])
	}
}

// An endpoint counts also where nobody knows its share, since a scheduler of IPVS goes by the
// connections that there are.
func TestCountsWithoutShare(t *testing.T) {
	s := cluster.New(clustertest.Service("shop/web", "10.43.0.7"), clustertest.Ready("10.42.0.7", "10.42.0.8"))
	for policy, known := range map[cluster.Policy]bool{cluster.Random: true, cluster.RR: true, cluster.LC: false} {
		e := Explain(Facts{
			Target: Target{Text: "shop/web", Service: s.Name}, Source: Source{Synced: true}, Service: s,
			Families: []FamilyFacts{{Family: cluster.IPv4, Plan: Plan(s, cluster.IPv4, plan.Options{Policy: policy}, NAT{})}},
		})
		if len(e.Service.Endpoints) != 2 {
			t.Fatalf("%s: %d endpoints", policy, len(e.Service.Endpoints))
		}
		for _, row := range e.Service.Endpoints {
			if !row.Counts || row.Reason != "" || (row.Share != nil) != known {
				t.Errorf("%s: %+v", policy, row)
			}
		}
	}
}
