// Package healthcheck answers over HTTP whether this node should get traffic: to
// monitors and cloud load balancers for the node as a whole (/healthz, /livez),
// and on healthCheckNodePorts for one Service, as kube-proxy answers.
//
// It reads what the NAT controllers and the Store know and changes nothing.
package healthcheck

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Status is how the writer of one IP family keeps up.
type Status struct {
	LastUpdated time.Time `json:"lastUpdated"` // of the kernel's rules
	// Healthy is false when changes have been waiting for too long.
	Healthy bool `json:"healthy"`
}

// Proxy answers for the node as a whole.
type Proxy struct {
	// Status is that of each IP family. It is called for each request.
	Status func() map[cluster.Family]Status
	// Eligible says that load balancers may send to this node: it is known, and not
	// about to go.
	Eligible func() bool
}

// Healthy reports whether all families keep up.
func (p *Proxy) Healthy() bool {
	for _, s := range p.Status() {
		if !s.Healthy {
			return false
		}
	}
	return true
}

var answered = promauto.NewCounterVec(prometheus.CounterOpts{
	Namespace: "kernelnat", Name: "proxy_health_total",
	Help: "Answers to /healthz and /livez, by path and HTTP status.",
}, []string{"path", "code"})

// report is the body of an answer, in kube-proxy's words.
type report struct {
	LastUpdated  time.Time         `json:"lastUpdated"`
	CurrentTime  time.Time         `json:"currentTime"`
	NodeEligible *bool             `json:"nodeEligible,omitempty"`
	Healthy      bool              `json:"healthy"`
	Status       map[string]Status `json:"status"`
}

func (p *Proxy) report(now time.Time) report {
	r := report{CurrentTime: now, Healthy: true, Status: make(map[string]Status)}
	for family, s := range p.Status() {
		r.Status[family.String()] = s
		r.Healthy = r.Healthy && s.Healthy
		if s.LastUpdated.After(r.LastUpdated) {
			r.LastUpdated = s.LastUpdated
		}
	}
	return r
}

// livez is about the program alone: whoever restarts it on a failure should not
// do so because the node is leaving.
func (p *Proxy) livez(w http.ResponseWriter, _ *http.Request) {
	r := p.report(time.Now())
	answer(w, "/livez", r, r.Healthy)
}

func (p *Proxy) healthz(w http.ResponseWriter, _ *http.Request) {
	r := p.report(time.Now())
	eligible := p.Eligible()
	r.NodeEligible = &eligible
	answer(w, "/healthz", r, r.Healthy && eligible)
}

func answer(w http.ResponseWriter, path string, r report, well bool) {
	code := http.StatusServiceUnavailable
	if well {
		// Of a healthy proxy kube-proxy says that it was updated just now, and
		// monitors have come to rely on it.
		code, r.LastUpdated = http.StatusOK, r.CurrentTime
	}
	answered.WithLabelValues(path, strconv.Itoa(code)).Inc()
	writeJSON(w, code, r)
}

func writeJSON(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	// An error here is the client's, who has gone.
	_ = json.NewEncoder(w).Encode(body)
}

// Serve answers on an address until the context ends.
func (p *Proxy) Serve(ctx context.Context, address string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", p.healthz)
	mux.HandleFunc("GET /livez", p.livez)
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("serve /healthz and /livez: %w: free the port, or choose another with the option healthz", err)
	}
	return serve(ctx, l, mux)
}

// requestTimeout bounds a request from its first byte to the last of the answer.
const requestTimeout = 10 * time.Second

func serve(ctx context.Context, l net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: handler, ReadTimeout: requestTimeout, WriteTimeout: requestTimeout, MaxHeaderBytes: 16 << 10}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(l); ctx.Err() == nil {
		return fmt.Errorf("serve health checks on %s: %w", l.Addr(), err)
	}
	return ctx.Err()
}
