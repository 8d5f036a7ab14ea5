package kernelnat

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/clusterip/clusterip/status"
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
	// SyncPeriod is how often the rules are checked for changes by others, which
	// are repaired; 0 never.
	SyncPeriod time.Duration
	// KeepUnknown lets packets pass to addresses in the ranges of ClusterIPs that
	// are no frontend. Otherwise those that are nobody else's are refused.
	KeepUnknown bool
	// DryRun plans and reports but writes nothing.
	DryRun bool
	// Refused, if not nil, gets what is new of what a Service asks for and does
	// not get, of which the log has less. It must not block.
	Refused func(service cluster.ServiceName, why string)
	// HealthChecks, if not nil, gets which healthCheckNodePort a Service has in this family,
	// 0 for none, whenever that changes. It must not block.
	HealthChecks func(family cluster.Family, service cluster.ServiceName, port uint16)
	// Overlaps, if not nil, gets each overlap that is logged. It must not block.
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
	table     *plan.Table // what the kernel is to hold
	network   network
	refused   []plan.Range     // what the Backend was last asked to refuse
	unswept   bool             // flows of Services that are gone may be left
	dirty     bool             // the kernel's state is unknown
	leftover  bool             // it may hold Services that are not known
	audit     bool             // it is time to look for what others changed
	audited   time.Time        // when everything was last looked at
	auditTook time.Duration    // how long that took
	nextAudit time.Time        // when it is asked next whether somebody has touched it
	by        string           // who has written last, besides us, as far as that is known
	watching  *netfilter.Watch // nil: not yet
	flows     flows
	works     works
	remains   remains
	told      told

	status  status.NAT // as it is in the making
	current atomic.Pointer[status.NAT]
}

// New returns a Controller that writes through backend. It starts nothing.
func New(options Options, backend Backend, log Logger) *Controller {
	return &Controller{
		options: options,
		backend: backend,
		log:     log,
		queue:   newQueue(options.NodeName),
		table:   plan.NewTable(options.Family, options.Plan),
		network: network{options: &options, log: log},
		dirty:   true,
		unswept: true,
		works:   newWorks(),
	}
}

