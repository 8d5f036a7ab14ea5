package ipvs

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/cloudflare/ipvs"
	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/clusterip/clusterip/test/clustertest"
	"golang.org/x/sys/unix"
)

// fake is a kernel that refuses what the real one does.
type fake struct {
	servers  map[id]*server
	messages int
	unfit    netip.Addr // no endpoint, to the kernel
}

func newFake() *fake { return &fake{servers: make(map[id]*server)} }

func (f *fake) remember(netfilter.IPVSTimeouts) error { return nil }

func (f *fake) create(s *server) error {
	f.messages++
	if f.servers[s.id] != nil {
		return fmt.Errorf("%v is there", s.id)
	}
	f.servers[s.id] = &server{id: s.id, scheduler: s.scheduler}
	return nil
}

func (f *fake) remove(of id) error {
	f.messages++
	if f.servers[of] == nil {
		return fmt.Errorf("%v is not there", of)
	}
	delete(f.servers, of)
	return nil
}

func (f *fake) change(of id, r real, there bool, reals func(*server) []real) error {
	f.messages++
	s := f.servers[of]
	if s == nil || slices.ContainsFunc(s.reals, func(h real) bool { return h.at == r.at }) != there {
		return fmt.Errorf("%v of %v: there is %v", r, of, s)
	}
	s.reals = reals(s)
	return nil
}

func (f *fake) add(of id, r real) error {
	if r.at.Addr() == f.unfit {
		f.messages++
		return fmt.Errorf("add %v: %w", r, unix.EINVAL)
	}
	return f.change(of, r, false, func(s *server) []real { return with(s.reals, []real{r}) })
}

func (f *fake) weigh(of id, r real) error {
	return f.change(of, r, true, func(s *server) []real { return with(s.reals, []real{r}) })
}

func (f *fake) drop(of id, r real) error {
	return f.change(of, r, true, func(s *server) []real { return without(s.reals, []real{r}) })
}

func (f *fake) held(of id) (ipvs.ServiceExtended, []ipvs.DestinationExtended, error) {
	panic("nobody looks")
}

func poolOf(policy cluster.Policy, weights []cluster.Weight, endpoints ...int) plan.Pool {
	p := plan.Pool{Port: "http", Protocol: cluster.TCP, Policy: policy, Weights: weights}
	for _, e := range endpoints {
		p.Endpoints = append(p.Endpoints, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 42, byte(e / 256), byte(e)}), 80))
	}
	return p
}

var name = cluster.ServiceName{Namespace: "testing", Name: "echo"}

// apply changes one Service as Apply does, and returns where its virtual server is.
func (s *servers) apply(t *testing.T, p plan.Pool, before netip.AddrPort) (at netip.AddrPort) {
	t.Helper()
	s.round++
	at, _ = s.Server(name, &p, false, before)
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if all, err := s.finish(t.Context(), name, s.round, 1<<30); err != nil || !all {
		t.Fatal(all, err)
	}
	return at
}

func TestOneChangeIsOneMessage(t *testing.T) {
	k := newFake()
	s := newServers(cluster.IPv4, k, 0)
	many := make([]int, 1000)
	weights := make([]cluster.Weight, len(many))
	for i := range many {
		many[i], weights[i] = i, 1+cluster.Weight(i%2)
	}
	at := s.apply(t, poolOf(cluster.WRR, weights, many...), netip.AddrPort{})
	for _, c := range []struct {
		what     string
		pool     plan.Pool
		messages int
	}{
		{"nothing", poolOf(cluster.WRR, weights, many...), 0},
		{"one goes", poolOf(cluster.WRR, weights[1:], many[1:]...), 1},
		{"it comes", poolOf(cluster.WRR, weights, many...), 1},
		{"another weight", poolOf(cluster.WRR, append([]cluster.Weight{7}, weights[1:]...), many...), 1},
		{"all go", poolOf(cluster.WRR, nil), 1},
	} {
		k.messages = 0
		if now := s.apply(t, c.pool, netip.AddrPort{}); now != at && now.IsValid() || k.messages != c.messages {
			t.Errorf("%s: %d messages and %s, want %d and %s", c.what, k.messages, now, c.messages, at)
		}
	}
	if len(k.servers) != 0 || len(s.held) != 0 || len(s.wanted) != 0 || len(s.of) != 0 || len(s.owned) != 0 {
		t.Errorf("left: %v, %v, %v, %v, %v", k.servers, s.held, s.wanted, s.of, s.owned)
	}
}

