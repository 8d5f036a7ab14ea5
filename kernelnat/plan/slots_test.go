package plan_test

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand"
	"net/netip"
	"slices"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// neighbours are endpoints as a pod network hands them out.
func neighbours(n int) []netip.AddrPort {
	out := make([]netip.AddrPort, n)
	for i := range out {
		out[i] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 42, byte(i >> 8), byte(i)}), 8080)
	}
	return out
}

func sharesOf(slots []uint16, n int) []int {
	out := make([]int, n)
	for _, i := range slots {
		out[i]++
	}
	return out
}

func TestSlots(t *testing.T) {
	for _, test := range []struct {
		policy  cluster.Policy
		weights []cluster.Weight
		n       int
		want    []uint16
	}{
		{cluster.Random, nil, 0, []uint16{}},
		{cluster.Random, nil, 3, []uint16{0, 1, 2}},
		{cluster.RoundRobin, nil, 3, []uint16{0, 1, 2}},
		{cluster.Random, []cluster.Weight{1, 3}, 2, []uint16{0, 1, 1, 1}},
		{cluster.Random, []cluster.Weight{300, 100}, 2, []uint16{0, 0, 0, 1}},
		{cluster.RoundRobin, []cluster.Weight{1, 3}, 2, []uint16{1, 0, 1, 1}},
		{cluster.RoundRobin, []cluster.Weight{5, 1, 1}, 3, []uint16{0, 0, 0, 1, 2, 0, 0}},
		{cluster.RoundRobin, []cluster.Weight{4, 2}, 2, []uint16{0, 1, 0}},
		{cluster.SourceHash, nil, 0, nil},
		{cluster.SourceHash, nil, 1, []uint16{0}},
	} {
		if got := plan.Slots(neighbours(test.n), test.weights, test.policy); !slices.Equal(got, test.want) {
			t.Errorf("%s %v: %v, want %v", test.policy, test.weights, got, test.want)
		}
	}
}

// Shares are in proportion, and their number is bounded, whatever the weights are.
func TestSlotsAreInProportion(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	for range 2000 {
		weights := make([]cluster.Weight, 2+rng.Intn(50))
		limit := []int{2, 10, 100, 65535}[rng.Intn(4)]
		sum := 0
		for i := range weights {
			weights[i] = cluster.Weight(1 + rng.Intn(limit))
			sum += int(weights[i])
		}
		var each []int
		for _, policy := range []cluster.Policy{cluster.Random, cluster.RoundRobin} {
			slots := plan.Slots(neighbours(len(weights)), weights, policy)
			if len(slots) > plan.MaxSlots(len(weights)) {
				t.Fatalf("%v: %d slots", weights, len(slots))
			}
			shares := sharesOf(slots, len(weights))
			if each == nil {
				each = shares
			} else if !slices.Equal(each, shares) {
				t.Fatalf("%v: %v at random, %v in turn", weights, each, shares)
			}
		}
		heaviest := slices.Max(weights)
		scale := float64(each[slices.Index(weights, heaviest)]) / float64(heaviest)
		for i, w := range weights {
			want := float64(w) * scale
			if each[i] < 1 || each[i] > 100 || math.Abs(float64(each[i])-want) > 1.01 {
				t.Fatalf("%v: endpoint %d has %d slots, want about %.2f", weights, i, each[i], want)
			}
		}
	}
}

// In any stretch of the turns everybody has about as many as the stretch is long.
func TestTurnsAreSmooth(t *testing.T) {
	weights := []cluster.Weight{50, 20, 20, 5, 5}
	slots := plan.Slots(neighbours(5), weights, cluster.RoundRobin)
	seen := make([]int, 5)
	for i, e := range slots {
		seen[e]++
		for k, w := range weights {
			if want := float64(w) / 100 * float64(i+1); math.Abs(float64(seen[k])-want) > 1 {
				t.Errorf("after %d turns endpoint %d had %d, want about %.1f", i+1, k, seen[k], want)
			}
		}
	}
}