// Run follows the Store until the context ends. It writes nothing before the Store has
// synced, but see awaitListing. A sync that fails is logged, and the whole state is
// written again, later and later, until it succeeds; changes go on being taken up. The
// rules stay when Run ends, and the Backend is closed. A Controller runs once.
func (c *Controller) Run(ctx context.Context, store *cluster.Store) error {
	defer c.close()
	if err := c.awaitListing(ctx, store); err != nil {
		return err
	}
	defer store.Subscribe(c.enqueue)()
	showCounters(c.options.Family)
	retry := firstRetry
	for {
		abandoned := c.queue.takeAbandoned()
		for _, a := range abandoned {
			c.flows.draining.Abandon(a.endpoints)
		}
		err := c.sync(ctx)
		if len(abandoned) > 0 {
			err = errors.Join(err, c.forgetAll())
		}
		for _, a := range abandoned {
			close(a.done)
		}
		if c.publish(err); err == nil {
			err = c.work(ctx)
			c.publish(err)
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

// close lets go of what is open.
func (c *Controller) close() {
	err := errors.Join(c.forgetAll(), c.backend.Close())
	if c.watching != nil {
		err = errors.Join(err, c.watching.Close())
	}
	if err != nil {
		c.log.Errorf("%s: %v", c.options.Family, err)
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
	if by, touched := c.queue.takeTouched(); touched {
		c.heed(by)
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
	c.network.look = true
	c.audit = time.Since(c.audited) >= wholeAudit || !c.backend.Untouched()
	return nil
}

const forever = 1<<63 - 1 // nanoseconds: 292 years

// nextDeadline is how long there is nothing to do but changes and audits.
func (c *Controller) nextDeadline() time.Duration {
	left := time.Duration(forever)
	if len(c.works.queue) == 0 && c.queue.holds() {
		return 0 // they have been put off for a Work that has ended
	}
	if at, ok := c.works.next(); ok {
		left = max(0, time.Until(at))
	}
	if at, ok := c.told.changes.next(); ok {
		left = min(left, max(0, time.Until(at)))
	}
	if at, ok := c.remains.next(); ok {
		left = min(left, max(0, time.Until(at)))
	}
	if at, ok := c.flows.due(); ok {
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
func (c *Controller) sync(ctx context.Context) error {
	start := time.Now()
	c.tellChanges(start)
	changes, state, resync := c.takeChanges()
	if at, ok := c.remains.next(); ok && !start.Before(at) {
		c.audit = true
	}
	full := c.dirty || c.audit || resync || c.leftover && !state.Incomplete
	c.sweep(state)
	if !full && len(changes) == 0 && !c.refusesOther(state) {
		c.settled()
		return c.forget()
	}
	repair := c.audit && !c.works.tidying && !c.dirty && !resync && len(changes) == 0 && !c.refusesOther(state)
	if full {
		state.Known = c.table.Known()
	}
	written, err := c.write(ctx, full, changes, state)
	observeSync(c.options.Family, full, time.Since(start), err)
	if full {
		err = c.remains.note(err)
	}
	if errors.Is(err, ErrPartial) || errors.Is(err, ErrRemains) {
		c.log.Errorf("%s: program NAT: %v", c.options.Family, err)
		err = nil // Services that are left have a Work, which is set aside
	}
	if err != nil {
		// Most of it may have been written, so stale flows are forgotten now,
		// and once more when everything is written.
		c.dirty, c.unswept = true, true
		return errors.Join(fmt.Errorf("program NAT: %w", err), c.forgetAll())
	}
	if full {
		if c.audited = time.Now(); c.audit {
			c.auditTook = c.audited.Sub(start)
		}
		c.dirty, c.audit, c.leftover = false, false, state.Incomplete
		c.watch()
		c.tidyMemory()
	}
	c.settled()
	c.refused = state.Ranges
	if repair {
		c.reportRepair(written)
		c.by = ""
		return c.forget()
	}
	c.showServices()
	if !full && len(changes) == 0 {
		return nil // the ranges alone, which tell of themselves
	}
	c.report(full, len(changes), time.Since(start))
	return c.forget()
}

// manyServices are so many that to write or to look at them all leaves megabytes of garbage.
const manyServices = 1000

// tidyMemory gives back to the system what has been needed to write everything, or to look at
// it, which is seldom. By itself the runtime keeps it: of 10,000 Services 20 MB, and 50 MB
// where they were in the kernel already.
func (c *Controller) tidyMemory() {
	if services, _ := c.table.Counts(); services >= manyServices {
		go debug.FreeOSMemory()
	}
}

// takeChanges plans what has changed. It returns the plans that are others than before,
// and the state that they lead to, without its Services. resync says that its Node is
// another than before.
func (c *Controller) takeChanges() (changes []Change, state State, resync bool) {
	t := c.queue.take(c.putsOff)
	wasUnsure := c.network.around.unsure
	changes, shortfalls := c.table.Apply(plan.Update{
		Services: t.services, Node: t.state.Node, Network: c.network.follow(t.around, c.dirty || c.audit),
	})
	c.reportShortfalls(shortfalls)
	c.grantHealthChecks(changes)
	ranges, overlaps := c.table.Ranges()
	c.reportOverlaps(overlaps)
	if unsure := c.network.around.unsure; unsure != wasUnsure && !c.dirty {
		c.reportUnsure(unsure, ranges)
	}
	if !c.options.KeepUnknown && !c.network.unsure() {
		t.state.Ranges = ranges
	}
	return changes, t.state, t.resync
}

// grantHealthChecks tells which healthCheckNodePorts are a Service's. That does not wait for the
// kernel: load balancers ask of new Services at once.
func (c *Controller) grantHealthChecks(changes []Change) {
	if c.options.HealthChecks == nil {
		return
	}
	// First those that are given up: another may get the port.
	for _, granted := range []bool{false, true} {
		for _, change := range changes {
			if now := change.New.HealthCheckNodePort; now != change.Old.HealthCheckNodePort && (now != 0) == granted {
				c.options.HealthChecks(c.options.Family, change.New.Name, now)
			}
		}
	}
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
	state.Services = c.table.Plans()
	c.flows.stale.All(state.Services, nil)
	return c.syncAll(ctx, state)
}