// Another scheduler has another place, which is there before the first one goes.
func TestSchedulerChanges(t *testing.T) {
	k := newFake()
	s := newServers(cluster.IPv4, k, 0)
	first := s.apply(t, poolOf(cluster.RR, nil, 1, 2), netip.AddrPort{})
	s.round++
	weighted := poolOf(cluster.RR, []cluster.Weight{1, 2}, 1, 2)
	second, _ := s.Server(name, &weighted, false, first)
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(k.servers) != 2 || second == first {
		t.Errorf("%s and %s, and the kernel has %v", first, second, k.servers)
	}
	if _, err := s.finish(t.Context(), name, s.round, 1<<30); err != nil {
		t.Fatal(err)
	}
	if h := k.servers[id{second, cluster.TCP}]; len(k.servers) != 1 || h == nil || h.scheduler != "wrr" {
		t.Errorf("the kernel has %v, want %s by wrr", k.servers, second)
	}
}

// An address that is no endpoint to the kernel holds up nobody, nor the others beside it.
func TestUnfitEndpoints(t *testing.T) {
	k := newFake()
	s := newServers(cluster.IPv4, k, 0)
	weights := make([]cluster.Weight, 40)
	for i := range weights {
		weights[i] = 1
	}
	pool := poolOf(cluster.RR, weights[:2], 1, 2)
	k.unfit = pool.Endpoints[1].Addr()
	for port := range 10 {
		pool.Endpoints = append(pool.Endpoints, netip.AddrPortFrom(k.unfit, uint16(100+port)))
	}
	pool.Endpoints = append(pool.Endpoints, poolOf(cluster.RR, nil, 3).Endpoints...)
	pool.Weights = weights[:len(pool.Endpoints)]
	want := []real{{pool.Endpoints[0], 1}, {pool.Endpoints[len(pool.Endpoints)-1], 1}}
	for _, most := range []int{2, 1 << 30} {
		s.round++
		at, _ := s.Server(name, &pool, false, netip.AddrPort{})
		steps := 0
		for all := false; !all; steps++ {
			var err error
			if all, err = s.come(t.Context(), most); err != nil || steps > len(pool.Endpoints) {
				t.Fatalf("after %d steps of %d messages: %v", steps, most, err)
			}
		}
		if all, err := s.finish(t.Context(), name, s.round, 1<<30); err != nil || !all {
			t.Fatal(all, err)
		}
		if got := k.servers[id{at, cluster.TCP}]; got == nil || !slices.Equal(got.reals, want) || !got.equal(s.held[got.id]) {
			t.Errorf("steps of %d messages: the kernel has %v, want %v", most, got, want)
		}
	}
}

// The next process takes over what is there, removes what is nobody's, and keeps what is led to.
func TestNextProcess(t *testing.T) {
	k := newFake()
	s := newServers(cluster.IPv4, k, 0)
	at := s.apply(t, poolOf(cluster.LC, nil, 1, 2), netip.AddrPort{})
	kept, nobodys := s.numbers.at(7), s.numbers.at(8)
	for _, other := range []netip.AddrPort{kept, nobodys} {
		if err := k.create(&server{id: id{other, cluster.TCP}, scheduler: "rr"}); err != nil {
			t.Fatal(err)
		}
	}
	k.messages = 0
	next := newServers(cluster.IPv4, k, 0)
	next.begin(maps.Clone(k.servers))
	pool := poolOf(cluster.LC, nil, 1, 2)
	now, _ := next.Server(name, &pool, false, at)
	other := pool
	other.Port = "other"
	if again, _ := next.Server(name, &other, false, at); again == at || again == kept || again == nobodys {
		t.Errorf("another pool is at %s too", again)
	}
	next.Keep(kept, cluster.TCP)
	if err := next.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if removed, err := next.end(t.Context()); err != nil || removed != 1 || k.servers[id{nobodys, cluster.TCP}] != nil {
		t.Errorf("%d removed, %v, and the kernel has %v", removed, err, k.servers)
	}
	if now != at || k.messages != 3+1 {
		t.Errorf("at %s with %d messages, want %s with 3 for the other and 1 for nobody's", now, k.messages, at)
	}
}

