package kernelnat

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
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

// wholeAudit is how often everything is looked at even if the backend says that
// nobody has touched it.
const wholeAudit = time.Hour

// Options are the settings of a Controller.
type Options struct {
	Plan plan.Options
	// Family is the IP family that is written. Each has a Controller of its
	// own, so that the failure of one holds up nothing of the other.
	Family cluster.Family
	// NodeName is the name of the Node this runs on.
	NodeName string
	// MinSyncPeriod is the least time between two syncs; changes that come
	// sooner are written together. 0 writes at once.
	MinSyncPeriod time.Duration
	// SyncPeriod is how often it is looked at whether somebody else has changed
	// the rules, to repair them; 0 never.
	SyncPeriod time.Duration
	// KeepUnknown has packets pass to what is in the ranges of ClusterIPs and no
	// frontend; otherwise they are refused, where nobody else is there.
	KeepUnknown bool
	// DryRun plans and reports but writes nothing.
	DryRun bool
	// Refused, if not nil, is told what the log is told of what a Service asks for
	// and does not get. It must not block.
	Refused func(service cluster.ServiceName, why string)
	// Overlaps, if not nil, is told what the log is told of ranges of ClusterIPs that
	// hold what is somebody's. It must not block.
	Overlaps func(plan.Overlap)
}

// Logger takes the one line that each sync writes.
type Logger interface {
	Infof(format string, args ...any)
	Errorf(format string, args ...any)
}

// Controller keeps a Backend in step with a Store, in one IP family.
type Controller struct {
	options Options
	backend Backend
	log     Logger

	queue *queue

	// Used by Run alone.
	claims    *claims
	ranges    *ranges
	look      bool                               // it is time to look at this node's routes
	unswept   bool                               // flows of Services that are gone may be left
	unplanned map[cluster.ServiceName]netip.Addr // ClusterIPs of Services that need no rules of ours
	short     map[cluster.ServiceName]shortfall
	plans     map[cluster.ServiceName]plan.Service // what the kernel is to hold
	ports     int                                  // in plans
	dirty     bool                                 // the kernel's state is unknown
	leftover  bool                                 // it may hold Services that are not known
	audit     bool                                 // it is time to look for what others changed
	audited   time.Time                            // when everything was last looked at
	nextAudit time.Time                            // when it is asked next whether somebody has touched it
	stale     conntrack.Stale                      // UDP flows still to be forgotten
	draining  conntrack.Draining                   // those to be forgotten when they are idle
	works     works
	untold    changesTold
}

// New returns a Controller that writes through backend. It starts nothing.
func New(options Options, backend Backend, log Logger) *Controller {
	return &Controller{
		ranges:    newRanges(&options),
		unplanned: make(map[cluster.ServiceName]netip.Addr),
		options:   options,
		backend:   backend,
		log:       log,
		queue:     newQueue(options.NodeName),
		claims:    newClaims(),
		short:     make(map[cluster.ServiceName]shortfall),
		plans:     make(map[cluster.ServiceName]plan.Service),
		dirty:     true,
		unswept:   true,
		works:     newWorks(),
	}
}

