package kernelnat

import (
	"context"
	"net/netip"
)

// abandoned are endpoints whose server is about to end.
type abandoned struct {
	endpoints []netip.AddrPort
	done      chan struct{} // closed when flows to them are forgotten
}

// Abandon has UDP flows forgotten, busy ones too, to those of the endpoints that terminate
// and get no new flows. It is for endpoints in this process, which is about to end. It
// returns when that is done, or fails when the context ends.
func (c *Controller) Abandon(ctx context.Context, endpoints []netip.AddrPort) error {
	a := &abandoned{endpoints, make(chan struct{})}
	c.queue.abandon(a)
	select {
	case <-a.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (q *queue) abandon(a *abandoned) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.abandoned = append(q.abandoned, a)
	q.signal()
}

// takeAbandoned returns what is to be given up.
func (q *queue) takeAbandoned() []*abandoned {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := q.abandoned
	q.abandoned = nil
	return all
}
