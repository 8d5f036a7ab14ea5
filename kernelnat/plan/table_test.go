package plan_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func named(name string) cluster.ServiceName {
	return cluster.ServiceName{Namespace: "testing", Name: name}
}

func addrs(texts ...string) (out []netip.Addr) {
	for _, text := range texts {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

// asking is a Service with one port that asks for these besides its ClusterIP.
func asking(name, vip string, port, nodePort uint16, ips ...string) *cluster.Service {
	return cluster.New(cluster.Service{
		Name: named(name), Kind: cluster.KindClusterIP, ClusterIPs: addrs(vip),
		Ports:    []cluster.Port{{Protocol: cluster.TCP, Port: port, NodePort: nodePort}},
		External: cluster.External{IPs: addrs(ips...)},
	})
}

// apply has one Service come, change or, if it is nil, go.
func apply(table *plan.Table, name string, s *cluster.Service) ([]plan.Change, []plan.ShortfallChange) {
	return table.Apply(plan.Update{Services: map[cluster.ServiceName]*cluster.Service{named(name): s}})
}

func frontends(s plan.Service) (keys []string) {
	for _, f := range s.Frontends {
		keys = append(keys, f.Key.String())
	}
	return keys
}

// world is a Table and the slow twin that looks at everything.
type world struct {
	table    *plan.Table
	services map[cluster.ServiceName]*cluster.Service
	arrived  map[plan.Key][]cluster.ServiceName
	network  plan.Network
	// What the Table has told.
	plans map[cluster.ServiceName]plan.Service
	short map[cluster.ServiceName]plan.Shortfall
}

// keys are what a Service asks for.
func keys(s *cluster.Service) []plan.Key {
	if s == nil {
		return nil
	}
	return keysOf(plan.Compute(s, cluster.IPv4, self, plan.Options{}))
}

// keysOf are the frontends of a plan, and its healthCheckNodePort.
func keysOf(p plan.Service) (out []plan.Key) {
	for _, f := range p.Frontends {
		out = append(out, f.Key)
	}
	if p.HealthCheckNodePort != 0 {
		out = append(out, plan.NodePortKey(cluster.IPv4, p.HealthCheckNodePort, cluster.TCP))
	}
	return out
}

// healthz is where the node of the random walk answers for itself.
const healthz = 30082

func newWorld() *world {
	return &world{
		table: plan.NewTable(cluster.IPv4, plan.Options{Healthz: healthz}), services: make(map[cluster.ServiceName]*cluster.Service),
		arrived: make(map[plan.Key][]cluster.ServiceName),
		plans:   make(map[cluster.ServiceName]plan.Service), short: make(map[cluster.ServiceName]plan.Shortfall),
	}
}

// take has the Table take an Update over, and notes what it tells.
func (w *world) take(t *testing.T, u plan.Update) {
	t.Helper()
	u.Node = self
	changes, shortfalls := w.table.Apply(u)
	for _, c := range changes {
		if c.New.Equal(c.Old) || !c.Old.Equal(w.plans[c.New.Name]) && len(c.Old.Frontends) > 0 {
			t.Fatalf("a change from %v to %v, told before %v", c.Old, c.New, w.plans[c.New.Name])
		}
		w.plans[c.New.Name] = c.New
	}
	for _, s := range shortfalls {
		w.short[s.New.Service] = s.New
	}
}

func (w *world) set(name cluster.ServiceName, now *cluster.Service) {
	before := w.services[name]
	same := before != nil && now != nil && before.Created.Equal(now.Created)
	for _, k := range keys(before) {
		owned := func(s *cluster.Service) bool { return s.ClusterIPs[0] == k.At.Addr() }
		if !same || !slices.Contains(keys(now), k) || owned(before) != owned(now) {
			w.arrived[k] = slices.DeleteFunc(w.arrived[k], func(n cluster.ServiceName) bool { return n == name })
		}
	}
	for _, k := range keys(now) {
		if !slices.Contains(w.arrived[k], name) {
			w.arrived[k] = append(w.arrived[k], name)
		}
	}
	if w.services[name] = now; now == nil {
		delete(w.services, name)
	}
}

// winner is the one whose ClusterIP it is, then the oldest, of several such the one whose
// name sorts first, and of those of unknown age the one that came first.
func (w *world) winner(k plan.Key) cluster.ServiceName {
	return slices.MinFunc(w.arrived[k], func(a, b cluster.ServiceName) int {
		x, y := w.services[a], w.services[b]
		switch mine, theirs := x.ClusterIPs[0] == k.At.Addr(), y.ClusterIPs[0] == k.At.Addr(); {
		case mine != theirs && mine:
			return -1
		case mine != theirs:
			return 1
		case x.Created.IsZero() && y.Created.IsZero():
			return slices.Index(w.arrived[k], a) - slices.Index(w.arrived[k], b)
		case x.Created.IsZero():
			return 1
		case y.Created.IsZero():
			return -1
		case !x.Created.Equal(y.Created):
			return x.Created.Compare(y.Created)
		}
		return a.Compare(b)
	})
}

func (w *world) granted(s *cluster.Service) (granted []plan.Key) {
	for _, k := range keys(s) {
		own, node := k.At.Addr() == s.ClusterIPs[0], k.At.Addr().IsUnspecified()
		taken := slices.Contains(w.network.Broadcasts, k.At.Addr())
		if node && k.At.Port() == healthz {
			continue
		}
		for _, r := range w.network.ServiceCIDRs {
			taken = taken || r.Contains(k.At.Addr())
		}
		for _, o := range w.services {
			taken = taken || o.ClusterIPs[0] == k.At.Addr()
		}
		if !(taken && !own && !node) && w.winner(k) == s.Name {
			granted = append(granted, k)
		}
	}
	return granted
}

func (w *world) check(t *testing.T) {
	t.Helper()
	holder := make(map[plan.Key]cluster.ServiceName)
	for name, s := range w.services {
		want := w.granted(s)
		got := keysOf(w.plans[name])
		for _, k := range got {
			if other, taken := holder[k]; taken {
				t.Fatalf("%s has two holders: %s and %s", k, other, name)
			}
			holder[k] = name
		}
		if !slices.Equal(got, want) || !w.table.Plan(name).Equal(w.plans[name]) {
			t.Fatalf("%s was told to have %v and has %v, want %v", name, got, frontends(w.table.Plan(name)), want)
		}
		if refused := len(w.short[name].Refused); refused != len(keys(s))-len(want) {
			t.Fatalf("%s is told of %d refusals, want %d", name, refused, len(keys(s))-len(want))
		}
		for _, r := range w.short[name].Refused {
			if r.Why == plan.IsHeld && (r.Holder == name || r.Holder.Name == "") {
				t.Fatalf("%s is told that %s has %s", name, r.Holder, r.Key)
			}
		}
	}
	for name, p := range w.plans {
		if w.services[name] == nil && len(p.Frontends) > 0 {
			t.Fatalf("%s is gone and has %v", name, frontends(p))
		}
	}
}

func randomAsking(r *rand.Rand, name string) *cluster.Service {
	if r.IntN(4) == 0 {
		return nil
	}
	vips := []string{"10.43.0.7", "10.43.0.8", "10.43.0.9"}
	ips := []string{"203.0.113.7", "203.0.113.8", "10.43.0.8", "192.0.2.255", "10.44.0.1"}
	r.Shuffle(len(ips), func(i, j int) { ips[i], ips[j] = ips[j], ips[i] })
	nodePort := []uint16{0, 30080, 30081, healthz}[r.IntN(4)]
	s := asking(name, vips[r.IntN(3)], uint16(80+r.IntN(2)), nodePort, ips[:r.IntN(4)]...)
	if check := []uint16{0, 30080, 30081, healthz}[r.IntN(4)]; check != nodePort {
		s.External.Local, s.External.HealthCheckNodePort = true, check
	}
	if r.IntN(2) == 0 {
		s.External.LoadBalancerIPs = addrs([]string{"203.0.113.7", "203.0.113.8", "10.43.0.8"}[r.IntN(3)])
	}
	s.Created = []time.Time{{}, time.Unix(int64(r.IntN(3)), 0)}[r.IntN(2)]
	return s
}

// After every change those that the Table names have what a look at everything grants, and
// nobody else has anything new.
func TestTableRandomWalk(t *testing.T) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 0))
		w := newWorld()
		for range 200 {
			u := plan.Update{Services: make(map[cluster.ServiceName]*cluster.Service)}
			for range 1 + r.IntN(2) {
				name := string(rune('a' + r.IntN(6)))
				u.Services[named(name)] = randomAsking(r, name)
			}
			for _, name := range slices.Sorted(func(yield func(string) bool) {
				for n := range u.Services {
					if !yield(n.Name) {
						return
					}
				}
			}) {
				w.set(named(name), u.Services[named(name)])
			}
			if r.IntN(10) == 0 {
				w.network = plan.Network{}
				if r.IntN(2) == 0 {
					w.network.ServiceCIDRs = []netip.Prefix{netip.MustParsePrefix("10.44.0.0/16")}
				}
				if r.IntN(2) == 0 {
					w.network.Broadcasts = addrs("192.0.2.255")
				}
				u.Network = &w.network
			}
			w.take(t, u)
			w.check(t)
		}
		unserved := 0
		for _, p := range w.table.Plans() {
			if !slices.ContainsFunc(p.Frontends, func(f plan.Frontend) bool { return f.Verdict != plan.Reject }) {
				unserved++
			}
		}
		if got := w.table.Unserved(); got != unserved {
			t.Errorf("seed %d: %d Services without endpoints, want %d", seed, got, unserved)
		}
		short := slices.SortedFunc(maps.Values(w.short), func(a, b plan.Shortfall) int { return a.Service.Compare(b.Service) })
		short = slices.DeleteFunc(short, func(s plan.Shortfall) bool { return len(s.Refused) == 0 })
		if diff := cmp.Diff(short, w.table.Shortfalls(), cmpopts.EquateComparable(plan.Refusal{}), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("seed %d: shortfalls: %s", seed, diff)
		}
		for name := range w.services {
			w.take(t, plan.Update{Services: map[cluster.ServiceName]*cluster.Service{name: nil}})
		}
		services, ports := w.table.Counts()
		if left := len(w.table.Known()) + len(w.table.Plans()) + len(w.table.Shortfalls()) + services + ports + w.table.Unserved(); left > 0 {
			t.Errorf("seed %d: left behind: %v, %v", seed, w.table.Known(), w.table.Shortfalls())
		}
	}
}

