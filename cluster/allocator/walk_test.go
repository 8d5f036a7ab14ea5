package allocator

import (
	"fmt"
	"maps"
	"math/rand"
	"net/netip"
	"slices"
	"testing"

	"github.com/clusterip/clusterip/cluster"
)

// A walk of random edits keeps every promise at every step, and a restart at any
// moment changes nothing.
func TestRandomWalk(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	a := newAllocator(t, "10.0.0.0/26", "fd00::/122")
	claims := map[string]Claim{}
	for step := range 1500 {
		name := fmt.Sprint("s", rng.Intn(80))
		if rng.Intn(3) == 0 {
			delete(claims, name)
		} else {
			claims[name] = randomClaim(rng, name)
		}
		before := a.Allocations()
		list := slices.Collect(maps.Values(claims))
		errs := a.Sync(list, nil)
		checkInvariants(t, a)
		checkStable(t, list, before, a, name)
		for _, c := range list {
			if got := len(a.Held(c.Service)); got != len(c.Families) && errs[c.Service] == nil {
				t.Fatalf("step %d: %s holds %d addresses, wants %d, and has no error", step, c.Service, got, len(c.Families))
			}
		}
		restarted := newAllocator(t, "10.0.0.0/26", "fd00::/122")
		if errs := restarted.Restore(a.Allocations()); len(errs) > 0 {
			t.Fatalf("step %d: restore: %v", step, errs)
		}
		restarted.Sync(list, nil)
		if !maps.EqualFunc(a.Allocations(), restarted.Allocations(), slices.Equal) {
			t.Fatalf("step %d: a restart changes addresses:\n%v\n%v", step, a.Allocations(), restarted.Allocations())
		}
	}
}

func randomClaim(rng *rand.Rand, name string) Claim {
	c := claim(name)
	c.Families = [][]cluster.Family{v4, dual, {cluster.IPv6}}[rng.Intn(3)]
	if rng.Intn(4) == 0 {
		c = created(c, 2000+rng.Intn(3))
	}
	for _, family := range c.Families {
		if rng.Intn(4) > 0 {
			continue
		}
		text := fmt.Sprintf("10.0.0.%d", rng.Intn(70))
		if family == cluster.IPv6 {
			text = fmt.Sprintf("fd00::%x", rng.Intn(70))
		}
		c.Static = append(c.Static, netip.MustParseAddr(text))
	}
	return c
}

func checkInvariants(t *testing.T, a *Allocator) {
	t.Helper()
	holders := map[netip.Addr]cluster.ServiceName{}
	for name, held := range a.Allocations() {
		if len(held) == 0 {
			t.Fatalf("%s is listed with no address", name)
		}
		for _, addr := range held {
			if other, twice := holders[addr]; twice {
				t.Fatalf("%s has two holders: %s and %s", addr, name, other)
			}
			holders[addr] = name
			if _, usable := a.rangeAt(addr).index(addr); !usable {
				t.Fatalf("%s holds %s, which is not usable", name, addr)
			}
		}
	}
	if !maps.Equal(holders, a.holders) {
		t.Fatalf("holders %v do not fit what is held", a.holders)
	}
	for _, r := range a.ranges {
		count := uint64(0)
		for addr := range holders {
			if r.prefix.Contains(addr) {
				count++
			}
		}
		if r.used.static+r.used.dynamic != count {
			t.Fatalf("%s counts %+v, and %d are held", r.prefix, r.used, count)
		}
	}
}

// checkStable fails if a Service other than the edited one lost an address that
// its claim allows.
func checkStable(t *testing.T, claims []Claim, before Allocations, a *Allocator, edited string) {
	t.Helper()
	for _, c := range claims {
		for _, addr := range before[c.Service] {
			static := ofFamily(c.Static, cluster.FamilyOf(addr))
			allowed := c.Service.Name != edited && (!static.IsValid() || static == addr)
			if allowed && !slices.Contains(a.Held(c.Service), addr) {
				t.Fatalf("%s lost %s though only %s was edited", c.Service, addr, edited)
			}
		}
	}
}