// Run follows the Store until the context ends. It writes nothing before the Store has
// synced, but see awaitListing. A sync that fails is logged, and the whole state is
// written again, later and later, until it succeeds; changes go on being taken up. The
// rules stay when Run ends. A Controller runs once.
func (c *Controller) Run(ctx context.Context, store *cluster.Store) error {
	if err := c.awaitListing(ctx, store); err != nil {
		return err
	}
	defer store.Subscribe(c.enqueue)()
	showCounters(c.options.Family)
	retry := firstRetry
	for {
		abandoned := c.queue.takeAbandoned()
		for _, a := range abandoned {
			c.draining.Abandon(a.endpoints)
		}
		err := c.sync(ctx, store)
		for _, a := range abandoned {
			close(a.done)
		}
		if err == nil {
			err = c.work(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			c.log.Errorf("%s: %v; trying again in %v, or with the next change", c.options.Family, err, retry)
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

// enqueue is a cluster.Subscriber.
func (c *Controller) enqueue(u cluster.Update) {
	if c.queue.add(u) {
		lastQueued.WithLabelValues(c.options.Family.String()).SetToCurrentTime()
	}
}

// settled notes that the kernel holds what was taken up.
func (c *Controller) settled() {
	for _, t := range c.queue.settled() {
		programming.WithLabelValues(c.options.Family.String()).Observe(time.Since(t).Seconds())
	}
}

// wait returns when something has changed, but not before MinSyncPeriod is over,
// or when it is time to look for what others changed.
func (c *Controller) wait(ctx context.Context) error {
	if c.options.MinSyncPeriod > 0 {
		if err := sleep(ctx, c.options.MinSyncPeriod, nil); err != nil {
			return err
		}
	}
	if c.audit {
		return nil
	}
	limit := c.nextDeadline()
	if c.options.SyncPeriod == 0 {
		return sleep(ctx, limit, c.queue.wake)
	}
	if c.nextAudit.IsZero() {
		c.nextAudit = time.Now().Add(c.options.SyncPeriod)
	}
	// However many changes there are, they put no audit off.
	if left := time.Until(c.nextAudit); left > 0 {
		if err := sleep(ctx, min(left, limit), c.queue.wake); err != nil || time.Now().Before(c.nextAudit) {
			return err
		}
	}
	c.nextAudit = time.Now().Add(c.options.SyncPeriod)
	c.look = true
	c.audit = time.Since(c.audited) >= wholeAudit || !c.backend.Untouched()
	return nil
}

const forever = 1<<63 - 1 // nanoseconds: 292 years

// nextDeadline is how long there is nothing to do but changes and audits.
func (c *Controller) nextDeadline() time.Duration {
	left := time.Duration(forever)
	if at, ok := c.works.next(); ok {
		left = max(0, time.Until(at))
	}
	if at, ok := c.untold.next(); ok {
		left = min(left, max(0, time.Until(at)))
	}
	if at, ok := c.draining.Next(); ok {
		left = min(left, max(0, time.Until(at)))
	}
	return left
}

// waitToRetry returns after the retry delay or, once the least delay is over, as
// soon as something has changed: what failed may concern another family or the
// flow table, and must not hold up what can be written.
func (c *Controller) waitToRetry(ctx context.Context, retry time.Duration) error {
	least := max(firstRetry, c.options.MinSyncPeriod)
	if err := sleep(ctx, least, nil); err != nil || retry <= least {
		return err
	}
	return sleep(ctx, retry-least, c.queue.wake)
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
func (c *Controller) sync(ctx context.Context, store *cluster.Store) error {
	start := time.Now()
	c.tellChanges(start)
	changes, state, resync := c.takeChanges(store)
	full := c.dirty || c.audit || resync || c.leftover && !state.Incomplete
	c.sweep(state)
	if !full && len(changes) == 0 && !c.refusesOther(state) {
		c.settled()
		return c.forget()
	}
	repair := c.audit && !c.works.tidying && !c.dirty && !resync && len(changes) == 0 && !c.refusesOther(state)
	if full {
		state.Known = known(store)
	}
	written, err := c.write(ctx, full, changes, state)
	observeSync(c.options.Family, full, time.Since(start), err)
	if errors.Is(err, ErrPartial) {
		c.log.Errorf("%s: program NAT: %v", c.options.Family, err)
		err = nil // those that are left have a Work, which is set aside
	}
	if err != nil {
		// Most of it may have been written, so flows are forgotten all the
		// same; but then again, when everything is.
		stale := c.stale
		err = errors.Join(fmt.Errorf("program NAT: %w", err), c.forget())
		c.dirty, c.unswept, c.stale = true, true, stale
		return err
	}
	if full {
		c.dirty, c.audit, c.leftover, c.audited = false, false, state.Incomplete, start
	}
	c.settled()
	c.ranges.written = state.Ranges
	if repair {
		c.reportRepair(written)
		return c.forget()
	}
	servicesPlanned.WithLabelValues(c.options.Family.String()).Set(float64(len(c.plans)))
	if !full && len(changes) == 0 {
		return nil // the ranges alone, which tell of themselves
	}
	c.report(full, len(changes), time.Since(start))
	return c.forget()
}

// noteFlows notes what flows are to be looked at when changes are written.
func (c *Controller) noteFlows(changes []Change) {
	c.stale.Changed(changes)
	c.draining.Changed(changes)
}

// forget deletes the flows that are stale, and looks after those to draining endpoints
// when it is time to.
func (c *Controller) forget() error {
	if at, ok := c.draining.Next(); c.stale.Empty() && (!ok || time.Now().Before(at)) {
		return nil
	}
	deleted, err := conntrack.Forget(c.options.Family, &c.stale, &c.draining)
	staleFlowsDeleted.WithLabelValues(c.options.Family.String()).Add(float64(deleted))
	if err == nil {
		c.stale = conntrack.Stale{}
	}
	return err
}

// takeChanges plans the Services that have changed and returns those whose plan
// changed, and the state they lead to, but for its Services. resync says that the
// rest of it is another than before.
func (c *Controller) takeChanges(store *cluster.Store) (changes []Change, state State, resync bool) {
	t := c.queue.take(store)
	reclaim := c.followRanges(store, &t)
	if c.dirty || c.audit {
		if shared := broadcasts(); !slices.Equal(shared, c.claims.shared) {
			c.claims.shared, reclaim = shared, true
		}
	}
	wanted := make(map[cluster.ServiceName]plan.Service, len(t.services))
	if reclaim {
		for name, claim := range c.claims.wanted {
			wanted[name] = claim.plan
		}
	}
	for _, name := range slices.SortedFunc(maps.Keys(t.services), cluster.ServiceName.Compare) {
		service := t.services[name]
		p, created := plan.Service{Name: name}, time.Time{}
		if service != nil {
			p, created = plan.Compute(service, c.options.Family, t.state.Node, c.options.Plan), service.Created
		}
		wanted[name] = p
		for _, other := range append(c.claims.set(name, created, p), c.own(service, p)...) {
			if _, changed := t.services[other]; !changed {
				wanted[other] = c.claims.wanted[other].plan
			}
		}
	}
	for _, name := range slices.SortedFunc(maps.Keys(wanted), cluster.ServiceName.Compare) {
		next, refused := c.claims.grant(wanted[name])
		c.reportShortfall(name, shortfallOf(next, refused))
		old, known := c.plans[name]
		if !known {
			old = plan.Service{Name: name}
		}
		if next.Equal(old) {
			continue
		}
		changes = append(changes, Change{Old: old, New: next})
		c.ports += len(next.Ports) - len(old.Ports)
		if len(next.Ports) == 0 {
			delete(c.plans, name)
		} else {
			c.plans[name] = next
		}
	}
	t.state.Ranges = c.ranges.refused(&c.options)
	return changes, t.state, t.resync
}

// known returns the names of all Services that are known, whether they need rules or
// not.
func known(store *cluster.Store) map[cluster.ServiceName]bool {
	known := make(map[cluster.ServiceName]bool)
	for _, u := range store.Snapshot().Services {
		known[u.Name] = !u.Service.Remembered
	}
	return known
}

func (c *Controller) write(ctx context.Context, full bool, changes []Change, state State) (written []string, err error) {
	if c.options.DryRun {
		return nil, nil
	}
	if !full {
		if len(changes) > 0 {
			err = c.apply(ctx, changes)
		}
		if err == nil && c.refusesOther(state) {
			err = c.backend.Refuse(ctx, state.Ranges)
		}
		return nil, err
	}
	c.noteFlows(changes)
	state.Services = c.planned()
	c.stale.All(state.Services, nil)
	return c.syncAll(ctx, state)
}
