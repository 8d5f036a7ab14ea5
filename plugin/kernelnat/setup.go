// Package kernelnat is the CoreDNS directive that switches the NAT half on. It
// serves no queries: like health, it ties a thing of its own to the life of the
// server. The work is done by the package of the same name in the module's root.
package kernelnat

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/cluster/feed"
	"github.com/clusterip/clusterip/explain"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/backends"
	"github.com/clusterip/clusterip/kernelnat/healthcheck"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/prometheus/client_golang/prometheus"
)

const name = "kernelnat"

func init() { plugin.Register(name, setup) }

// onePerServer is the key under which the server's storage notes that it has a
// kernelnat.
type onePerServer struct{}

// What is wrong with a kernelnat without Services, and with a second one: each would take
// the other's rules for leftovers and remove them. Twice is a format, which takes the place
// of the first.
const (
	NoSource = "there is no clusterip in this server block: add it, kernelnat takes its Services from there"
	Twice    = "kernelnat is in two server blocks, here and at %s: keep one, the kernel's rules have one writer"
)

func setup(c *caddy.Controller) error {
	o, err := ParseOptions(c)
	if err != nil {
		return err
	}
	if other, ok := c.Get(onePerServer{}).(string); ok {
		return o.Errorf("", Twice, other)
	}
	c.Set(onePerServer{}, o.Place())
	subscription, ok := c.Get(feed.Block(c.ServerBlockIndex)).(*feed.Subscription)
	if !ok {
		return o.Errorf("", "%s", NoSource)
	}
	if err := subscription.Need(feed.Needs{Node: o.NodeName}); err != nil {
		return o.Errorf("", "%w", err)
	}
	n := &nat{options: o, feed: subscription}
	parts := explain.ServerOf(c).Block(c.ServerBlockIndex)
	parts.NAT, parts.Writes = n.explained(), kernelnat.WriteTimes()
	// On a reload the new instance starts before the old one is shut down. Two
	// writers would undo each other's work, so the old one pauses first.
	c.OnRestart(n.stop)
	c.OnRestartFailed(func() error {
		log.Warning("the new Corefile is not in force: NAT goes on with the one before it, and what follows is said of that one")
		return n.start()
	})
	// At the end of the process connections still come while health is a lameduck,
	// which sleeps in a callback of this kind, and while clusterip waits for the last
	// query in another. CoreDNS calls them in the order in which they are asked for.
	// That of health is asked for in its setup, before ours, and that of clusterip when
	// the server starts, before ours too.
	config := dnsserver.GetConfig(c)
	c.OnFinalShutdown(func() error {
		n.abandon(listening(config))
		return nil
	})
	c.OnStartup(func() error {
		c.OnFinalShutdown(n.stop)
		return n.start()
	})
	return nil
}

// nat is the NAT half of one server.
type nat struct {
	options Options
	feed    *feed.Subscription
	lock    io.Closer // of the one writer; nil in a dry run, and while another has it
	cancel  context.CancelFunc
	done    sync.WaitGroup
	writing atomic.Pointer[map[cluster.Family]*kernelnat.Controller] // nil: none runs
	metrics *kernelnat.ConnectionMetrics                             // registered while writing
	checks  *healthcheck.Services                                    // made with the controllers, which grant it ports
	chosen  atomic.Pointer[string]                                   // the name of the backend; nil: not yet
}

// running is the one nat of this process that runs. CoreDNS discards the server
// of a reload that failed late without shutting it down; so when the old server's
// nat starts again, it ends what the discarded one left running.
var running struct {
	sync.Mutex
	nat *nat
}

func (n *nat) start() error {
	controllers, err := n.controllers()
	if err != nil {
		return plugin.Error(name, err)
	}
	if n.options.DryRun {
		log.Info("dry_run is set: the kernel is not touched. To switch NAT on, remove dry_run and run as root or with CAP_NET_ADMIN")
	}
	running.Lock()
	defer running.Unlock()
	if running.nat != nil {
		running.nat.end()
		running.nat = nil
	}
	if !n.options.DryRun {
		if n.lock, err = kernelnat.Lock(); err != nil && !errors.Is(err, kernelnat.ErrLocked) {
			return plugin.Error(name, err)
		}
	}
	running.nat = n
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	if err != nil {
		n.done.Go(func() { n.beginLater(ctx, controllers) })
		return nil
	}
	n.begin(ctx, controllers)
	return nil
}

