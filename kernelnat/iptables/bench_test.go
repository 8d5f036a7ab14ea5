package iptables

import (
	"slices"
	"testing"

	"github.com/clusterip/clusterip/kernelnat"
)

// The kernel's time included: 1,000 Services x 2 ports x 10 endpoints.

func BenchmarkSync(b *testing.B) {
	all := services(1000, 2, 10)
	for _, v := range variants {
		b.Run(string(v), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				h := newHost(b, v)
				b.StartTimer()
				h.do(b, func() error { return newBackend(b).Sync(b.Context(), all) })
			}
		})
	}
}

func BenchmarkSyncAgain(b *testing.B) {
	all := services(1000, 2, 10)
	for _, v := range variants {
		b.Run(string(v), func(b *testing.B) {
			h, backend := newHost(b, v), newBackend(b)
			h.do(b, func() error { return backend.Sync(b.Context(), all) })
			for b.Loop() {
				h.do(b, func() error { return backend.Sync(b.Context(), all) })
			}
		})
	}
}

// One endpoint less, and back again.
func BenchmarkApply(b *testing.B) {
	all := services(1000, 2, 10)
	old := all[500]
	next := old
	next.Pools = slices.Clone(old.Pools)
	next.Pools[0].Endpoints = next.Pools[0].Endpoints[1:]
	for _, v := range variants {
		b.Run(string(v), func(b *testing.B) {
			h, backend := newHost(b, v), newBackend(b)
			h.do(b, func() error { return backend.Sync(b.Context(), all) })
			for b.Loop() {
				h.do(b, func() error { return backend.Apply(b.Context(), []kernelnat.Change{{Old: old, New: next}}) })
				old, next = next, old
			}
		})
	}
}