// Each has its share of the table, to within a slot without weights and 2 % with them.
func TestSourceHashIsEven(t *testing.T) {
	for _, n := range []int{2, 3, 5, 10, 16, 17, 50, 128, 129, 600} {
		slots := plan.Slots(neighbours(n), nil, cluster.SourceHash)
		shares := sharesOf(slots, n)
		least, most := slices.Min(shares), slices.Max(shares)
		if most-least > 1 || float64(most) > 1.02*float64(len(slots))/float64(n) {
			t.Errorf("%d endpoints share %d slots: between %d and %d", n, len(slots), least, most)
		}
	}
	for _, weights := range [][]cluster.Weight{{1, 3}, {10, 20, 30, 40}, {65535, 1000, 30000}, {7, 7, 7, 7, 1}} {
		slots := plan.Slots(neighbours(len(weights)), weights, cluster.SourceHash)
		sum := 0
		for _, w := range weights {
			sum += int(w)
		}
		for i, got := range sharesOf(slots, len(weights)) {
			want := float64(len(slots)) * float64(weights[i]) / float64(sum)
			if math.Abs(float64(got)-want) > max(2, 0.02*want) {
				t.Errorf("%v: endpoint %d has %d of %d slots, want %.1f", weights, i, got, len(slots), want)
			}
		}
	}
	// Nobody is left without any, however light.
	if shares := sharesOf(plan.Slots(neighbours(3), []cluster.Weight{1, 65535, 65535}, cluster.SourceHash), 3); shares[0] == 0 {
		t.Errorf("shares %v", shares)
	}
}

// An endpoint that goes, or comes, moves its own share and at most 2 % of the clients
// besides, weights or none.
func TestSourceHashMovesLittle(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	for _, n := range []int{2, 3, 4, 5, 8, 10, 16, 20, 30, 50, 100, 128, 200, 400, 1000} {
		for round := range 12 {
			all := make([]netip.AddrPort, n)
			for i := range all {
				all[i] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 42, byte(rng.Intn(256)), byte(rng.Intn(256))}), 8080)
			}
			slices.SortFunc(all, netip.AddrPort.Compare)
			if all = slices.Compact(all); len(all) < 2 {
				continue
			}
			gone := rng.Intn(len(all))
			var weights, left []cluster.Weight
			if round%3 == 0 {
				for range all {
					weights = append(weights, cluster.Weight(1+rng.Intn(3)))
				}
				left = slices.Delete(slices.Clone(weights), gone, gone+1)
			}
			whole := plan.Slots(all, weights, cluster.SourceHash)
			less := plan.Slots(slices.Delete(slices.Clone(all), gone, gone+1), left, cluster.SourceHash)
			if len(less) == 1 {
				less = slices.Repeat(less, len(whole)) // the only one that is left
			}
			if len(whole) != len(less) {
				continue // see TestSourceHashSizes
			}
			moved := 0
			for i := range whole {
				after := int(less[i])
				if after >= gone {
					after++
				}
				if int(whole[i]) != gone && int(whole[i]) != after {
					moved++
				}
			}
			if part := float64(moved) / float64(len(whole)); part > 0.02 {
				t.Errorf("%d endpoints, weights %v: besides its own share %.2f %% move with one", len(all), weights, 100*part)
			}
		}
	}
}

// Few sizes of tables, so that there are few that all clients of a Service are dealt anew with.
func TestSourceHashSizes(t *testing.T) {
	for n, want := range map[int]int{1: 1, 2: 4096, 16: 4096, 17: 16384, 128: 16384, 129: 65536, 5000: 65536} {
		if got := len(plan.Slots(neighbours(n), nil, cluster.SourceHash)); got != want {
			t.Errorf("%d endpoints: a table of %d slots, want %d", n, got, want)
		}
	}
}

// All nodes, and all versions of this program, send a client to the same endpoint.
func TestSourceHashIsTheSameEverywhere(t *testing.T) {
	h := fnv.New32a()
	for _, endpoints := range [][]netip.AddrPort{neighbours(3), neighbours(30), addrPorts("[fd00::1]:80", "[fd00::2]:80")} {
		for _, i := range plan.Slots(endpoints, nil, cluster.SourceHash) {
			fmt.Fprint(h, i, " ")
		}
	}
	if got, want := h.Sum32(), uint32(0xd45afbd8); got != want {
		t.Errorf("the tables have changed: %#x, want %#x", got, want)
	}
}

func BenchmarkSlots(b *testing.B) {
	weights := make([]cluster.Weight, 1000)
	for i := range weights {
		weights[i] = cluster.Weight(1 + i%5)
	}
	for _, policy := range []cluster.Policy{cluster.Random, cluster.RoundRobin, cluster.SourceHash} {
		for _, n := range []int{10, 1000} {
			b.Run(fmt.Sprintf("%s/%d", policy, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					plan.Slots(neighbours(n), weights[:n], policy)
				}
			})
		}
	}
}
