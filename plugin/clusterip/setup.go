// Package clusterip is the CoreDNS plugin that answers for Services: the names
// half of clusterip. It reads the directive, runs the source of objects, and
// serves what package zone compiles. The NAT half finds the same objects through
// Handler.Store.
//
// Start with ServeDNS in handler.go; what is answered is decided in zone.
package clusterip

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/clusterip/clusterip/cluster/manifest"
	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/coredns/coredns/plugin/transfer"
)

const pluginName = "clusterip"

// syncTimeout is how long the server waits for the first sync before it starts
// to answer SERVFAIL.
const syncTimeout = 5 * time.Second

var log = clog.NewWithPlugin(pluginName)

func init() { plugin.Register(pluginName, setup) }

func setup(c *caddy.Controller) error {
	config := dnsserver.GetConfig(c)
	o, err := ParseOptions(c, config.Root)
	if err != nil {
		return plugin.Error(pluginName, err)
	}
	own := serverOf(c)
	h, f, err := serve(own, o, config.ListenHosts)
	if err != nil {
		return plugin.Error(pluginName, c.Err(err.Error()))
	}
	config.AddPlugin(func(next plugin.Handler) plugin.Handler {
		h.Next = next
		return h
	})
	config.AddPlugin(accompany(h))
	c.OnStartup(f.start)
	c.OnStartup(func() error {
		if t, ok := config.Handler("transfer").(*transfer.Transfer); ok {
			h.transfers(t)
		}
		return nil
	})
	// CoreDNS discards the server of a reload that failed without shutting it
	// down; the one that goes on ends what it left.
	c.OnRestartFailed(func() error {
		leave(func(s *server) bool { return s != own })
		return nil
	})
	// On a reload this comes after the next instance has started. Leaving any
	// sooner would leave the old objects behind if the reload failed.
	c.OnShutdown(func() error {
		leave(func(s *server) bool { return s == own })
		return nil
	})
	return nil
}

// problems logs what is wrong with the manifests, each problem once as long as
// it lasts, and counts it.
type problems struct {
	mu      sync.Mutex
	present map[string]manifest.Severity // by message
}

// report takes all present problems; nil takes this server block's share out of
// the gauge.
func (p *problems) report(all []manifest.Problem) {
	p.mu.Lock()
	defer p.mu.Unlock()
	present := make(map[string]manifest.Severity, len(all))
	for _, problem := range all {
		message := problem.Error()
		if _, known := present[message]; known {
			continue
		}
		present[message] = problem.Severity
		manifestProblems.WithLabelValues(problem.Severity.String()).Inc()
		if _, logged := p.present[message]; logged {
			continue
		}
		if problem.Severity == manifest.Notice {
			log.Info(message)
		} else {
			log.Error(message)
		}
	}
	for message, severity := range p.present {
		manifestProblems.WithLabelValues(severity.String()).Dec()
		if _, persists := present[message]; !persists && all != nil && severity == manifest.Error {
			log.Info("no longer so: " + message)
		}
	}
	p.present = present
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
		addresses, _ := net.InterfaceAddrs()
		for _, a := range addresses {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil {
				add(prefix.Addr())
			}
		}
	}
	if len(reachable) == 0 {
		return loopback
	}
	return reachable
}