// The address of the cluster's DNS is nobody else's to have, whoever is older, and whether
// ranges of ClusterIPs are known or not; nor is it at a port that DNS does not use.
func TestClusterIPPrecedesOlderExternalIP(t *testing.T) {
	for _, cidrs := range [][]netip.Prefix{nil, {netip.MustParsePrefix("10.43.0.0/16")}} {
		for _, dnsFirst := range []bool{false, true} {
			table := plan.NewTable(cluster.IPv4, plan.Options{})
			table.Apply(plan.Update{Network: &plan.Network{ServiceCIDRs: cidrs}})
			thief := asking("thief", "10.43.0.9", 53, 0, "10.43.0.10")
			thief.Created = time.Unix(100, 0)
			thief.Ports = append(thief.Ports, cluster.Port{Name: "other", Protocol: cluster.TCP, Port: 54})
			dns := asking("kube-dns", "10.43.0.10", 53, 0)
			dns.Created = time.Unix(200, 0)
			if dnsFirst {
				apply(table, "kube-dns", dns)
			}
			apply(table, "thief", thief)
			if !dnsFirst {
				apply(table, "kube-dns", dns)
			}
			if got := frontends(table.Plan(dns.Name)); !slices.Equal(got, []string{"10.43.0.10:53/TCP"}) {
				t.Errorf("ranges %v, DNS first %t: kube-dns has %v", cidrs, dnsFirst, got)
			}
			if got := frontends(table.Plan(thief.Name)); !slices.Equal(got, []string{"10.43.0.9:53/TCP", "10.43.0.9:54/TCP"}) {
				t.Errorf("ranges %v, DNS first %t: the thief has %v", cidrs, dnsFirst, got)
			}
		}
	}
}

