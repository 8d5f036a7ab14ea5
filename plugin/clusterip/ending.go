package clusterip

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"
)

// How long no query comes before the server closes its sockets, and the longest time
// it waits for that.
const (
	quiet   = 500 * time.Millisecond
	longest = 5 * time.Second
)

// ending lets a server block end between two queries: a socket that CoreDNS closes may
// have some in it.
type ending struct {
	began   time.Time   // when the process was told to end
	ending  atomic.Bool // queries are counted
	queries atomic.Uint64
}

// begin is for caddy's OnShutdown, which comes before a lameduck.
func (e *ending) begin() error {
	e.began = time.Now()
	e.ending.Store(true)
	return nil
}

// finish is for caddy's OnFinalShutdown, after the lameduck. The server goes on
// answering until it returns: as long as queries come, but no longer than the lameduck
// was. So without one it is no delay.
func (e *ending) finish() error {
	now := time.Now()
	deadline := now.Add(min(now.Sub(e.began), longest))
	for last, since := e.queries.Load(), now; now.Before(deadline) && now.Sub(since) < quiet; now = time.Now() {
		time.Sleep(quiet / 20)
		if n := e.queries.Load(); n != last {
			last, since = n, time.Now()
		}
	}
	return nil
}

// see puts a handler in front of all others of the server block.
func (e *ending) see(next plugin.Handler) plugin.Handler { return &seen{e, next} }

// seen passes all queries on.
type seen struct {
	ending *ending
	plugin.Handler
}

// Name implements plugin.Handler.
func (s *seen) Name() string { return pluginName + " queries" }

// ServeDNS implements plugin.Handler.
func (s *seen) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	s.ending.count()
	return s.Handler.ServeDNS(ctx, w, r)
}

// count notes a query.
func (e *ending) count() {
	if e.ending.Load() {
		e.queries.Add(1)
	}
}
