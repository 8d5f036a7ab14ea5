package plan_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

func hinted(e cluster.Endpoint, zones ...string) cluster.Endpoint {
	e.Hints = &cluster.Hints{Zones: zones}
	return e
}

// Each step says whom it left out; who is in no list has been given a reason.
func TestReasons(t *testing.T) {
	names := endpoint("10.42.0.9", ready, here)
	names.Slice.NamesOnly = true
	udp := cluster.EndpointPort{Name: "http", Protocol: cluster.UDP, Port: 5678}
	s := service(false,
		endpoint("10.42.0.1", ready, here), endpoint("10.42.0.2", notReady, here), endpoint("10.42.0.3", terminating, here),
		endpoint("10.42.0.4", ready, here, udp), endpoint("10.42.0.5", ready, there), endpoint("10.42.0.6", gone, there),
		endpoint("fd00::1", ready, here), names)
	hints := service(false, hinted(endpoint("10.42.0.1", ready, there), "zone-a"), hinted(endpoint("10.42.0.2", ready, there), "zone-b"),
		hinted(endpoint("10.42.0.3", notReady, there), "zone-a"))
	for _, c := range []struct {
		name    string
		service *cluster.Service
		local   bool // clients outside
		want    []string
	}{
		{"policy Cluster", s, false, []string{
			"-1 10.42.0.9 for names alone", "-1 fd00::1 of the other IP family", "0 10.42.0.2 not ready", "0 10.42.0.3 terminating",
			"0 10.42.0.4 without that port", "0 10.42.0.6 terminating",
		}},
		{"policy Local beside it", s, true, []string{
			"-1 10.42.0.9 for names alone", "-1 fd00::1 of the other IP family", "0 10.42.0.2 not ready", "0 10.42.0.2 not ready (local)",
			"0 10.42.0.3 terminating", "0 10.42.0.3 terminating (local)", "0 10.42.0.4 without that port",
			"0 10.42.0.5 for another node (local)", "0 10.42.0.6 for another node (local)", "0 10.42.0.6 terminating",
		}},
		{"hints", hints, false, []string{"0 10.42.0.2 for another zone", "0 10.42.0.3 not ready"}},
		{"none serves", service(false, endpoint("10.42.0.2", notReady, here)), false, []string{"0 10.42.0.2 not ready"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			given := *c.service
			if c.local {
				given.External = cluster.External{IPs: addrs("203.0.113.7"), Local: true}
			}
			p, dropped := plan.Explain(&given, cluster.IPv4, self, plan.Options{})
			if !p.Equal(plan.Compute(&given, cluster.IPv4, self, plan.Options{})) {
				t.Errorf("Explain plans something else than Compute: %v", p)
			}
			var got []string
			for _, d := range dropped {
				text := fmt.Sprintf("%d %s %s", d.Pool, d.Endpoint.Addr, d.Why)
				if d.Local {
					text += " (local)"
				}
				got = append(got, text)
			}
			if slices.Sort(got); !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestReasonOfBounds(t *testing.T) {
	p, dropped := plan.Explain(large(10, 6000, 0), cluster.IPv4, self, plan.Options{})
	beyond := 0
	for _, d := range dropped {
		if d.Why == plan.BeyondBounds {
			beyond++
		}
	}
	if want := 10 * (6000 - len(p.Pools[0].Endpoints)); beyond != want || want == 0 {
		t.Errorf("%d endpoints of ports are beyond the bounds, want %d", beyond, want)
	}
}

// Of a Service that drops millions of pairs, some are told of each port.
func TestReasonsOfMillions(t *testing.T) {
	const ports, endpoints = 1000, 1000
	s := large(ports, endpoints, 0)
	slice := *s.Endpoints[0].Slice
	slice.Ports = nil
	for i := range s.Endpoints {
		s.Endpoints[i].Slice = &slice
	}
	_, dropped := plan.Explain(s, cluster.IPv4, self, plan.Options{})
	told := make(map[int]int)
	for _, d := range dropped {
		told[d.Pool]++
	}
	if len(told) != ports || len(dropped) > 60_000 {
		t.Errorf("%d are told, of %d ports", len(dropped), len(told))
	}
}
