package kubernetes

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"slices"
	"sync"
	"time"

	"k8s.io/client-go/rest"
)

// touchLost is how long requests may have failed before what the API server has is not
// known well enough any more to refuse packets by it. A watch that breaks mostly is
// back within seconds.
const touchLost = 30 * time.Second

// followTouch tells the joiner whether the API server is in touch, until the context is
// done.
func (s *Source) followTouch(ctx context.Context, q *queue) {
	lost := false
	timer := time.NewTimer(touchLost)
	defer timer.Stop()
	for {
		if now := s.BrokenFor(touchLost); now != lost {
			lost = now
			q.push(change{apply: func(j *joiner) { j.outOfTouch = now }})
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

// maxOrigins is how many addresses of API servers are remembered, the last ones.
const maxOrigins = 16

// origins are the addresses that connections to the API server are made to: what names
// of it stand for, and those of a proxy before it.
type origins struct {
	changed chan struct{} // has an element when there are others

	mu  sync.Mutex
	all []netip.Addr
}

func newOrigins() *origins { return &origins{changed: make(chan struct{}, 1)} }

// watch has the addresses noted that a client connects to, before it does: what keeps
// it from connecting may be that they are not known.
func (o *origins) watch(config *rest.Config) {
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &traced{next, o} })
}

// traced makes requests whose connections are looked at.
type traced struct {
	next    http.RoundTripper
	origins *origins
}

// RoundTrip implements http.RoundTripper.
func (t *traced) RoundTrip(r *http.Request) (*http.Response, error) {
	trace := &httptrace.ClientTrace{ConnectStart: func(_, address string) { // each request changes its own
		if to, err := netip.ParseAddrPort(address); err == nil {
			t.origins.add(to.Addr().Unmap().WithZone(""))
		}
	}}
	return t.next.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
}

func (o *origins) add(a netip.Addr) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if slices.Contains(o.all, a) {
		return
	}
	o.all = append(slices.Clone(o.all), a)
	o.all = o.all[max(0, len(o.all)-maxOrigins):]
	select {
	case o.changed <- struct{}{}:
	default:
	}
}

// list is not to be changed.
func (o *origins) list() []netip.Addr {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all
}

// followOrigins tells the joiner of the addresses until the context is done.
func (s *Source) followOrigins(ctx context.Context, q *queue) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.origins.changed:
			all := s.origins.list()
			q.push(change{apply: func(j *joiner) { j.origins, j.dirty.origins = all, true }})
		}
	}
}
