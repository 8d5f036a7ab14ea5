package cluster

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"
)

func serviceUpdate(name string, ips ...string) ServiceUpdate {
	n := ServiceName{"testing", name}
	s := Service{Name: n, Kind: KindClusterIP}
	for _, ip := range ips {
		s.ClusterIPs = append(s.ClusterIPs, netip.MustParseAddr(ip))
	}
	return ServiceUpdate{Name: n, Service: New(s)}
}

// pod returns an update of a Pod of that name, "namespace/name" being split.
func podUpdate(namespace, name string) PodUpdate {
	n := PodName{namespace, name}
	return PodUpdate{n, &Pod{Name: n}}
}

func TestStoreSnapshot(t *testing.T) {
	s := NewStore()
	s.Apply(Update{
		Services:   []ServiceUpdate{serviceUpdate("b"), serviceUpdate("a", "10.0.0.1"), serviceUpdate("gone")},
		Namespaces: []NamespaceUpdate{{"z", true}, {"a", true}, {"gone", true}},
		Pods:       []PodUpdate{podUpdate("b", "a"), podUpdate("a", "z"), podUpdate("a", "a"), podUpdate("a", "gone")},
		Nodes:      []NodeUpdate{{"n2", &Node{Name: "n2"}}, {"n1", &Node{Name: "n1"}}, {"gone", &Node{Name: "gone"}}},
	})
	s.Apply(Update{
		Services:   []ServiceUpdate{serviceUpdate("a", "10.0.0.2"), {Name: ServiceName{"testing", "gone"}}, {Name: ServiceName{"testing", "never"}}},
		Namespaces: []NamespaceUpdate{{"gone", false}},
		Pods:       []PodUpdate{{PodName{"a", "gone"}, nil}},
		Nodes:      []NodeUpdate{{"gone", nil}},
	})
	want := Update{
		Services:   []ServiceUpdate{serviceUpdate("a", "10.0.0.2"), serviceUpdate("b")},
		Namespaces: []NamespaceUpdate{{"a", true}, {"z", true}},
		Pods:       []PodUpdate{podUpdate("a", "a"), podUpdate("a", "z"), podUpdate("b", "a")},
		Nodes:      []NodeUpdate{{"n1", &Node{Name: "n1"}}, {"n2", &Node{Name: "n2"}}},
	}
	if d := diff(want, s.Snapshot()); d != "" {
		t.Error(d)
	}
}

func TestStoreSynced(t *testing.T) {
	s := NewStore()
	if s.Apply(Update{}); s.HasSynced() {
		t.Error("synced by an Update without Synced")
	}
	s.Apply(Update{Synced: true})
	s.Apply(Update{Synced: true}) // a second time is harmless
	select {
	case <-s.Synced():
	default:
		t.Error("Synced is not closed")
	}
	if !s.HasSynced() || !s.Snapshot().Synced {
		t.Error("HasSynced or the snapshot does not say so")
	}
}

// The Store is synced only once the subscribers have the whole listing: who
// waits for Synced must not find them empty.
func TestStoreSyncedAfterSubscribers(t *testing.T) {
	s := NewStore()
	s.Subscribe(func(u Update) {
		if u.Synced && s.HasSynced() {
			t.Error("synced before the subscriber was told")
		}
	})
	s.Apply(Update{Synced: true})
}