// beginLater begins when the process that writes the rules now has ended: it may be
// a lameduck, and names are not to wait for it. Health checks are not answered
// meanwhile: they are that process's to answer, on the same ports.
func (n *nat) beginLater(ctx context.Context, controllers map[cluster.Family]*kernelnat.Controller) {
	log.Warning("NAT waits: kernelnat runs in another process; it begins when that one ends. " +
		"If that one is not about to end, as a lameduck is, stop it, or take kernelnat out of one of the two Corefiles; ss -xlp | grep clusterip/kernelnat names it")
	lock, err := kernelnat.AwaitLock(ctx)
	if err != nil {
		if ctx.Err() == nil {
			log.Errorf("NAT does not begin: %v", err)
		}
		return
	}
	log.Info("NAT begins: no other process runs kernelnat any more")
	n.lock = lock
	n.begin(ctx, controllers)
}

// begin follows the Node, and starts all that writes as soon as that may be.
func (n *nat) begin(ctx context.Context, controllers map[cluster.Family]*kernelnat.Controller) {
	node := kernelnat.NewNode(n.options.Node(n.feed.HasNodes()), log)
	n.run(ctx, "the Node is not followed any more", func() error {
		return node.Run(ctx, n.feed.Store(), func() { n.write(ctx, node, controllers) })
	})
}

// write starts all that writes, and what tells how that goes.
func (n *nat) write(ctx context.Context, node *kernelnat.Node, controllers map[cluster.Family]*kernelnat.Controller) {
	n.setSysctls()
	n.writing.Store(&controllers)
	if !n.options.DryRun {
		if err := prometheus.Register(n.metrics); err != nil {
			log.Warningf("export connections: %v", err)
		}
	}
	for _, controller := range controllers {
		n.run(ctx, "NAT stopped", func() error { return controller.Run(ctx, n.feed.Store()) })
	}
	n.advise(ctx)
	n.serveHealth(ctx, node, controllers)
}

// advise tells the owners of Services what they can mend. Of a folder its notices do.
func (n *nat) advise(ctx context.Context) {
	if n.options.DryRun || !n.feed.HasNodes() {
		return
	}
	advisor := kernelnat.NewAdvisor(n.options.Plan.Proxy, func(service cluster.ServiceName, f plan.Fault) {
		log.Warningf("Service %s: %s", service, f.Text)
		n.feed.Warn(service, string(f.Why), f.Text)
	})
	n.run(ctx, "owners of Services are not warned any more", func() error { return advisor.Run(ctx, n.feed.Store()) })
}

// setSysctls is no condition for NAT: it says what it changed, and what it may not.
func (n *nat) setSysctls() {
	if n.options.DryRun {
		return
	}
	changed, err := n.options.Sysctls.Set()
	if len(changed) > 0 {
		log.Infof("set sysctls of connection tracking: %s", strings.Join(changed, ", "))
	}
	if err != nil {
		log.Warningf("%v: the kernel's values stay; the options conntrack_… switch this off", err)
	}
}

// run runs something until the context ends, and says so if it ends sooner.
func (n *nat) run(ctx context.Context, what string, f func() error) {
	n.done.Go(func() {
		if err := f(); ctx.Err() == nil {
			log.Errorf("%s: %v", what, err)
		}
	})
}

// serveHealth answers whether this node should get traffic, which a node that
// writes nothing cannot say.
func (n *nat) serveHealth(ctx context.Context, node *kernelnat.Node, controllers map[cluster.Family]*kernelnat.Controller) {
	if n.options.DryRun {
		return
	}
	proxy := &healthcheck.Proxy{Status: statusOf(controllers), Eligible: node.Eligible}
	if n.options.Healthz != "" {
		n.run(ctx, "NAT goes on without health checks", func() error { return serveHealthz(ctx, proxy, n.options.Healthz) })
	}
	n.run(ctx, "Services have no health checks any more", func() error { return n.checks.Run(ctx, n.feed.Store()) })
}

