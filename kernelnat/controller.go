package kernelnat

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/conntrack"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// Retry delays after a failed sync: doubled from the first to the last.
const (
	firstRetry = 500 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// Options are the settings of a Controller.
type Options struct {
	Plan plan.Options
	// NodeName is the name of the Node this runs on.
	NodeName string
	// MinSyncPeriod is the least time between two syncs; changes that come
	// sooner are written together. 0 writes at once.
	MinSyncPeriod time.Duration
	// DryRun plans and reports but writes nothing.
	DryRun bool
}

// Logger takes the one line that each sync writes.
type Logger interface {
	Infof(format string, args ...any)
	Errorf(format string, args ...any)
}

// Controller keeps a Backend in step with a Store.
type Controller struct {
	options Options
	backend Backend
	log     Logger

	mu      sync.Mutex
	pending map[cluster.ServiceName]*cluster.Service // changed and not yet planned
	wake    chan struct{}                            // has room for one: pending is not empty

	// Used by Run alone.
	plans map[cluster.ServiceName]plan.Service // what the kernel is to hold
	dirty bool                                 // the kernel's state is unknown
	stale conntrack.Stale                      // UDP flows still to be forgotten
}

// New returns a Controller that writes through backend. It starts nothing.
func New(options Options, backend Backend, log Logger) *Controller {
	return &Controller{
		options: options,
		backend: backend,
		log:     log,
		pending: make(map[cluster.ServiceName]*cluster.Service),
		wake:    make(chan struct{}, 1),
		plans:   make(map[cluster.ServiceName]plan.Service),
		dirty:   true,
	}
}

// Run follows the Store until the context ends. It writes nothing before the
// Store has synced. A sync that fails is logged, and the whole state is written
// again, later and later, until it succeeds; changes go on being taken up. The
// rules stay when Run ends. A Controller runs once.
func (c *Controller) Run(ctx context.Context, store *cluster.Store) error {
	select {
	case <-store.Synced():
	case <-ctx.Done():
		return ctx.Err()
	}
	defer store.Subscribe(c.enqueue)()
	retry := firstRetry
	for {
		err := c.sync(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			c.log.Errorf("%v; trying again in %v, or with the next change", err, retry)
			err = c.waitToRetry(ctx, retry)
			retry = min(2*retry, lastRetry)
		default:
			err = c.wait(ctx)
			retry = firstRetry
		}
		if err != nil {
			return err
		}
	}
}

// enqueue is the Store's subscriber.
func (c *Controller) enqueue(u cluster.Update) {
	c.mu.Lock()
	for _, s := range u.Services {
		c.pending[s.Name] = s.Service
	}
	c.mu.Unlock()
	if len(u.Services) == 0 {
		return
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// wait returns when something has changed, but not before MinSyncPeriod is over.
func (c *Controller) wait(ctx context.Context) error {
	if c.options.MinSyncPeriod > 0 {
		if err := sleep(ctx, c.options.MinSyncPeriod, nil); err != nil {
			return err
		}
	}
	select {
	case <-c.wake:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// waitToRetry returns after the retry delay or, once the least delay is over, as
// soon as something has changed: what failed may concern another family or the
// flow table, and must not hold up what can be written.
func (c *Controller) waitToRetry(ctx context.Context, retry time.Duration) error {
	least := max(firstRetry, c.options.MinSyncPeriod)
	if err := sleep(ctx, least, nil); err != nil || retry <= least {
		return err
	}
	return sleep(ctx, retry-least, c.wake)
}

// sleep returns after the delay, or earlier if wake has something; a nil wake
// never has.
func sleep(ctx context.Context, delay time.Duration, wake <-chan struct{}) error {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// sync takes the pending changes and writes them, or everything if the kernel's
// state is unknown. Then it has stale flows forgotten: before, a flow would be
// pinned anew to where it was.
func (c *Controller) sync(ctx context.Context) error {
	start := time.Now()
	changes := c.takeChanges()
	full := c.dirty
	if full || len(changes) > 0 {
		c.dirty = true
		err := c.write(ctx, full, changes)
		observeSync(full, time.Since(start), err)
		if err != nil {
			return fmt.Errorf("program NAT: %w", err)
		}
		c.dirty = false
		servicesPlanned.Set(float64(len(c.plans)))
		c.report(full, len(changes), time.Since(start))
	}
	if c.stale.Empty() {
		return nil
	}
	deleted, err := c.stale.Delete()
	staleFlowsDeleted.Add(float64(deleted))
	if err != nil {
		return err
	}
	c.stale = conntrack.Stale{}
	return nil
}

// takeChanges plans the pending Services and returns those whose plan changed.
func (c *Controller) takeChanges() []Change {
	c.mu.Lock()
	pending := c.pending
	c.pending = make(map[cluster.ServiceName]*cluster.Service)
	c.mu.Unlock()

	var changes []Change
	for _, name := range slices.SortedFunc(maps.Keys(pending), cluster.ServiceName.Compare) {
		next := plan.Service{Name: name}
		if service := pending[name]; service != nil {
			next = plan.Compute(service, c.options.NodeName, c.options.Plan)
		}
		old, known := c.plans[name]
		if !known {
			old = plan.Service{Name: name}
		}
		if next.Equal(old) {
			continue
		}
		changes = append(changes, Change{Old: old, New: next})
		if len(next.Ports) == 0 {
			delete(c.plans, name)
		} else {
			c.plans[name] = next
		}
	}
	return changes
}

func (c *Controller) write(ctx context.Context, full bool, changes []Change) error {
	if c.options.DryRun {
		return nil
	}
	c.stale.Changed(changes)
	if !full {
		return c.backend.Apply(ctx, changes)
	}
	services := slices.SortedFunc(maps.Values(c.plans), func(a, b plan.Service) int { return a.Name.Compare(b.Name) })
	for _, s := range services {
		c.stale.All(s)
	}
	return c.backend.Sync(ctx, services)
}

func (c *Controller) report(full bool, changed int, took time.Duration) {
	ports := 0
	for _, s := range c.plans {
		ports += len(s.Ports)
	}
	switch {
	case c.options.DryRun:
		c.log.Infof("dry run, nothing written to the kernel: Services %d, ports %d", len(c.plans), ports)
	case full:
		c.log.Infof("wrote all rules in %v: Services %d, ports %d", took.Round(time.Microsecond), len(c.plans), ports)
	default:
		c.log.Infof("wrote changed rules in %v: changed Services %d of %d", took.Round(time.Microsecond), changed, len(c.plans))
	}
}
