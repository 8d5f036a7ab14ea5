package nftables

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/backendtest"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// services has endpoints that differ.
func services(n, endpoints int) []plan.Service {
	out := make([]plan.Service, 0, n)
	for i := range n {
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(128 + i>>16), byte(i >> 8), byte(i)}), 80)
		all := make([]netip.AddrPort, 0, endpoints)
		for e := range endpoints {
			all = append(all, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(e*2 + i>>16), byte(i >> 8), byte(i)}), 8080))
		}
		p := backendtest.Port(cluster.TCP, at, all...)
		p.Frontends[0].Masquerade.Outside = plan.Clients{Range: netip.MustParsePrefix("10.0.0.0/8")}
		out = append(out, backendtest.Named(fmt.Sprint("service-", i), p))
	}
	return out
}

var sizes = []int{1000, 10_000, 100_000}

// The kernel's time included: everything, into an empty kernel.
func BenchmarkSync(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint("services=", n), func(b *testing.B) {
			all := services(n, 10)
			for b.Loop() {
				b.StopTimer()
				h, backend := newHost(b), newBackend(b, cluster.IPv4, settings)
				b.StartTimer()
				h.do(func() error { _, err := backend.Sync(b.Context(), kernelnat.State{Services: all}); return err })
			}
		})
	}
}

// The next process reads what is there.
func BenchmarkSyncAgain(b *testing.B) {
	for _, n := range sizes[:2] {
		b.Run(fmt.Sprint("services=", n), func(b *testing.B) {
			all, h := services(n, 10), newHost(b)
			h.synced(kernelnat.State{Services: all}, cluster.IPv4)
			for b.Loop() {
				h.synced(kernelnat.State{Services: all}, cluster.IPv4)
			}
		})
	}
}

// One endpoint goes and comes.
func BenchmarkApply(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint("services=", n), func(b *testing.B) {
			all := services(n, 10)
			h, backend := newHost(b), newBackend(b, cluster.IPv4, settings)
			h.do(func() error { _, err := backend.Sync(b.Context(), kernelnat.State{Services: all}); return err })
			old := all[n/2]
			next := old
			next.Pools = slices.Clone(old.Pools)
			next.Pools[0].Endpoints = next.Pools[0].Endpoints[1:]
			var took []time.Duration
			for b.Loop() {
				start := time.Now()
				h.do(func() error { return backend.Apply(b.Context(), []kernelnat.Change{{Old: old, New: next}}) })
				took = append(took, time.Since(start))
				old, next = next, old
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1000, "us-p50")
			b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1000, "us-p99")
		})
	}
}
