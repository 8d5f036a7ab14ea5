package endurance

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/backends"
	"github.com/clusterip/clusterip/kernelnat/backendtest"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"golang.org/x/sys/unix"
)

var (
	backendName = flag.String("backend", "nftables", "the `backend` that is tried")
	connections = flag.Int("connections", 100_000, "how many new connections are made during changes")
	changeEvery = flag.Duration("change-every", time.Millisecond, "the `time` between changes")
	// By default so short that the clients of endpoints that are gone do not fill the memory of clients.
	affinity = flag.Duration("affinity", 2*time.Second, "how `long` a client keeps its endpoint")
	seed     = flag.Uint64("seed", 1, "the `number` that changes are made from")
)

// kind is how a Service is reached, and what changes of it besides its endpoints.
type kind struct {
	name     string
	protocol cluster.Protocol
	nodePort bool // from outside, at a NodePort
	external bool // from inside, at an external address
	local    bool // to endpoints of this node alone, of which there is always one
	sticky   bool
	policies bool // its treatment changes with each write
	renamed  bool // its port has another name with each write
	balance  cluster.Policy
}

var kinds = []kind{
	{name: "UDP", protocol: cluster.UDP},
	{name: "TCP", protocol: cluster.TCP},
	{name: "client affinity", protocol: cluster.UDP, sticky: true},
	{name: "NodePort", protocol: cluster.UDP, nodePort: true},
	{name: "externalTrafficPolicy Local", protocol: cluster.TCP, nodePort: true, local: true},
	{name: "round robin", protocol: cluster.UDP, balance: cluster.RoundRobin},
	{name: "source hash", protocol: cluster.UDP, balance: cluster.SourceHash},
	{name: "policies that change", protocol: cluster.UDP, policies: true},
	{name: "external policies that change, from outside", protocol: cluster.UDP, nodePort: true, policies: true},
	{name: "external policies that change, from inside", protocol: cluster.UDP, external: true, policies: true},
	{name: "names of the port that change", protocol: cluster.UDP, renamed: true},
}

// While the endpoints of a Service change a thousand times a second, and other Services come
// and go, each new connection is answered by one that is an endpoint, or refused if there
// may be none.
func TestNewConnectionsDuringChanges(t *testing.T) {
	for _, k := range kinds {
		for _, family := range cluster.Families {
			t.Run(fmt.Sprint(k.name, " ", family), func(t *testing.T) {
				tryChanges(t, k, family, *connections/(len(kinds)*len(cluster.Families)))
			})
		}
	}
}

func tryChanges(t *testing.T, k kind, family cluster.Family, flows int) {
	n, p := newNetwork(t), places[family]
	defer n.serve(family, !k.nodePort)()
	from, base, gateway, to := n.client, p.inside, n.mac(netlab.Bridge), netip.AddrPortFrom(p.clusterIP, servicePort)
	if k.nodePort {
		from, base, gateway, to = n.node.Outside, p.outside, n.mac(netlab.Uplink), netip.AddrPortFrom(p.node, nodePort)
	}
	if k.external {
		to = netip.AddrPortFrom(p.external, servicePort)
	}
	wire, err := openWire(from, family)
	n.must(err)
	defer wire.close()
	c := &client{wire: wire, gateway: gateway, family: family, protocol: k.protocol, base: base, to: to, history: newHistory(),
		forget: func() error { return n.node.Do(forgetFlows) }}

	if k.sticky {
		c.sticky = *affinity / 2 // the kernel's clock has large ticks
	}

	ch := newChanger(k, family, c.history)
	n.must(n.node.Do(ch.start))
	var stop, failed atomic.Bool
	changed := make(chan error)
	go func() {
		err := n.node.Do(func() error { return ch.run(stop.Load) })
		failed.Store(err != nil)
		changed <- err
	}()
	began := time.Now()
	err = c.run(flows, failed.Load)
	took := time.Since(began)
	stop.Store(true)
	n.must(<-changed)
	n.must(err)
	longest, writes := c.history.longest()
	t.Logf("%.0f connections and %.0f writes a second, the longest took %v: %v",
		float64(c.results.answered+c.results.refused)/took.Seconds(), float64(writes)/took.Seconds(), longest.Round(10*time.Microsecond), c.results)
	if c.results.wrong() > 0 {
		t.Errorf("%d connections were treated wrongly, such as", c.results.wrong())
		for _, e := range c.examples {
			t.Log(e)
		}
	}
}

