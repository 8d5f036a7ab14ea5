// Package clusterip is the CoreDNS plugin that answers for Services: the names
// half of clusterip. It reads the directive, runs the source of objects, and
// serves what package zone compiles. The NAT half finds the same objects through
// Handler.Store.
//
// Start with ServeDNS in handler.go; what is answered is decided in zone.
package clusterip

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/cluster/manifest"
	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	clog "github.com/coredns/coredns/plugin/pkg/log"
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
	h := New(o, ownAddresses(config.ListenHosts))
	p := new(problems)
	source, err := manifest.New(o.Manifest, p.report)
	if err != nil {
		return plugin.Error(pluginName, err)
	}
	config.AddPlugin(func(next plugin.Handler) plugin.Handler {
		h.Next = next
		return h
	})
	r := &runner{source: source, store: h.store}
	c.OnStartup(r.start)
	// On a reload this comes after the next instance has started. Stopping any
	// sooner would leave the old objects behind if the reload failed.
	c.OnShutdown(func() error {
		r.stop()
		h.counted.remove()
		p.report(nil)
		return nil
	})
	return nil
}

// runner runs the source of a Store from start to stop.
type runner struct {
	source *manifest.Source
	store  *cluster.Store
	cancel context.CancelFunc
	done   chan struct{}
}

// start returns when the Store is synced, or after a while without.
func (r *runner) start() error {
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel, r.done = cancel, make(chan struct{})
	go func() {
		defer close(r.done)
		if err := r.source.Run(ctx, r.store); err != nil && !errors.Is(err, context.Canceled) {
			log.Errorf("manifests are not followed any more: %v", err)
		}
	}()
	timeout := time.NewTimer(syncTimeout)
	defer timeout.Stop()
	select {
	case <-r.store.Synced():
	case <-r.done:
	case <-timeout.C:
		log.Warningf("manifests are not read after %s: answering SERVFAIL until they are", syncTimeout)
	}
	return nil
}

func (r *runner) stop() {
	if r.cancel != nil {
		r.cancel()
		<-r.done
	}
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
	for _, severity := range p.present {
		manifestProblems.WithLabelValues(severity.String()).Dec()
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