func TestStoreSubscribe(t *testing.T) {
	s := NewStore()
	s.Apply(Update{Services: []ServiceUpdate{serviceUpdate("before")}, Synced: true})
	var got []string
	follow := func(who string) {
		s.Subscribe(func(u Update) {
			for _, c := range u.Services {
				got = append(got, fmt.Sprint(who, " ", c.Name.Name, " ", u.Synced))
			}
		})
	}
	follow("one")
	follow("two")
	s.Apply(Update{Services: []ServiceUpdate{serviceUpdate("x"), serviceUpdate("y")}})
	want := []string{"one before true", "two before true", "one x false", "one y false", "two x false", "two y false"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestStoreGeneration(t *testing.T) {
	s := NewStore()
	start := s.Generation()
	if start == 0 {
		t.Error("the generation starts from 0, so serials fall over a restart")
	}
	for i := range uint64(3) {
		seen := uint64(0)
		if i == 0 {
			s.Subscribe(func(Update) { seen = s.Generation() })
		}
		s.Apply(Update{})
		if got := s.Generation(); got != start+i+1 {
			t.Errorf("generation %d after %d updates from %d", got, i+1, start)
		}
		if i == 0 && seen != start+1 {
			t.Errorf("a subscriber sees generation %d with the first Update, want %d", seen, start+1)
		}
	}
}

// Subscribers that come while Updates are applied see each change once, either
// in their snapshot or after it, in order.
func TestStoreConcurrency(t *testing.T) {
	s := NewStore()
	const updates = 200
	var group sync.WaitGroup
	group.Go(func() {
		for i := range updates {
			s.Apply(Update{Services: []ServiceUpdate{serviceUpdate("s", fmt.Sprintf("10.0.%d.%d", i>>8, i&255))}})
		}
	})
	last := make([]netip.Addr, 8)
	for i := range last {
		group.Go(func() {
			s.Subscribe(func(u Update) {
				for _, c := range u.Services {
					if ip := c.Service.ClusterIPs[0]; last[i].IsValid() && last[i].Next() != ip {
						t.Errorf("after %s came %s", last[i], ip)
					} else {
						last[i] = ip
					}
				}
			})
			_, _ = s.Snapshot(), s.Generation()
		})
	}
	group.Wait()
	for i := range last {
		if want := netip.AddrFrom4([4]byte{10, 0, 0, updates - 1}); last[i] != want {
			t.Errorf("subscriber %d ended with %s, want %s", i, last[i], want)
		}
	}
}

func TestStoreUnsubscribe(t *testing.T) {
	s := NewStore()
	var first, second int
	unsubscribe := s.Subscribe(func(Update) { first++ })
	s.Subscribe(func(Update) { second++ })
	unsubscribe()
	unsubscribe()
	s.Apply(Update{})
	if first != 1 || second != 2 {
		t.Errorf("the one that left saw %d updates, want 1; the other %d, want 2", first, second)
	}
}

func TestRenew(t *testing.T) {
	s := NewStore()
	s.Apply(Update{Incomplete: true})
	before := s.Generation()
	var got []Update
	defer s.Subscribe(func(u Update) { got = append(got, u) })()
	s.Renew()
	if s.Generation() != before+1 || len(got) != 2 || !got[1].Incomplete || !s.Snapshot().Incomplete {
		t.Errorf("generation %d after %d, updates %+v: want one more, that changes nothing", s.Generation(), before, got)
	}
}

// Imports are kept apart from Services of the same name.
func TestImports(t *testing.T) {
	s := NewStore()
	name := ServiceName{Namespace: "default", Name: "web"}
	imported := New(Service{Name: name, Kind: KindHeadless}, []Endpoint{{Slice: &EndpointSlice{Cluster: "east"}}, {Slice: &EndpointSlice{Cluster: "west"}}})
	s.Apply(Update{Imports: []ServiceUpdate{{Name: name, Service: imported}}})
	if u := s.Snapshot(); len(u.Services) != 0 || len(u.Imports) != 1 || len(u.Imports[0].Service.Endpoints) != 2 {
		t.Errorf("the Store holds %+v, want one import with an endpoint in each cluster", u)
	}
	s.Apply(Update{Imports: []ServiceUpdate{{Name: name}}})
	if u := s.Snapshot(); len(u.Imports) != 0 {
		t.Errorf("the Store holds %+v after the import is gone", u)
	}
}

// As serials, generations are newer than the Unix time of the day, and than those of
// an earlier start (RFC 1982).
func TestGenerationAt(t *testing.T) {
	newer := func(a, b uint64) bool { return int32(uint32(a)-uint32(b)) > 0 }
	for year := 2026; year < 2030; year++ {
		for month := time.January; month <= time.December; month++ {
			day := time.Date(year, month, 2, 0, 0, 0, 0, time.UTC)
			if !newer(generationAt(day), uint64(day.Unix())) {
				t.Errorf("%v: the serial %d is no newer than %d", day, uint32(generationAt(day)), day.Unix())
			}
			if before := generationAt(day.Add(-time.Second)); !newer(generationAt(day), before) {
				t.Errorf("%v: the serial %d is no newer than %d", day, uint32(generationAt(day)), uint32(before))
			}
		}
	}
}