// statusOf says how NAT of each family is.
func statusOf(controllers map[cluster.Family]*kernelnat.Controller) func() map[cluster.Family]healthcheck.Status {
	return func() map[cluster.Family]healthcheck.Status {
		all := make(map[cluster.Family]healthcheck.Status)
		for family, c := range controllers {
			h := c.Health()
			all[family] = healthcheck.Status{LastUpdated: h.LastUpdated, Healthy: !h.Late}
		}
		return all
	}
}

func (n *nat) nodePortAddresses(family cluster.Family, node *cluster.Node) ([]netip.Addr, error) {
	return n.options.NodePorts.Addresses(family, plan.NodeOf(n.options.NodeName, node))
}

// retryHealthz is how often the port is tried while another program has it, such as
// a kube-proxy that is about to end.
const retryHealthz = 5 * time.Second

func serveHealthz(ctx context.Context, proxy *healthcheck.Proxy, address string) error {
	for told := false; ; told = true {
		err := proxy.Serve(ctx, address)
		if ctx.Err() != nil {
			return err
		}
		if !told {
			log.Errorf("%v; trying again every %v. If a kube-proxy still runs here, stop it: each undoes what the other writes", err, retryHealthz)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryHealthz):
		}
	}
}

// controllers returns that of each IP family.
func (n *nat) controllers() (map[cluster.Family]*kernelnat.Controller, error) {
	chosen, why, err := backends.Choose(n.options.Backend)
	if err != nil {
		return nil, err
	}
	n.chosen.Store(&chosen.Name)
	if n.options.Backend == chosen.Name {
		log.Infof("the backend is %s, %s", chosen.Name, why)
	} else {
		log.Infof("backend %s is %s: %s", n.options.Backend, chosen.Name, why)
	}
	if !n.options.DryRun {
		if err := chosen.Missing(n.options.Plan.Policy); err != nil {
			log.Errorf("%s: %v: connections go to random endpoints, until a start that finds it", n.options.Place("ipvs_scheduler", "backend"), err)
		}
	}
	families, err := chosen.New(n.options.Settings)
	if err != nil {
		return nil, err
	}
	n.metrics = kernelnat.NewConnectionMetrics(n.options.Exported, families, log)
	out := make(map[cluster.Family]*kernelnat.Controller)
	n.checks = healthcheck.NewServices(healthcheck.Options{
		Node: n.options.NodeName, Plan: n.options.Plan, Addresses: n.nodePortAddresses,
		Healthy: (&healthcheck.Proxy{Status: statusOf(out)}).Healthy, Log: log.Errorf,
	})
	for family, backend := range families {
		options := n.options.Options
		options.Family = family
		n.options.limit(chosen, &options.Plan)
		if !n.options.DryRun {
			options.HealthChecks = n.checks.Grant
			options.Refused = func(service cluster.ServiceName, why string) { n.feed.Warn(service, "FrontendRefused", why) }
			options.Overlaps = func(o plan.Overlap) {
				o.Example = netip.Prefix{} // another on each node, and they are to make one Event
				n.feed.WarnRange(o.CIDR, "RangeOverlaps", o.String())
			}
		}
		out[family] = kernelnat.New(options, backend, log)
	}
	return out, nil
}

// stop ends the controllers, if they run, or the wait for that, and leaves their rules in the kernel.
func (n *nat) stop() error {
	running.Lock()
	defer running.Unlock()
	if running.nat == n {
		n.end()
		running.nat = nil
	}
	return nil
}

func (n *nat) end() {
	n.writing.Store(nil)
	n.cancel()
	n.done.Wait()
	prometheus.Unregister(n.metrics)
	if n.lock != nil {
		n.lock.Close()
		n.lock = nil
	}
}
