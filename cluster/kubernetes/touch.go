package kubernetes

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"time"
)

// touchLost is how long requests may have failed before what the API server has is not
// known well enough any more to refuse packets by it. A watch that breaks mostly is
// back within seconds.
const touchLost = 30 * time.Second

// followTouch tells the joiner whether the API server is in touch, until the context is
// done.
func (s *Source) followTouch(ctx context.Context) {
	lost := false
	timer := time.NewTimer(touchLost)
	defer timer.Stop()
	for {
		if now := s.BrokenFor(touchLost); now != lost {
			lost = now
			s.queue.push(change{apply: func(j *joiner) { j.outOfTouch = now }})
		}
		if since := s.watches.brokenSince.Load(); since != nil && !lost {
			timer.Reset(time.Until(since.Add(touchLost)))
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.watches.changed:
		}
	}
}

// traced makes requests and tells the addresses that they connect to, before they do:
// what keeps them from connecting may be that those are not known.
type traced struct {
	next       http.RoundTripper
	connecting func(netip.Addr)
}

// RoundTrip implements http.RoundTripper.
func (t *traced) RoundTrip(r *http.Request) (*http.Response, error) {
	trace := &httptrace.ClientTrace{ConnectStart: func(_, address string) { // each request changes its own
		if to, err := netip.ParseAddrPort(address); err == nil {
			t.connecting(to.Addr().Unmap().WithZone(""))
		}
	}}
	return t.next.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
}