// The ports of the Service that is asked.
const (
	servicePort = 80
	targetPort  = 5678
	nodePort    = 30080
)

// changer changes a Service and others beside it.
type changer struct {
	*rand.Rand
	kind    kind
	family  cluster.Family
	history *history

	backend   kernelnat.Backend
	endpoints endpoints     // that the Service has
	since     time.Duration // when they came, with client affinity
	here      endpoints     // those on this node
	asked     plan.Service
	beside    map[int]plan.Service
}

func newChanger(k kind, family cluster.Family, h *history) *changer {
	return &changer{Rand: rand.New(rand.NewPCG(*seed, uint64(family))), kind: k, family: family, history: h, endpoints: 1, beside: make(map[int]plan.Service)}
}

// start begins as a new process does, with the Services that there are.
func (c *changer) start() error {
	c.asked = c.service(c.endpoints)
	found, err := backends.Find(*backendName)
	if err != nil {
		return err
	}
	families, err := found.New(netfilter.Settings{MasqueradeBit: netfilter.DefaultMasqueradeBit})
	if err != nil {
		return err
	}
	c.backend = families[c.family]
	return c.history.write(c.endpoints, c.sync)
}

func (c *changer) sync() error {
	state := kernelnat.State{Services: []plan.Service{c.asked}}
	for _, s := range c.beside {
		state.Services = append(state.Services, s)
	}
	_, err := c.backend.Sync(context.Background(), state)
	return err
}

// run changes until stop says so. The table stays as it is then.
func (c *changer) run(stop func() bool) error {
	defer func() { c.backend.Close() }()
	// The clients leave little of a small machine.
	thread := unix.Gettid()
	if err := unix.Setpriority(unix.PRIO_PROCESS, thread, -10); err != nil {
		return err
	}
	defer unix.Setpriority(unix.PRIO_PROCESS, thread, 0)
	ticks := time.NewTicker(*changeEvery)
	defer ticks.Stop()
	for !stop() {
		<-ticks.C
		if err := c.change(); err != nil {
			return err
		}
	}
	return nil
}

func (c *changer) change() error {
	switch c.IntN(200) {
	case 0:
		if err := c.backend.Close(); err != nil {
			return err
		}
		// Much may have changed before the next process comes.
		c.endpoints = c.next()
		for i := range c.beside {
			if c.IntN(3) == 0 {
				delete(c.beside, i)
			}
		}
		return c.start()
	case 1, 2:
		return c.history.write(c.endpoints, c.sync)
	}
	next := c.service(c.next())
	changes := []kernelnat.Change{{Old: c.asked, New: next}}
	c.asked = next
	for _, i := range c.Perm(40)[:max(0, c.IntN(8)-5)] {
		other := c.other(i)
		changes = append(changes, kernelnat.Change{Old: c.beside[i], New: other})
		if c.beside[i] = other; len(other.Frontends) == 0 {
			delete(c.beside, i)
		}
	}
	return c.history.write(c.endpoints, func() error { return c.backend.Apply(context.Background(), changes) })
}

// most is how many endpoints there are.
const most = 24

// stay is how long a Service with client affinity has the endpoints that it has. What the kernel
// has forgotten of a client stays in its map until it collects that, once a second, and no
// more than 16 elements of one key come in (RHT_ELASTICITY, linux/rhashtable.h).
const stay = 500 * time.Millisecond

// next is the endpoints after one change.
func (c *changer) next() endpoints {
	e := c.endpoints
	if c.kind.sticky {
		now := c.history.now()
		if now-c.since < stay {
			return e
		}
		c.since = now
	}
	one := func(of endpoints) endpoints {
		for {
			if i := byte(c.IntN(most)); of.has(i) {
				return 1 << i
			}
		}
	}
	all := endpoints(1<<most - 1)
	switch kind := c.IntN(100); {
	case e == 0:
		return one(all)
	case kind < 1 && !c.kind.local:
		return 0
	case kind < 10:
		return one(all)
	case kind < 15:
		return all
	case kind < 40 && e != all:
		return e | one(all&^e)
	case kind < 65 && e.count() > 1:
		return e &^ one(e)
	case e != all: // replaced
		return e&^one(e) | one(all&^e)
	}
	return e &^ one(e)
}

