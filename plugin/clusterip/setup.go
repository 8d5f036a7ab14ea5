// Package clusterip is the CoreDNS plugin that answers for Services: the names
// half of clusterip. It reads the directive, joins the feed of the objects that this
// names, and serves what package zone compiles. The NAT half finds the same feed in
// the storage of the server, see feed.Block.
//
// Start with ServeDNS in handler.go; what is answered is decided in zone.
package clusterip

import (
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/clusterip/clusterip/cluster/feed"
	"github.com/clusterip/clusterip/explain"
	"github.com/clusterip/clusterip/hostaddrs"
	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	external "github.com/coredns/coredns/plugin/k8s_external"
	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/coredns/coredns/plugin/transfer"
	"github.com/prometheus/client_golang/prometheus"
)

const pluginName = "clusterip"

var log = clog.NewWithPlugin(pluginName)

func init() { plugin.Register(pluginName, setup) }

// feeds are those of this process.
var feeds = feed.New(log, observe)

func init() { prometheus.MustRegister(feeds) }

func setup(c *caddy.Controller) error {
	config := dnsserver.GetConfig(c)
	o, err := ParseOptions(c, config.Root)
	if err != nil {
		return err
	}
	own := serverOf(c)
	subscription, err := feeds.Join(own, o.Origin(), o.needs())
	if err != nil {
		return o.Errorf(o.Source(), "%w", err)
	}
	c.Set(feed.Block(c.ServerBlockIndex), subscription) // kernelnat has it too
	h := New(o, subscription.Store(), ownAddresses(config.ListenHosts))
	subscription.AtEnd(h.close)
	h.ready = func() bool { return listening.Load() && subscription.Ready(o.StaleAfter) }
	if o.StaleAfter > 0 {
		h.stale = func() bool { return subscription.Stale(o.StaleAfter) }
	}
	*explain.ServerOf(c).Block(c.ServerBlockIndex) = h.parts(subscription)
	h.noteFronts(config)
	config.Plugin = slices.Insert(config.Plugin, 0, h.ending.see)
	if o.Fast != FastOff {
		fast.openWith(config, own, o.FastThreads)
	}
	c.OnShutdown(h.ending.begin)
	c.OnStartup(func() error { return h.begin(c, config, own) })
	leave := leaveWithServer(c, own)
	started := false
	config.AddPlugin(func(next plugin.Handler) plugin.Handler {
		// This comes after all plugins are set up, once for each address. So the
		// feed starts after the others have: they may need something of it.
		if !started {
			started = true
			c.OnStartup(func() error {
				c.OnFinalShutdown(leave) // until the last query names follow what changes
				if err := subscription.Start(o.StartupTimeout); err != nil {
					return plugin.Error(pluginName, err)
				}
				return nil
			})
		}
		h.Next, h.inFront = next, nil
		return h
	})
	config.AddPlugin(accompany(h))
	return nil
}

// begin is for a server that starts, and not for a Corefile that is only checked.
func (h *Handler) begin(c *caddy.Controller, config *dnsserver.Config, own *feed.Server) error {
	for _, what := range h.options.Warnings {
		log.Warning(what)
	}
	h.findOthers(config)
	fast.expect(config, own)
	if h.options.Fast == FastOn {
		if _, why := newLane(h, config); why != "" {
			return h.options.Errorf("fastpath", "%s", Off{Where: config.Zone, Why: why, On: true})
		}
	}
	// This is after all that was asked for in a setup: health sleeps for its
	// lameduck, and kernelnat has flows to our sockets forgotten.
	c.OnFinalShutdown(h.ending.finish)
	return nil
}

func serverOf(c *caddy.Controller) *feed.Server {
	type key struct{}
	if s, ok := c.Get(key{}).(*feed.Server); ok {
		return s
	}
	s := &feed.Server{}
	c.Set(key{}, s)
	return s
}

// findOthers ties the Handler to plugins of its server block.
func (h *Handler) findOthers(config *dnsserver.Config) {
	if t, ok := config.Handler("transfer").(*transfer.Transfer); ok {
		h.transfers(t)
	}
	if e, ok := config.Handler("k8s_external").(*external.External); ok && len(e.Zones) > 0 {
		h.outside = e.Zones[0]
	}
}

// leaveWithServer has a server end its fast paths and leave its feeds when a reload has replaced it. When the
// process ends, it is for leave.
func leaveWithServer(c *caddy.Controller, own *feed.Server) (leave func() error) {
	end := func(which func(*feed.Server) bool) {
		fast.close(which)
		feeds.Leave(which)
	}
	leave = func() error {
		end(func(s *feed.Server) bool { return s == own })
		return nil
	}
	// CoreDNS restarts and shuts down in goroutines of their own.
	var reloading atomic.Bool
	c.OnRestart(func() error {
		reloading.Store(true)
		return nil
	})
	// CoreDNS discards the server of a reload that failed without shutting it
	// down; the one that goes on ends what it left.
	c.OnRestartFailed(func() error {
		reloading.Store(false)
		end(func(s *feed.Server) bool { return s != own })
		return nil
	})
	// On a reload this comes after the next instance has started. Leaving any
	// sooner would leave the old objects behind if the reload failed.
	c.OnShutdown(func() error {
		if !reloading.Load() {
			return nil
		}
		return leave()
	})
	return leave
}

// ownAddresses returns the addresses that hosts to listen on stand for: those
// that others can reach or, if there are none, loopback.
func ownAddresses(hosts []string) []netip.Addr {
	var reachable, loopback []netip.Addr
	for _, ip := range hostaddrs.Of(hosts) {
		switch {
		case ip.IsLoopback():
			loopback = append(loopback, ip)
		case !ip.IsLinkLocalUnicast():
			reachable = append(reachable, ip)
		}
	}
	if len(reachable) == 0 {
		return loopback
	}
	return reachable
}
