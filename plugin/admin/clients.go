package admin

import (
	"context"
	"net"
	"net/http"
	"sync"
)

// clients are the connections of a server. Those whose question has not come whole would hold a
// reload until it gives up.
type clients struct {
	mu       sync.Mutex
	answered map[net.Conn]bool // whether an answer is on its way
}

type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// state is for http.Server.
func (c *clients) state(conn net.Conn, is http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch is {
	case http.StateNew, http.StateIdle:
		c.answered[conn] = false
	case http.StateClosed, http.StateHijacked:
		delete(c.answered, conn)
	}
}

// note is a handler that notes which connections have an answer on its way.
func (c *clients) note(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if conn, ok := r.Context().Value(connKey{}).(net.Conn); ok {
			c.mu.Lock()
			c.answered[conn] = true
			c.mu.Unlock()
		}
		h.ServeHTTP(w, r)
	})
}

// endWaiting closes the connections that have no answer on its way.
func (c *clients) endWaiting() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn, answered := range c.answered {
		if !answered {
			conn.Close()
		}
	}
}
