package clusterip

import (
	"sync/atomic"

	"github.com/coredns/caddy"
)

// listening says that the process has opened its sockets. The plugins start before
// that, ready among them: who is told too soon that a server is ready asks a port that
// is still closed. A reload keeps the sockets.
var listening atomic.Bool

func init() {
	caddy.RegisterEventHook(pluginName, func(event caddy.EventName, _ any) error {
		if event == caddy.InstanceStartupEvent {
			listening.Store(true)
		}
		return nil
	})
}

// Ready implements ready.Readiness: true once the first sync is done and the server
// listens, and until what is known has been out of date for as long as stale_after says.
func (h *Handler) Ready() bool { return h.ready() }
