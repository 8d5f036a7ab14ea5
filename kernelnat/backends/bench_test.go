package backends

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/clusterip/clusterip/test/clustertest"
)

// large is a state of so many Services with one port and so many endpoints.
func large(services, endpoints int) kernelnat.State {
	state := kernelnat.State{Known: make(map[cluster.ServiceName]bool)}
	for i := range services {
		var ready []string
		for e := range endpoints {
			n := i*endpoints + e
			ready = append(ready, fmt.Sprintf("10.%d.%d.%d", 128+n>>16, n>>8&255, n&255))
		}
		s := cluster.New(clustertest.Service(fmt.Sprintf("ns-%d/service-%d", i%100, i), fmt.Sprintf("10.43.%d.%d", i>>8, i&255)), clustertest.Ready(ready...))
		p := plan.Compute(s, cluster.IPv4, plan.Node{}, plan.Options{ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.128.0.0/9")}})
		state.Services = append(state.Services, p)
		state.Known[p.Name] = true
	}
	return state
}

// BenchmarkLook measures what explain takes to read the kernel's rules of one Service among 10,000
// of 10 endpoints, and what rules -diff takes to compare all of them.
func BenchmarkLook(b *testing.B) {
	settings := netfilter.Settings{MasqueradeBit: netfilter.DefaultMasqueradeBit}
	state := large(10_000, 10)
	for _, chosen := range all {
		b.Run(chosen.Name, func(b *testing.B) {
			n := newNode(b)
			do := func(f func() error) {
				b.Helper()
				if err := n.Do(f); err != nil {
					b.Fatal(err)
				}
			}
			both, err := chosen.New(settings)
			if err != nil {
				b.Fatal(err)
			}
			do(func() error { _, err := both[cluster.IPv4].Sync(b.Context(), state); return err })
			b.Run("Look", func(b *testing.B) {
				defer reportProcessor(b, clustertest.ProcessorTime())
				for i := 0; b.Loop(); i++ {
					p := state.Services[i*997%len(state.Services)]
					do(func() error {
						held, _, err := Look(b.Context(), chosen.Name, cluster.IPv4, p, kernelnat.State{}, settings)
						if err == nil && (held == nil || len(held.Frontends[0].Wrong) > 0) {
							err = fmt.Errorf("%s: %+v", p.Name, held)
						}
						return err
					})
				}
			})
			b.Run("Drift", func(b *testing.B) {
				defer reportProcessor(b, clustertest.ProcessorTime())
				for b.Loop() {
					do(func() error {
						drift, err := chosen.Drift(b.Context(), map[cluster.Family]kernelnat.State{cluster.IPv4: state}, settings)
						if err == nil && len(drift[cluster.IPv4]) > 0 {
							err = fmt.Errorf("%+v", drift[cluster.IPv4][:1])
						}
						return err
					})
				}
			})
		})
	}
}

// reportProcessor adds the processor time to what is measured: on a busy machine it says more.
func reportProcessor(b *testing.B, before time.Duration) {
	b.ReportMetric(float64((clustertest.ProcessorTime()-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
}