// Whatever comes and goes, in whichever steps and if they end early, the kernel has what is wanted.
func TestStepsLeadToWhatIsWanted(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	k := newFake()
	s := newServers(cluster.IPv4, k, 0)
	for range 400 {
		var endpoints []int
		var weights []cluster.Weight
		for e := range 30 {
			if random.IntN(3) > 0 {
				endpoints, weights = append(endpoints, e), append(weights, 1+cluster.Weight(random.IntN(2)))
			}
		}
		if random.IntN(8) == 0 {
			endpoints, weights = nil, nil
		}
		pool := poolOf([]cluster.Policy{cluster.WRR, cluster.WLC}[random.IntN(2)], weights, endpoints...)
		s.round++
		since := s.round
		at, chosen := s.Server(name, &pool, false, netip.AddrPort{})
		ended := false
		for all := false; !all; {
			var err error
			if all, err = s.come(t.Context(), 1+random.IntN(5)); err != nil {
				t.Fatal(err)
			}
			if ended = !all && random.IntN(10) == 0; ended {
				break
			}
		}
		for all := ended; !all; {
			var err error
			if all, err = s.finish(t.Context(), name, since, 1+random.IntN(5)); err != nil {
				t.Fatal(err)
			}
		}
		if !maps.EqualFunc(k.servers, s.held, (*server).equal) {
			t.Fatalf("the kernel has %v, and is believed to have %v", k.servers, s.held)
		}
		if want := (&server{id{at, cluster.TCP}, pool.Policy.String(), realsOf(&pool, false)}); !ended && chosen && (len(k.servers) != 1 || !k.servers[want.id].equal(want)) {
			t.Fatalf("the kernel has %v, want %v", k.servers, want)
		}
	}
}

func TestNumbers(t *testing.T) {
	n := numbers{ranges[cluster.IPv4], addresses*ports - 1}
	none := func(netip.AddrPort) bool { return false }
	for _, want := range []string{"192.88.99.255:65535", "192.88.99.0:1", "192.88.99.0:2"} {
		if at, ok := n.take(none); !ok || at.String() != want {
			t.Errorf("%s, want %s", at, want)
		}
	}
	if at := n.at(ports); at.String() != "192.88.99.1:1" {
		t.Errorf("%s comes after the last port of the first address", at)
	}
	used := netip.MustParseAddrPort("192.88.99.0:3")
	if at, _ := n.take(func(a netip.AddrPort) bool { return a == used }); at.Port() != 4 {
		t.Errorf("%s, want one that is free", at)
	}
}

// Ten thousand Services of ten endpoints are written each once, and the next process, which has read
// them at once, writes nothing.
func TestManyServicesAreWrittenOnce(t *testing.T) {
	const services, endpoints = 10_000, 10
	k := newFake()
	at := make([]netip.AddrPort, services)
	for process := range 2 {
		s := newServers(cluster.IPv4, k, 0)
		s.begin(maps.Clone(k.servers))
		k.messages = 0
		for i := range services {
			pool := poolOf(cluster.LC, nil, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
			var chosen bool
			if at[i], chosen = s.Server(cluster.ServiceName{Namespace: "testing", Name: fmt.Sprint(i)}, &pool, false, at[i]); !chosen {
				t.Fatalf("Service %d has no virtual server", i)
			}
		}
		if err := s.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		removed, err := s.end(t.Context())
		if want := (1 - process) * services * (1 + endpoints); err != nil || removed > 0 || k.messages != want {
			t.Errorf("process %d: %d messages, %d removed, %v; want %d messages", process, k.messages, removed, err, want)
		}
	}
}

// A Service with very many ports costs what its size is, not its square.
func TestManyPorts(t *testing.T) {
	took := func(ports int) time.Duration {
		s := newServers(cluster.IPv4, newFake(), 0)
		began := clustertest.ProcessorTime()
		for range 2 {
			s.round++
			for i := range ports {
				pool := poolOf(cluster.RR, nil, 1)
				pool.Port = fmt.Sprint("port-", i)
				if _, chosen := s.Server(name, &pool, false, netip.AddrPort{}); !chosen {
					t.Fatalf("port %d has no virtual server", i)
				}
			}
			if err := s.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			if all, err := s.finish(t.Context(), name, s.round, 1<<30); err != nil || !all || len(s.wanted[name]) != ports {
				t.Fatal(all, err, len(s.wanted[name]))
			}
		}
		return clustertest.ProcessorTime() - began
	}
	const few, times = 500, 32
	one := min(took(few), took(few), took(few))
	if many := took(times * few); many > 4*times*one {
		t.Errorf("%d ports take %v, and %d times as many %v", few, one, times, many)
	}
}