// A Service never competes with itself: an address that is external and a load balancer's
// is one frontend, and of two ports with one nodePort the first has it.
func TestFrontendsAreUnique(t *testing.T) {
	s := asking("a", "10.43.0.7", 80, 30080, "203.0.113.7", "203.0.113.7", "10.43.0.7")
	s.External.LoadBalancerIPs = addrs("203.0.113.7", "203.0.113.8")
	s.Ports = append(s.Ports, cluster.Port{Name: "second", Protocol: cluster.TCP, Port: 81, NodePort: 30080})
	table := plan.NewTable(cluster.IPv4, plan.Options{})
	_, shortfalls := apply(table, "a", s)
	want := []string{
		"10.43.0.7:80/TCP", "203.0.113.7:80/TCP", "203.0.113.8:80/TCP", "NodePort 30080/TCP",
		"10.43.0.7:81/TCP", "203.0.113.7:81/TCP", "203.0.113.8:81/TCP",
	}
	p := table.Plan(s.Name)
	if got := frontends(p); !slices.Equal(got, want) {
		t.Errorf("frontends %v, want %v", got, want)
	}
	if p.Frontends[1].Kind != plan.ExternalIP || p.Frontends[3].Pool != 0 {
		t.Errorf("%v", p.Frontends)
	}
	if len(shortfalls) != 1 || !strings.Contains(fmt.Sprint(shortfalls[0].New.Texts()), `NodePort 30080/TCP is asked for by two ports`) {
		t.Errorf("told %v", shortfalls)
	}
}

