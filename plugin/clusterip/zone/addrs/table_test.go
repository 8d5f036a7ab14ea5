package addrs

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
)

// model is what a table should be.
type model map[netip.Addr]int

func (m model) hasIn(p netip.Prefix) bool {
	for ip := range m {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// someAddress returns one that lies close to others, in one way or another.
func someAddress(r *rand.Rand) netip.Addr {
	near := []uint64{r.Uint64N(8), r.Uint64N(300), r.Uint64(), r.Uint64N(64) << 6}[r.IntN(4)]
	if r.IntN(2) == 0 {
		base := []uint32{0, 10<<24 | 64<<16, 1<<32 - 300}[r.IntN(3)]
		return number{lo: uint64(base + uint32(near))}.ipv4()
	}
	// The second has the same low bits as addresses of IPv4, the third is at a
	// border of words, the fourth differs in the highest bits alone.
	high := []uint64{0xfd00_0043_0000_0000, 0, 0xfd00_0043_0000_0000 + r.Uint64N(3), near << 58}[r.IntN(4)]
	low := []uint64{near, near << 60, 0}[r.IntN(3)]
	return number{high, low}.ipv6()
}

// checkTree compares all that a tree says about an address with a model.
func checkTree(t *testing.T, tr *Tree[int], m model, ip netip.Addr) {
	t.Helper()
	value, found := tr.Get(ip)
	if want, ok := m[ip]; found != ok || value != want {
		t.Fatalf("%s has %d, %t, want %d, %t", ip, value, found, want, ok)
	}
	for n := range ip.BitLen() + 1 {
		prefix := netip.PrefixFrom(ip, n)
		if got, want := tr.HasIn(prefix), m.hasIn(prefix); got != want {
			t.Fatalf("an address in %s: %t, want %t", prefix, got, want)
		}
	}
}

func checkAll(t *testing.T, tr *Tree[int], m model) {
	t.Helper()
	if got := maps.Collect(tr.All()); !maps.Equal(got, map[netip.Addr]int(m)) {
		t.Fatalf("%d addresses, want %d", len(got), len(m))
	}
	var order []netip.Addr
	for ip := range tr.All() {
		if order = append(order, ip); len(order) == 100 {
			break
		}
	}
	if !slices.IsSortedFunc(order, netip.Addr.Compare) {
		t.Fatal("the addresses are out of order")
	}
}

// Random changes leave what a map would have, and change no state that a reader may
// still look at.
func TestTable(t *testing.T) {
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 0))
		var table Table[int]
		m, before := model{}, model{}
		var old *Tree[int]
		for step := range 40 {
			e := table.Edit()
			for n := range r.IntN(40) {
				ip := someAddress(r)
				if r.IntN(3) == 0 {
					e.Remove(ip)
					delete(m, ip)
				} else {
					e.Put(ip, step<<8|n)
					m[ip] = step<<8 | n
				}
				got, found := e.Get(ip)
				if want, ok := m[ip]; got != want || found != ok {
					t.Fatalf("the edit has %d, %t for %s, want %d, %t", got, found, ip, want, ok)
				}
			}
			if step%10 == 9 { // back to nothing, from which a first load begins anew
				for ip := range m {
					e.Remove(ip)
				}
				clear(m)
			}
			e.Commit()
			now := table.Load()
			if old != nil {
				checkAll(t, old, before)
			}
			checkAll(t, now, m)
			for range 5 {
				checkTree(t, now, m, someAddress(r))
			}
			for ip := range m {
				checkTree(t, now, m, ip)
				break
			}
			old, before = now, maps.Clone(m)
		}
	}
}

// Readers see all that an edit changed or nothing of it, while edits go on.
func TestTableReaders(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 0))
	var ips []netip.Addr // each with the same value in every state
	for range 40 {
		ips = append(ips, someAddress(r))
	}
	var table Table[int]
	load := func(value int, coming, going []netip.Addr) {
		e := table.Edit()
		for _, ip := range going {
			e.Remove(ip)
		}
		for _, ip := range slices.Concat(ips, coming) {
			e.Put(ip, value)
		}
		e.Commit()
	}
	load(1, nil, nil)

	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			last := 0
			for {
				select {
				case <-done:
					return
				default:
				}
				state := table.Load()
				first, _ := state.Get(ips[0])
				for _, ip := range ips {
					if value, found := state.Get(ip); !found || value != first || first < last {
						t.Errorf("%s has %d, %t beside %d after %d", ip, value, found, first, last)
						return
					}
					if !table.Load().HasIn(whole(ip)) {
						t.Errorf("nothing in %s, which never goes", whole(ip))
						return
					}
				}
				last = first
			}
		})
	}
	var before []netip.Addr
	for value := range 300 {
		var others []netip.Addr
		for range 10 {
			if ip := someAddress(r); !slices.Contains(ips, ip) {
				others = append(others, ip)
			}
		}
		load(value+2, others, before)
		before = others
	}
	close(done)
	readers.Wait()
}

func whole(ip netip.Addr) netip.Prefix { return netip.PrefixFrom(ip, ip.BitLen()) }

