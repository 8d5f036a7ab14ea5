package clusterip

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/cluster/manifest"
	"github.com/coredns/caddy"
)

// server stands for one instance of the server, of which there are two during a
// reload. It has a size, so that no two share an address.
type server struct{ _ byte }

func serverOf(c *caddy.Controller) *server {
	type key struct{}
	if s, ok := c.Get(key{}).(*server); ok {
		return s
	}
	s := &server{}
	c.Set(key{}, s)
	return s
}

// running are the sources of this process that run. CoreDNS discards the server
// of a reload that failed late without shutting it down; the server that goes on
// ends the sources it left.
var running struct {
	sync.Mutex
	sources map[*runner]struct{}
}

// stopSources ends the sources of some servers.
func stopSources(of func(*server) bool) {
	running.Lock()
	defer running.Unlock()
	for r := range running.sources {
		if of(r.server) {
			r.cancel()
			<-r.done
			r.release()
			delete(running.sources, r)
		}
	}
}

// runner runs the source of a Store.
type runner struct {
	source  *manifest.Source
	store   *cluster.Store
	server  *server
	release func() // called when the source has ended
	cancel  context.CancelFunc
	done    chan struct{}
}

// start returns when the Store is synced, or after a while without.
func (r *runner) start() error {
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel, r.done = cancel, make(chan struct{})
	running.Lock()
	if running.sources == nil {
		running.sources = make(map[*runner]struct{})
	}
	running.sources[r] = struct{}{}
	running.Unlock()
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
