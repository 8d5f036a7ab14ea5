package plan

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
)

// MaxSlots bounds the slots of so many endpoints under the policies Random and RoundRobin.
func MaxSlots(endpoints int) int { return 4*endpoints + maxSlotsEach }

// maxSlotsEach bounds the slots of one endpoint beside one that has a single slot.
const maxSlotsEach = 100

// Slots shares a table out among sorted endpoints: each slot has the index of one. The
// weights are those of the endpoints, 1 at least, or nil. It is for backends that look up
// the slot of a connection, which is a random number, the next one (RoundRobin) or a hash
// of the client's address (SourceHash), modulo the number of slots.
//
// Under Random and RoundRobin shares are in proportion to weights as far as MaxSlots
// allows: each is right to within one slot, and nobody has none. Without weights there is one slot for
// each. Under RoundRobin the slots of one endpoint are far from each other. For SourceHash
// see maglev.
func Slots(endpoints []netip.AddrPort, weights []cluster.Weight, policy cluster.Policy) []uint16 {
	switch {
	case policy == cluster.SourceHash:
		return maglev(endpoints, weights)
	case weights == nil:
		return repeat(len(endpoints), func(int) int { return 1 })
	case policy == cluster.RoundRobin:
		return interleave(reduce(weights))
	}
	slots := reduce(weights)
	return repeat(len(endpoints), func(i int) int { return slots[i] })
}

func repeat(endpoints int, times func(int) int) []uint16 {
	out := make([]uint16, 0, endpoints)
	for i := range endpoints {
		for range times(i) {
			out = append(out, uint16(i))
		}
	}
	return out
}

// reduce returns small numbers in the proportion of weights, as exactly as the bounds
// allow.
func reduce(weights []cluster.Weight) []int {
	divisor, sum := int64(0), int64(0)
	for _, w := range weights {
		divisor, sum = gcd(divisor, int64(w)), sum+int64(w)
	}
	// To round up makes one too many for each at most, which stays within MaxSlots.
	heaviest, all := int64(slices.Max(weights)), int64(MaxSlots(len(weights))-len(weights))
	above, below := int64(1), divisor
	if heaviest*above > maxSlotsEach*below {
		above, below = maxSlotsEach, heaviest
	}
	if sum*above > all*below {
		above, below = all, sum
	}
	out := make([]int, len(weights))
	for i, w := range weights {
		out[i] = max(1, int((2*int64(w)*above+below)/(2*below))) // rounded
	}
	return out
}

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// interleave puts the k-th of an endpoint's n slots at (2k+1)/2n of the way.
func interleave(slots []int) []uint16 {
	type slot struct{ k, n, endpoint int }
	var all []slot
	for i, n := range slots {
		for k := range n {
			all = append(all, slot{k, n, i})
		}
	}
	slices.SortFunc(all, func(a, b slot) int {
		return cmp.Or(cmp.Compare((2*a.k+1)*b.n, (2*b.k+1)*a.n), cmp.Compare(a.endpoint, b.endpoint))
	})
	out := make([]uint16, len(all))
	for i, s := range all {
		out[i] = uint16(s.endpoint)
	}
	return out
}

// sizes are those of the tables for SourceHash, and for how many endpoints each is. There
// are few, so that backends need few chains. When an endpoint goes, slots of others move
// too: the more, the fewer slots each has. With these sizes they are below 2 % of the table.
var sizes = [...]struct{ endpoints, slots int }{{1, 1}, {16, 1 << 12}, {128, 1 << 14}, {1 << 16, 1 << 16}}

// tableSize is that of the table for SourceHash.
func tableSize(endpoints int) int {
	n, _ := slices.BinarySearchFunc(sizes[:], endpoints, func(s struct{ endpoints, slots int }, n int) int { return cmp.Compare(s.endpoints, n) })
	return sizes[n].slots
}

// maglev shares a table out so that an endpoint that comes or goes moves little besides its
// own share (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer",
// NSDI 2016, section 3.4). Endpoints take turns, as often as their weights say beside the
// heaviest. Each takes the first slot that is free in an order of its own. That depends on
// its address and port alone, so all nodes make the same table. Here the order is by hash:
// in the paper's, where slots are at equal distances, two of few endpoints may be so alike
// that 9 % of the table moves.
//
// When the number of endpoints passes one of sizes, nearly all clients of the Service get
// another endpoint for their next connection.
func maglev(endpoints []netip.AddrPort, weights []cluster.Weight) []uint16 {
	if len(endpoints) == 0 {
		return nil
	}
	out := make([]uint16, tableSize(len(endpoints)))
	most, least := 1, 1
	if weights != nil {
		most = int(slices.Max(weights))
		least = (most + maxSlotsEach - 1) / maxSlotsEach
	}
	all := make([]taker, len(endpoints))
	for i, e := range endpoints {
		weight := 1
		if weights != nil {
			weight = max(int(weights[i]), least)
		}
		all[i] = taker{order: seed(e), weight: weight, saved: most - weight} // so each has a turn at once
	}
	taken := make([]bool, len(out))
	for left := len(out); ; {
		for i := range all {
			t := &all[i]
			if t.saved += t.weight; t.saved < most {
				continue
			}
			t.saved -= most
			slot := t.next(len(out))
			for taken[slot] {
				slot = t.next(len(out))
			}
			out[slot], taken[slot] = uint16(i), true
			if left--; left == 0 {
				return out
			}
		}
	}
}

// taker is an endpoint that takes slots.
type taker struct {
	order         uint64
	weight, saved int // it has a turn when it has saved as much as the heaviest weighs
}

// next returns the next slot in the taker's order, in which some are again and again.
func (t *taker) next(slots int) int {
	t.order += 0x9e3779b97f4a7c15
	return int(mix(t.order) % uint64(slots))
}

// seed is where the order of an endpoint begins.
func seed(e netip.AddrPort) uint64 {
	h := fnv.New64a()
	addr := e.Addr().As16()
	h.Write(addr[:])
	h.Write(binary.BigEndian.AppendUint16(nil, e.Port()))
	return mix(h.Sum64()) // FNV alone leaves those of neighbours alike
}

// mix has each bit depend on each bit: the end of MurmurHash3 (Austin Appleby, in the
// public domain).
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
