package healthcheck

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/clusterip/clusterip/cluster"
)

// Services answers on the healthCheckNodePort of each Service that has one, by
// how many of its endpoints are on this node: load balancers send the traffic of
// such Services only to nodes that have any.
type Services struct {
	node    string
	proxy   cluster.Proxy // whose Services these are
	healthy func() bool
	log     func(format string, args ...any)

	mu     sync.Mutex
	counts map[cluster.ServiceName]*service
	wake   chan struct{} // has room for one: listeners are to be opened or closed
}

// service is one Service that is answered for.
type service struct {
	name  cluster.ServiceName
	port  uint16
	local atomic.Int64 // ready endpoints on this node
	stop  func()       // ends listening; nil as long as nobody listens
}

// NewServices prepares answers for the node of that name, and the Services of that
// proxy. healthy says whether
// NAT itself keeps up. Errors are told to log.
func NewServices(node string, proxy cluster.Proxy, healthy func() bool, log func(format string, args ...any)) *Services {
	return &Services{node: node, proxy: proxy, healthy: healthy, log: log,
		counts: make(map[cluster.ServiceName]*service), wake: make(chan struct{}, 1)}
}

// retryListen is how long after a failure it is tried again to listen.
const retryListen = 10 * time.Second

// Run follows the Store until the context ends, and then has closed everything.
func (s *Services) Run(ctx context.Context, store *cluster.Store) error {
	defer store.Subscribe(s.update)()
	var listeners sync.WaitGroup
	defer listeners.Wait()
	retry := time.NewTimer(retryListen)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.wake:
		case <-retry.C:
		}
		if err := s.open(ctx, &listeners); err != nil {
			s.log("%v; trying again in %v", err, retryListen)
			retry.Reset(retryListen)
		}
	}
}

// update is the Store's subscriber.
func (s *Services) update(u cluster.Update) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range u.Services {
		var port uint16
		if c.Service != nil && c.Service.Proxy == s.proxy {
			port = c.Service.External.HealthCheckNodePort
		}
		known := s.counts[c.Name]
		if known != nil && known.port != port {
			if known.stop != nil {
				known.stop()
			}
			delete(s.counts, c.Name)
			known = nil
		}
		if port == 0 {
			continue
		}
		if known == nil {
			known = &service{name: c.Name, port: port}
			s.counts[c.Name] = known
			select {
			case s.wake <- struct{}{}:
			default:
			}
		}
		known.local.Store(localReady(c.Service, s.node))
	}
}

// localReady counts the ready endpoints on a node, in the Service's first family:
// a pod with two addresses is one.
func localReady(s *cluster.Service, node string) (n int64) {
	if len(s.ClusterIPs) == 0 {
		return 0
	}
	family := cluster.FamilyOf(s.ClusterIPs[0])
	last := ""
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		// Endpoints are sorted by address; one with several port lists is one.
		if e.Ready && e.NodeName() == node && cluster.FamilyOf(e.Addr) == family && e.Addr.String() != last {
			last = e.Addr.String()
			n++
		}
	}
	return n
}

// open listens for the Services that nobody listens for yet.
func (s *Services) open(ctx context.Context, listeners *sync.WaitGroup) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, c := range s.counts {
		if c.stop != nil {
			continue
		}
		l, err := net.Listen("tcp", net.JoinHostPort("", strconv.Itoa(int(c.port))))
		if err != nil {
			errs = append(errs, fmt.Errorf("health checks of Service %s: %w: free the port, or change spec.healthCheckNodePort", c.name, err))
			continue
		}
		own, cancel := context.WithCancel(ctx)
		c.stop = func() {
			cancel()
			l.Close() // at once: another Service may get the port
		}
		listeners.Go(func() {
			if err := serve(own, l, s.handler(c)); !errors.Is(err, context.Canceled) {
				s.log("health checks of Service %s: %v", c.name, err)
			}
		})
	}
	return errors.Join(errs...)
}

func (s *Services) handler(c *service) http.Handler {
	type name struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		local, healthy := c.local.Load(), s.healthy()
		code := http.StatusServiceUnavailable
		if local > 0 && healthy {
			code = http.StatusOK
		}
		w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.FormatInt(local, 10))
		writeJSON(w, code, struct {
			Service             name  `json:"service"`
			LocalEndpoints      int64 `json:"localEndpoints"`
			ServiceProxyHealthy bool  `json:"serviceProxyHealthy"`
		}{name{c.name.Namespace, c.name.Name}, local, healthy})
	})
}
