package nftables

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

func endpointOf(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 42, byte(n >> 8), byte(n)}), 80)
}

// Whatever comes and goes, the slots hold the endpoints, and change in as few places as
// there are endpoints that came and went, twice.
func TestFollow(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var slots []netip.AddrPort
	for range 10_000 {
		var endpoints []netip.AddrPort
		for i := range 12 {
			for range r.IntN(3) {
				if r.IntN(3) > 0 {
					endpoints = append(endpoints, endpointOf(i))
				}
			}
		}
		before := slices.Clone(slots)
		next := keep(slots, endpoints)
		if !slices.Equal(before, slots) {
			t.Fatal("the slots before are written to")
		}
		slots = next
		sorted := slices.SortedFunc(slices.Values(slots), netip.AddrPort.Compare)
		if !slices.Equal(sorted, endpoints) {
			t.Fatalf("slots %v, want %v", sorted, endpoints)
		}
		if changed, least := differing(before, slots), moved(before, endpoints); changed > 2*least {
			t.Fatalf("%d slots change, and %d endpoints: %v to %v", changed, least, before, slots)
		}
	}
}

// differing counts the slots that change.
func differing(a, b []netip.AddrPort) (n int) {
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) || a[i] != b[i] {
			n++
		}
	}
	return n
}

// moved counts the endpoints that come or go.
func moved(a, b []netip.AddrPort) (n int) {
	count := make(map[netip.AddrPort]int)
	for _, e := range a {
		count[e]--
	}
	for _, e := range b {
		count[e]++
	}
	for _, c := range count {
		n += max(c, -c)
	}
	return n
}
