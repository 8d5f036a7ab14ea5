package healthcheck

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// Options are what Services needs to know besides the Store.
type Options struct {
	// Node is the name of this node.
	Node string
	// Plan says whose Services these are.
	Plan plan.Options
	// Addresses are those of this node, in one IP family, that answers are given at.
	// The unspecified address stands for all. The Node is nil if there is none.
	Addresses func(cluster.Family, *cluster.Node) ([]netip.Addr, error)
	// Healthy says whether NAT itself keeps up.
	Healthy func() bool
	// Log is told of errors.
	Log func(format string, args ...any)
}

// Services answers on the healthCheckNodePort of each Service that has one, by
// how many of its endpoints are on this node: load balancers send the traffic of
// such Services only to nodes that have any. Each IP family is answered for by
// itself, at the addresses of that family: traffic of one never goes to endpoints of
// the other. Several Services may ask for one port. It is listened on for the one that
// Grant says; how many endpoints there are comes straight from the Store.
type Services struct {
	options Options

	mu      sync.Mutex
	node    *cluster.Node // this one; nil if there is none
	counts  map[key]*service
	granted map[key]uint16 // the port that a Service has
	wake    chan struct{}  // has room for one: listeners are to be opened or closed
}

// key is a Service in one of its IP families.
type key struct {
	name   cluster.ServiceName
	family cluster.Family
}

// service is one Service that is answered for in one IP family.
type service struct {
	key
	port  uint16
	local atomic.Int64 // ready endpoints on this node
	at    []netip.Addr // where it is listened
	stop  func()       // ends listening; nil as long as nobody listens
}

// close ends listening.
func (s *service) close() {
	if s.stop != nil {
		s.stop()
		s.stop = nil
	}
}

// NewServices prepares answers. Run gives them.
func NewServices(o Options) *Services {
	return &Services{options: o, counts: make(map[key]*service), granted: make(map[key]uint16), wake: make(chan struct{}, 1)}
}

// look is how often it is looked whether this node has other addresses, and tried
// again to listen where that failed.
const look = 10 * time.Second

// Run follows the Store until the context ends, and then has closed everything.
func (s *Services) Run(ctx context.Context, store *cluster.Store) error {
	defer store.Subscribe(s.update)()
	var listeners sync.WaitGroup
	defer listeners.Wait()
	again := time.NewTicker(look)
	defer again.Stop()
	told := ""
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.wake:
		case <-again.C:
		}
		err := s.open(ctx, &listeners)
		if err != nil && err.Error() != told {
			s.options.Log("%v; trying again every %v", err, look)
		}
		if told = ""; err != nil {
			told = err.Error()
		}
	}
}

// update is the Store's subscriber.
func (s *Services) update(u cluster.Update) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range u.Nodes {
		if n.Name == s.options.Node {
			s.node = n.Node
			s.changed()
		}
	}
	for _, c := range u.Services {
		for _, family := range cluster.Families {
			s.set(key{c.Name, family}, plan.HealthCheckOf(c.Service, family, plan.Node{Name: s.options.Node}, s.options.Plan))
		}
	}
}

// Grant says which port a Service has in an IP family, 0 for none. It may be called from
// several goroutines, before Run too.
func (s *Services) Grant(family cluster.Family, name cluster.ServiceName, port uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := (key{name, family}); port == 0 {
		delete(s.granted, k)
	} else {
		s.granted[k] = port
	}
	s.changed()
}

// changed has Run look at what is to be listened on.
func (s *Services) changed() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// set takes over what one Service is asked for.
func (s *Services) set(k key, now plan.HealthCheck) {
	known := s.counts[k]
	if known != nil && known.port != now.NodePort {
		known.close()
		delete(s.counts, k)
		known = nil
	}
	if now.NodePort == 0 {
		return
	}
	if known == nil {
		known = &service{key: k, port: now.NodePort}
		s.counts[k] = known
		s.changed()
	}
	known.local.Store(int64(now.Local))
}

// open listens for each Service at this node's addresses, and nowhere else.
func (s *Services) open(ctx context.Context, listeners *sync.WaitGroup) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.counts) == 0 {
		return nil
	}
	var errs []error
	at := make(map[cluster.Family][]netip.Addr)
	for _, family := range cluster.Families {
		var err error
		if at[family], err = s.options.Addresses(family, s.node); err != nil {
			return fmt.Errorf("health checks of Services: %w", err)
		}
	}
	// First whatever is to be closed: another may get the port.
	for _, c := range s.counts {
		if s.granted[c.key] != c.port || !slices.Equal(c.at, at[c.family]) {
			c.close()
		}
	}
	for _, c := range s.counts {
		if c.stop != nil || s.granted[c.key] != c.port {
			continue
		}
		if err := s.listen(ctx, c, at[c.family], listeners); err != nil {
			errs = append(errs, fmt.Errorf("health checks of Service %s: %w: free the port, or change spec.healthCheckNodePort", c.name, err))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// listen answers for a Service at all of the addresses, or at none.
func (s *Services) listen(ctx context.Context, c *service, at []netip.Addr, listeners *sync.WaitGroup) error {
	network := "tcp4"
	if c.family == cluster.IPv6 {
		network = "tcp6" // which an IPv4 address never reaches
	}
	var open []net.Listener
	end := func() {
		for _, l := range open {
			l.Close() // at once: another Service may get the port
		}
	}
	for _, addr := range at {
		l, err := net.Listen(network, netip.AddrPortFrom(addr, c.port).String())
		if err != nil {
			end()
			return err
		}
		open = append(open, l)
	}
	own, cancel := context.WithCancel(ctx)
	c.at, c.stop = at, func() {
		cancel()
		end()
	}
	for _, l := range open {
		listeners.Go(func() {
			if err := serve(own, l, s.handler(c)); !errors.Is(err, context.Canceled) {
				s.options.Log("health checks of Service %s: %v", c.name, err)
			}
		})
	}
	return nil
}

func (s *Services) handler(c *service) http.Handler {
	type name struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		local, healthy := c.local.Load(), s.options.Healthy()
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
