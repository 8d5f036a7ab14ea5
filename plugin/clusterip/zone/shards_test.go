package zone

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"github.com/clusterip/clusterip/cluster"
)

// Swapping one Service among 10,000 must not touch the others: one shard is
// replaced, by a map no larger than a shard's fair share, and one path of the
// reverse table.
func TestSwapTouchesOneShard(t *testing.T) {
	const services = 10_000
	x := New([]string{"cluster.local."}, Options{TTL: 5})
	for i := range services {
		s := numbered(i, 80)
		x.Apply(cluster.Update{Services: []cluster.ServiceUpdate{{Name: s.Name, Service: s}}})
	}
	z := x.zones[0]
	var before [shardCount]*map[string]*Records
	for i := range before {
		before[i] = z.services.maps[i].Load()
	}
	table := x.owners.Load()
	namespaces := x.namespaces.current.Load()

	s := numbered(4711, 81)
	x.Apply(cluster.Update{Services: []cluster.ServiceUpdate{{Name: s.Name, Service: s}}})

	copied := 0
	for i := range before {
		if after := z.services.maps[i].Load(); after != before[i] {
			copied += len(*after)
		}
	}
	if limit := 4 * services / shardCount; copied == 0 || copied > limit {
		t.Errorf("the swap copied %d entries of the index, want at most %d", copied, limit)
	}
	if x.owners.Load() != table {
		t.Error("the swap changed the reverse table though no address changed")
	}
	if x.namespaces.current.Load() != namespaces {
		t.Error("the swap copied the set of namespaces")
	}
}

// An update with many namespaces copies the set of them once, not once for each.
func TestManyNamespaces(t *testing.T) {
	const namespaces = 5000
	x := New([]string{"cluster.local."}, Options{TTL: 5})
	var u cluster.Update
	for i := range namespaces {
		u.Namespaces = append(u.Namespaces, cluster.NamespaceUpdate{Name: fmt.Sprint("ns-", i), Exists: true})
	}
	if each := allocatedBy(func() { x.Apply(u) }) / namespaces; each > 4096 {
		t.Errorf("it allocates %d bytes for each namespace", each)
	}
	for _, c := range u.Namespaces {
		if !x.namespaces.exists(c.Name) {
			t.Fatalf("%s does not exist", c.Name)
		}
	}
}

// A first load allocates in proportion to the Services: it copies no shard for each.
func TestFirstLoadIsLinear(t *testing.T) {
	load := func(n int) uint64 {
		var u cluster.Update
		for i := range n {
			s := numbered(i, 80)
			u.Services = append(u.Services, cluster.ServiceUpdate{Name: s.Name, Service: s})
		}
		x := New([]string{"cluster.local."}, Options{})
		return allocatedBy(func() { x.Apply(u) })
	}
	if few, many := load(10_000), load(40_000); many > 6*few {
		t.Errorf("10,000 Services allocate %d bytes, 40,000 %d", few, many)
	}
}

func numbered(i int, port uint16) *cluster.Service {
	return cluster.New(cluster.Service{
		Name:       cluster.ServiceName{Namespace: fmt.Sprintf("ns-%d", i%100), Name: fmt.Sprintf("service-%d", i)},
		Kind:       cluster.KindClusterIP,
		ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 43, byte(i >> 8), byte(i)})},
		Ports:      []cluster.Port{{Name: "http", Protocol: cluster.TCP, Port: port}},
	})
}

// allocatedBy returns how many bytes a call allocates.
func allocatedBy(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