// An address of one family is none of the other, and what is no address has nothing.
func TestTableFamilies(t *testing.T) {
	var table Table[int]
	e := table.Edit()
	e.Put(netip.MustParseAddr("10.0.0.1"), 1)
	e.Put(netip.MustParseAddr("::"), 2)
	e.Commit()
	for _, text := range []string{"::ffff:10.0.0.1", "::a00:1", "0.0.0.0"} {
		if _, found := table.Load().Get(netip.MustParseAddr(text)); found {
			t.Errorf("%s has a value", text)
		}
	}
	if _, found := table.Load().Get(netip.Addr{}); found {
		t.Error("no address has a value")
	}
	if table.Load().HasIn(netip.Prefix{}) || table.Load().HasIn(netip.MustParsePrefix("::ffff:0:0/96")) {
		t.Error("there are addresses in what has none")
	}
}

// layouts number addresses in the ways in which clusters hand them out, and in the
// worst one.
var layouts = map[string]func(n int) netip.Addr{
	"close": func(n int) netip.Addr { return number{lo: 10<<24 + uint64(n)}.ipv4() },
	"nodes": func(n int) netip.Addr { // 100 addresses in each network
		return number{0xfd00_0043_0000_0000 + uint64(n/100), uint64(n % 100)}.ipv6()
	},
	"random": func(n int) netip.Addr { // multiplied by an odd number, all are different
		return number{uint64(n+1) * 0x9e37_79b9_7f4a_7c15, 1}.ipv6()
	},
}

func filled(count int, address func(n int) netip.Addr) *Table[*int] {
	var t Table[*int]
	e := t.Edit()
	for n := range count {
		e.Put(address(n), nil)
	}
	e.Commit()
	return &t
}

// mover returns a function that replaces one of the addresses by another, in an edit
// of its own.
func mover(t *Table[*int], count int, address func(n int) netip.Addr) func() {
	n := 0
	return func() {
		e := t.Edit()
		e.Remove(address(n))
		e.Put(address(n+count), nil)
		e.Commit()
		n++
	}
}

// A move costs the same few allocations whatever the number of addresses, and a first
// load takes memory in proportion to it.
func TestTableAllocations(t *testing.T) {
	for name, address := range layouts {
		t.Run(name, func(t *testing.T) {
			few := testing.AllocsPerRun(100, mover(filled(1000, address), 1000, address))
			many := testing.AllocsPerRun(100, mover(filled(100_000, address), 100_000, address))
			if many > 2*few || many > 24 {
				t.Errorf("a move costs %.0f allocations among 1,000 addresses, %.0f among 100,000", few, many)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			filled(100_000, address)
			runtime.ReadMemStats(&after)
			each, limit := (after.TotalAlloc-before.TotalAlloc)/100_000, uint64(32)
			if name == "random" {
				limit = 192
			}
			if each > limit {
				t.Errorf("a first load allocates %d bytes for an address, want at most %d", each, limit)
			}
		})
	}
}

// BenchmarkTable looks 100,000 addresses up, moves one, and reports what they hold.
func BenchmarkTable(b *testing.B) {
	const count = 100_000
	for name, address := range layouts {
		b.Run("get/"+name, func(b *testing.B) {
			t := filled(count, address)
			for n := 0; b.Loop(); n++ {
				t.Load().Get(address(n * 7919 % count))
			}
		})
		b.Run("move/"+name, func(b *testing.B) {
			move := mover(filled(count, address), count, address)
			b.ReportAllocs()
			for b.Loop() {
				move()
			}
		})
		b.Run("load/"+name, func(b *testing.B) {
			var before, after runtime.MemStats
			for b.Loop() {
				runtime.GC()
				runtime.ReadMemStats(&before)
				t := filled(count, address)
				runtime.GC()
				runtime.ReadMemStats(&after)
				runtime.KeepAlive(t)
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/count, "B/address")
			}
		})
	}
}

// Many addresses that come in one edit beside others cost little more than their values: what
// is copied for one of them is not copied for the next.
func TestEditOfMany(t *testing.T) {
	const many = 1000
	address := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 48, byte(i >> 8), byte(i)}) }
	table := filled(1000, func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 42, byte(i >> 8), byte(i)}) })
	allocations := testing.AllocsPerRun(20, func() {
		for _, change := range []func(*Edit[*int], netip.Addr){func(e *Edit[*int], ip netip.Addr) { e.Put(ip, nil) }, (*Edit[*int]).Remove} {
			e := table.Edit()
			for i := range many {
				change(e, address(i))
			}
			e.Commit()
		}
	})
	if allocations > many {
		t.Errorf("%v allocations for %d addresses that come and go", allocations, many)
	}
}

// Those who have an address come and go one by one, and no state that a reader may have
// changes.
func TestHolders(t *testing.T) {
	var table Table[[]*int]
	ip, a, b := netip.MustParseAddr("10.0.0.1"), new(int), new(int)
	change := func(how func(*Edit[[]*int], netip.Addr, *int), holder *int) *Tree[[]*int] {
		e := table.Edit()
		how(e, ip, holder)
		e.Commit()
		return table.Load()
	}
	states := []*Tree[[]*int]{
		change(Hold[int], a), change(Hold[int], b), change(Release[int], a), change(Release[int], a), change(Release[int], b),
	}
	for i, want := range [][]*int{{a}, {a, b}, {b}, {b}, nil} {
		got, found := states[i].Get(ip)
		if !slices.Equal(got, want) || found != (want != nil) || cap(got) != len(got) {
			t.Errorf("state %d has %v, %t, want %v", i, got, found, want)
		}
	}
}
