package dnsload

import (
	"math/bits"
	"time"
)

// histogram counts durations with an error of at most 1 in 32.
type histogram struct {
	counts [64 * 32]int
	total  int
	most   time.Duration
}

func (h *histogram) add(d time.Duration) {
	d = max(d, 0)
	h.counts[bucket(uint64(d))]++
	h.total++
	h.most = max(h.most, d)
}

// bucket is exact below 32; from there on each doubling has 32.
func bucket(v uint64) int {
	shift := max(bits.Len64(v)-6, 0)
	return shift*32 + int(v>>shift)
}

// at returns the longest duration of a part of the shortest ones.
func (h *histogram) at(part float64) time.Duration {
	left := int(part * float64(h.total))
	for i, n := range h.counts {
		if left -= n; left < 0 {
			if i < 64 {
				return time.Duration(i)
			}
			shift := i/32 - 1
			return time.Duration(uint64(i-shift*32) << shift)
		}
	}
	return h.most
}