func TestAddressInTheRangeOfClusterIPs(t *testing.T) {
	table := plan.NewTable(cluster.IPv4, plan.Options{})
	table.Apply(plan.Update{Network: &plan.Network{ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.43.0.0/16")}}})
	_, short := apply(table, "a", asking("a", "10.43.0.7", 80, 0, "10.43.0.9", "203.0.113.7"))
	if got := frontends(table.Plan(named("a"))); !slices.Equal(got, []string{"10.43.0.7:80/TCP", "203.0.113.7:80/TCP"}) {
		t.Errorf("granted %v", got)
	}
	if len(short) != 1 || !strings.Contains(fmt.Sprint(short[0].New.Texts()), "10.43.0.9:80/TCP is a ClusterIP, or in the range of them") {
		t.Errorf("told %v", short)
	}
}

// Of two Services of unknown age the one that has the frontend keeps it.
func TestHolderKeepsItsFrontend(t *testing.T) {
	table := plan.NewTable(cluster.IPv4, plan.Options{})
	for _, name := range []string{"z", "a", "z"} {
		apply(table, name, asking(name, map[string]string{"z": "10.43.0.26", "a": "10.43.0.1"}[name], 80, 30080))
	}
	if got := frontends(table.Plan(named("z"))); !slices.Contains(got, "NodePort 30080/TCP") {
		t.Errorf("the Service that had the NodePort lost it to a new one: %v", got)
	}
	if short := table.Shortfalls(); len(short) != 1 || short[0].Service != named("a") {
		t.Errorf("told %v", short)
	}
}

// A healthCheckNodePort is decided as a NodePort is, and with the NodePorts of TCP; and none gets
// the port at which the node answers for itself.
func TestHealthCheckNodePorts(t *testing.T) {
	made := func(name string, created int64, vip string, nodePort, check uint16) *cluster.Service {
		s := asking(name, vip, 80, nodePort)
		s.Created = time.Unix(created, 0)
		s.External.Local, s.External.HealthCheckNodePort = true, check
		return s
	}
	services := map[cluster.ServiceName]*cluster.Service{
		named("younger"):  made("younger", 200, "10.43.0.1", 0, 30971),
		named("older"):    made("older", 100, "10.43.0.2", 0, 30971),
		named("nodeport"): made("nodeport", 300, "10.43.0.3", 30971, 30972),
		named("late"):     made("late", 400, "10.43.0.4", 30972, 0),
		named("checked"):  made("checked", 500, "10.43.0.5", 30973, 0),
		named("checks"):   made("checks", 600, "10.43.0.6", 0, 30973),
		named("healthz"):  made("healthz", 50, "10.43.0.7", 0, 10256),
		named("itself"):   made("itself", 50, "10.43.0.8", 30974, 30974),
	}
	table := plan.NewTable(cluster.IPv4, plan.Options{Healthz: 10256})
	_, told := table.Apply(plan.Update{Services: services})
	want := map[string]string{
		"younger":  "healthCheckNodePort 30971 belongs to Service testing/older, which is older or had it first: choose another",
		"nodeport": "NodePort 30971/TCP is the healthCheckNodePort of Service testing/older, which is older or had it first: choose another",
		"late":     "NodePort 30972/TCP is the healthCheckNodePort of Service testing/nodeport, which is older or had it first: choose another",
		"checks":   "healthCheckNodePort 30973 is a NodePort of Service testing/checked, which is older or had it first: choose another",
		"healthz":  "healthCheckNodePort 10256 is where kernelnat answers /healthz: choose another, or change the option healthz",
		"itself":   "healthCheckNodePort 30974 is a NodePort of the Service itself: give one of them another",
	}
	got := make(map[string]string)
	for _, s := range told {
		got[s.New.Service.Name] = strings.Join(s.New.Texts(), "; ")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("told (-want): %s", diff)
	}
	for name, port := range map[string]uint16{"older": 30971, "younger": 0, "nodeport": 30972, "checks": 0, "healthz": 0, "itself": 0} {
		if got := table.Plan(named(name)).HealthCheckNodePort; got != port {
			t.Errorf("%s has healthCheckNodePort %d, want %d", name, got, port)
		}
	}
	// Whoever asks next gets what is given up.
	changes, _ := apply(table, "older", nil)
	if len(changes) != 2 || changes[1].New.Name != named("younger") || changes[1].New.HealthCheckNodePort != 30971 {
		t.Errorf("changes %v", changes)
	}
}

// What every host of a network gets is nobody's.
func TestBroadcastIsNobodys(t *testing.T) {
	table := plan.NewTable(cluster.IPv4, plan.Options{})
	apply(table, "a", asking("a", "10.43.0.7", 80, 30080, "192.0.2.255", "192.0.2.254"))
	changes, short := table.Apply(plan.Update{Network: &plan.Network{Broadcasts: addrs("192.0.2.255")}})
	if len(changes) != 1 || !slices.Equal(frontends(changes[0].New), []string{"10.43.0.7:80/TCP", "192.0.2.254:80/TCP", "NodePort 30080/TCP"}) {
		t.Errorf("changes %v", changes)
	}
	if want := "[192.0.2.255:80/TCP is the broadcast address of a network of this node: choose an address of its own]"; len(short) != 1 || fmt.Sprint(short[0].New.Texts()) != want {
		t.Errorf("told %v", short)
	}
}

// A Node that is another has all Services planned anew.
func TestNodeChanges(t *testing.T) {
	table := plan.NewTable(cluster.IPv4, plan.Options{})
	s := service(true, endpoint("10.42.0.1", ready, node))
	table.Apply(plan.Update{Services: map[cluster.ServiceName]*cluster.Service{name: s}})
	if v := table.Plan(name).Frontends[0].Verdict; v != plan.Drop {
		t.Errorf("on a node that is not known the verdict is %v", v)
	}
	if changes, _ := table.Apply(plan.Update{Node: self}); len(changes) != 1 || changes[0].New.Frontends[0].Verdict != plan.Forward {
		t.Errorf("on its node: %v", changes)
	}
	if changes, _ := table.Apply(plan.Update{Node: self}); len(changes) != 0 {
		t.Errorf("the same node again: %v", changes)
	}
}

// A Service whose external address becomes its load balancer's, or the other way round,
// asks for the same packets as before, and keeps them: neither its age nor the frontend
// has changed.
func TestKeepsAFrontendThatIsOfAnotherKind(t *testing.T) {
	table := plan.NewTable(cluster.IPv4, plan.Options{})
	apply(table, "b", asking("b", "10.96.0.2", 80, 0, "203.0.113.1"))
	apply(table, "a", asking("a", "10.96.0.1", 80, 0, "203.0.113.1"))
	s := *asking("b", "10.96.0.2", 80, 0)
	s.External.LoadBalancerIPs = addrs("203.0.113.1")
	apply(table, "b", &s)
	if got := frontends(table.Plan(named("b"))); len(got) != 2 {
		t.Errorf("b, which had 203.0.113.1 first and asks for it still, has %v; a has %v", got, frontends(table.Plan(named("a"))))
	}
}
