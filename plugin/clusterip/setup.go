// Package clusterip is the CoreDNS plugin that answers for Services: the names
// half of clusterip. It reads the directive, runs the source of objects, and
// serves what package zone compiles. The NAT half finds the same objects through
// Handler.Store.
//
// Start with ServeDNS in handler.go; what is answered is decided in zone.
package clusterip

import (
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/clusterip/clusterip/hostaddrs"
	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	external "github.com/coredns/coredns/plugin/k8s_external"
	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/coredns/coredns/plugin/transfer"
)

const pluginName = "clusterip"

var log = clog.NewWithPlugin(pluginName)

func init() { plugin.Register(pluginName, setup) }

func setup(c *caddy.Controller) error {
	config := dnsserver.GetConfig(c)
	o, err := ParseOptions(c, config.Root)
	if err != nil {
		return plugin.Error(pluginName, err)
	}
	c.OnStartup(func() error { // not where the Corefile is only checked
		for _, what := range o.Warnings {
			log.Warning(what)
		}
		return nil
	})
	own := serverOf(c)
	h, f, err := serve(own, o, config.ListenHosts)
	if err != nil {
		return plugin.Error(pluginName, c.Err(err.Error()))
	}
	h.ready = onceListening(h.ready)
	started := false
	config.AddPlugin(func(next plugin.Handler) plugin.Handler {
		// This comes after all plugins are set up, once for each address. So the
		// feed starts after the others have: they may need something of it.
		if !started {
			started = true
			c.OnStartup(func() error {
				if err := f.start(own, o.StartupTimeout); err != nil {
					return plugin.Error(pluginName, err)
				}
				return nil
			})
		}
		h.Next = next
		return h
	})
	config.AddPlugin(accompany(h))
	c.OnStartup(func() error {
		if t, ok := config.Handler("transfer").(*transfer.Transfer); ok {
			h.transfers(t)
		}
		if e, ok := config.Handler("k8s_external").(*external.External); ok && len(e.Zones) > 0 {
			h.outside = e.Zones[0]
		}
		return nil
	})
	config.Plugin = slices.Insert(config.Plugin, 0, h.ending.see)
	c.OnShutdown(h.ending.begin)
	c.OnFinalShutdown(h.ending.finish)
	endWithServer(c, own)
	return nil
}

// endWithServer ends what a server uses when its time has come.
func endWithServer(c *caddy.Controller, own *server) {
	end := func() error {
		leave(func(s *server) bool { return s == own })
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
		leave(func(s *server) bool { return s != own })
		return nil
	})
	// On a reload this comes after the next instance has started. Leaving any
	// sooner would leave the old objects behind if the reload failed.
	c.OnShutdown(func() error {
		if !reloading.Load() {
			return nil
		}
		return end()
	})
	// While health is a lameduck, which sleeps before this, names and NAT follow
	// what changes: queries and connections still come.
	c.OnFinalShutdown(end)
}

// ownAddresses returns the addresses that hosts to listen on stand for: those
// that others can reach or, if there are none, loopback.
func ownAddresses(hosts []string) []netip.Addr {
	var reachable, loopback []netip.Addr
	add := func(ip netip.Addr) {
		switch ip = ip.Unmap().WithZone(""); {
		case ip.IsLoopback():
			loopback = append(loopback, ip)
		case !ip.IsLinkLocalUnicast():
			reachable = append(reachable, ip)
		}
	}
	for _, host := range hosts {
		if ip, err := netip.ParseAddr(host); err == nil && !ip.IsUnspecified() {
			add(ip)
			continue
		}
		// Without addresses of interfaces, only the name servers' go missing.
		addresses, _ := hostaddrs.List()
		for _, a := range addresses {
			add(a.Addr())
		}
	}
	if len(reachable) == 0 {
		return loopback
	}
	return reachable
}
