package iptables

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

var anyIPv4 = netip.MustParsePrefix("0.0.0.0/0")

func dispatchRule(addr netip.Addr, port int) rule {
	key := plan.Key{At: netip.AddrPortFrom(addr, uint16(port)), Protocol: cluster.TCP}
	return rule{key, fmt.Sprintf("-d %s -p tcp --dport %d -j KUBE-SVC-A%d", single(addr), port, port)}
}

// world is chains as the kernel holds them.
type world map[string][]string

func (w world) apply(t *testing.T, trie *trie) (written int) {
	t.Helper()
	write, remove := trie.changes()
	for _, c := range write {
		for _, rule := range c.rules {
			target := rule[strings.LastIndex(rule, " ")+1:]
			_, there := w[target]
			if strings.HasPrefix(target, prefixRange) && !there && !slices.ContainsFunc(write, func(c chain) bool { return c.name == target }) {
				t.Fatalf("chain %s jumps to %s, which is not there", c.name, target)
			}
		}
		w[c.name] = c.rules
		written += len(c.rules)
	}
	for _, name := range remove {
		if _, there := w[name]; !there {
			t.Fatalf("chain %s is removed and was not there", name)
		}
		delete(w, name)
	}
	return written
}

// lookup does what a packet does, and counts the rules it passes.
func (w world) lookup(addr netip.Addr, chain string) (found []string, passed int) {
	for _, rule := range w[chain] {
		passed++
		fields := strings.Fields(rule)
		prefix := netip.MustParsePrefix(fields[1])
		if !prefix.Contains(addr) {
			continue
		}
		target := fields[len(fields)-1]
		if !strings.HasPrefix(target, prefixRange) {
			found = append(found, rule)
			continue
		}
		below, n := w.lookup(addr, target)
		found, passed = append(found, below...), passed+n
	}
	return found, passed
}

// However it came about, the trie is the one of its rules, and each packet finds
// those of its address.
func TestTrieRandomWalk(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			have := make(map[rule]netip.Addr)
			trie, kernel := newTrie(natServices, nil, nil, anyIPv4), world{}
			kernel.apply(t, trie)
			size := []int{20, 60, 400, 3000}[r.IntN(4)]
			for range 150 {
				var insert, remove []rule
				for range r.IntN(40) {
					addr := randomAddr(r)
					rule := dispatchRule(addr, r.IntN(3))
					if _, there := have[rule]; !there {
						have[rule] = addr
						insert = append(insert, rule)
					}
				}
				for rule := range have {
					if slices.Contains(insert, rule) || len(have) < r.IntN(size) {
						continue
					}
					remove = append(remove, rule)
					delete(have, rule)
					if len(remove) > 45 {
						break
					}
				}
				trie.update(insert, remove)
				kernel.apply(t, trie)
				fresh := world{}
				fresh.apply(t, newTrie(natServices, slices.Collect(maps.Keys(have)), nil, anyIPv4))
				if len(fresh) != len(kernel) || !maps.EqualFunc(fresh, kernel, slices.Equal) {
					t.Fatalf("with %d rules: %d chains, a fresh start makes %d", len(have), len(kernel), len(fresh))
				}
			}
			byAddr := make(map[netip.Addr]int)
			for _, addr := range have {
				byAddr[addr]++
			}
			for addr, want := range byAddr {
				if found, _ := kernel.lookup(addr, chainServices); len(found) != want {
					t.Fatalf("%s finds %q, want %d rules", addr, found, want)
				}
			}
		})
	}
}

// Most addresses are ClusterIPs, some are anywhere, some have many ports.
func randomAddr(r *rand.Rand) netip.Addr {
	switch r.IntN(8) {
	case 0:
		return netip.AddrFrom4([4]byte{byte(1 + r.IntN(220)), byte(r.IntN(256)), byte(r.IntN(256)), byte(r.IntN(256))})
	case 1:
		return netip.AddrFrom4([4]byte{203, 0, 113, byte(r.IntN(8))})
	}
	return netip.AddrFrom4([4]byte{10, 43, byte(r.IntN(16)), byte(r.IntN(256))})
}

// What a packet passes, and what one change writes, grows with the logarithm of
// the number of Services.
func TestTrieIsLogarithmic(t *testing.T) {
	for _, c := range []struct{ services, passed, written int }{
		{16, 32, 34}, {1000, 60, 52}, {10_000, 70, 52}, {100_000, 90, 52},
	} {
		var rules []rule
		addr := func(i int) netip.Addr {
			h := uint32(i) * 2654435761 // spread as a hash spreads ClusterIPs
			return netip.AddrFrom4([4]byte{10, byte(40 + h>>30), byte(h >> 22), byte(h >> 14)})
		}
		for i := range c.services {
			rules = append(rules, dispatchRule(addr(i), 2*i), dispatchRule(addr(i), 2*i+1))
		}
		trie, kernel := newTrie(natServices, rules, nil, anyIPv4), world{}
		kernel.apply(t, trie)
		most := 0
		for i := range min(c.services, 2000) {
			_, passed := kernel.lookup(addr(i), chainServices)
			most = max(most, passed)
		}
		trie.update(nil, rules[:2])
		written := kernel.apply(t, trie)
		trie.update(rules[:2], nil)
		written = max(written, kernel.apply(t, trie))
		t.Logf("%d Services: %d chains, a packet passes up to %d rules, a change writes %d", c.services, len(kernel), most, written)
		if most > c.passed || written > c.written {
			t.Errorf("%d Services: a packet passes %d rules, a change writes %d; want at most %d and %d", c.services, most, written, c.passed, c.written)
		}
	}
}