func (c *changer) addresses(e endpoints) (out []netip.AddrPort) {
	a := places[c.family].endpoints
	for i := byte(0); i < 64; i, a = i+1, a.Next() {
		if e.has(i) {
			out = append(out, netip.AddrPortFrom(a, targetPort))
		}
	}
	return out
}

// service is the Service that is asked, with these endpoints.
func (c *changer) service(e endpoints) plan.Service {
	c.endpoints = e
	port := backendtest.Port(c.kind.protocol, netip.AddrPortFrom(places[c.family].clusterIP, servicePort), c.addresses(e)...)
	pool, first := &port.Pools[0], &port.Frontends[0]
	verdict := plan.Forward
	if e == 0 {
		verdict, first.Verdict = plan.Reject, plan.Reject
	}
	if c.kind.sticky {
		pool.AffinitySeconds = uint32(affinity.Seconds())
	}
	pool.Policy = c.kind.balance
	if c.kind.renamed {
		pool.Port = fmt.Sprint("port-", c.IntN(100))
	}
	outside := c.kind.nodePort || c.kind.external
	if c.kind.policies && !outside {
		c.policy(first, pool)
	}
	if outside {
		o := backendtest.Outside{Verdict: verdict, NodePort: nodePort, IPs: []netip.Addr{places[c.family].external}}
		o.Local = c.kind.local || c.kind.policies && e != 0 && c.IntN(2) == 0
		if o.Local {
			o.Inside = plan.Clients{Range: c.inside()}
			pool.Local = c.addresses(c.some())
			if c.kind.nodePort {
				c.endpoints = c.here
			}
		}
		port = o.Add(port)
	}
	return backendtest.Named("asked", port)
}

// some are those of the endpoints that are on this node: one at least.
func (c *changer) some() endpoints {
	if c.here = c.endpoints & endpoints(c.Uint64()); c.here == 0 {
		c.here = c.endpoints
	}
	return c.here
}

// inside is the network of the clients inside the cluster.
func (c *changer) inside() netip.Prefix {
	inside := places[c.family].inside
	return netip.PrefixFrom(inside, inside.BitLen()/2).Masked()
}

// policy gives a frontend one at random.
func (c *changer) policy(f *plan.Frontend, p *plan.Pool) {
	p.AffinitySeconds = uint32(60 * c.IntN(2))
	f.Masquerade.All = c.IntN(4) == 0
	if c.IntN(4) == 0 {
		f.Masquerade.Outside = plan.Clients{Range: c.inside()}
	}
	if f.Verdict == plan.Forward && c.IntN(3) == 0 {
		f.Local, p.Local = true, c.addresses(c.some())
		c.endpoints = c.here
	}
}

// other is a Service beside, or none.
func (c *changer) other(i int) plan.Service {
	name := fmt.Sprint("beside-", i)
	if c.IntN(3) == 0 {
		return backendtest.Named(name)
	}
	at := places[c.family].beside
	for range i {
		at = at.Next()
	}
	var to []netip.AddrPort
	count := c.IntN(8)
	if c.IntN(10) == 0 {
		count = c.IntN(80) // chains for many numbers of endpoints come and go
	}
	for e := range count {
		to = append(to, netip.AddrPortFrom(places[c.family].endpoints, uint16(1000+e)))
	}
	port := backendtest.Port(cluster.TCP, netip.AddrPortFrom(at, servicePort), to...)
	o := backendtest.Outside{Verdict: plan.Forward, NodePort: uint16(31000 + i)}
	if len(to) == 0 {
		port.Frontends[0].Verdict, o.Verdict = plan.Reject, plan.Reject
	}
	port.Pools[0].AffinitySeconds = uint32(c.IntN(5) / 4 * 60)
	if c.IntN(2) == 0 {
		port = o.Add(port)
	}
	return backendtest.Named(name, port)
}
