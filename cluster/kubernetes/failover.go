package kubernetes

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"

	"k8s.io/client-go/rest"
)

// failover sends requests to one of several API servers of a cluster, and to the next
// when there is no reply, or it is out of service. One is as good as another, so it
// stays there.
type failover struct {
	next    http.RoundTripper
	servers []*url.URL
	at      *atomic.Uint32 // counts on; its remainder is the server
}

// failOver has requests that are made for the first of the servers go to any of them.
// It is an error if one cannot be the URL of an API server.
func failOver(config *rest.Config, servers []string) error {
	var all []*url.URL
	for _, server := range servers {
		one := rest.CopyConfig(config)
		one.Host = server
		base, _, err := rest.DefaultServerUrlFor(one)
		if err != nil {
			return fmt.Errorf("API server %s: %w", server, err)
		}
		base.Path = strings.TrimSuffix(base.Path, "/")
		all = append(all, base)
	}
	at := new(atomic.Uint32) // shared by all clients
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &failover{next, all, at} })
	return nil
}

// RoundTrip implements http.RoundTripper. Each server is tried once. A request with a
// body is not repeated: it may have been carried out.
func (f *failover) RoundTrip(r *http.Request) (*http.Response, error) {
	first := f.at.Load()
	for at := first; ; at++ {
		response, err := f.next.RoundTrip(f.to(int(at)%len(f.servers), r))
		if err == nil && !outOfService(response) || r.Context().Err() != nil {
			return response, err
		}
		f.at.CompareAndSwap(at, at+1) // unless another request has found out before
		if int(at-first) == len(f.servers)-1 || r.Body != nil && r.Body != http.NoBody {
			return response, err
		}
		if err == nil {
			response.Body.Close()
		}
	}
}

// outOfService knows the replies of an API server that starts or ends, and of a load
// balancer without one.
func outOfService(r *http.Response) bool {
	return r.StatusCode == http.StatusBadGateway || r.StatusCode == http.StatusServiceUnavailable
}

// to returns the request for a server.
func (f *failover) to(server int, r *http.Request) *http.Request {
	out := r.Clone(r.Context())
	out.Host = ""
	out.URL.Scheme, out.URL.Host = f.servers[server].Scheme, f.servers[server].Host
	out.URL.Path = f.servers[server].Path + strings.TrimPrefix(out.URL.Path, f.servers[0].Path)
	return out
}
