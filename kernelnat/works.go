package kernelnat

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/clusterip/clusterip/status"
)

// Delays after which a Service that is set aside is tried again, doubled from the first
// to the last.
const (
	firstSetAside = 30 * time.Second
	lastSetAside  = 10 * time.Minute
)

// works are the large Services whose changes are on their way. Their parts are written
// by turns, while nothing else is to be written.
type works struct {
	queue    []*ongoing
	setAside map[cluster.ServiceName]*setAside
	// untidy says that chains from before the last Sync may be left, which another Sync
	// is to remove when the queue is empty. tidying says that it is time for that.
	untidy, tidying bool
}

// ongoing is a Work that is not done.
type ongoing struct {
	Work
	from, to plan.Service
	began    time.Time
}

// setAside is a Service whose rules could not be written.
type setAside struct {
	from  plan.Service // what it had
	why   string
	delay time.Duration
	until time.Time // zero: it is being tried
}

func newWorks() works { return works{setAside: make(map[cluster.ServiceName]*setAside)} }

// next is when there is something to do; ok is false if there is nothing.
func (w *works) next() (at time.Time, ok bool) {
	if len(w.queue) > 0 {
		return time.Time{}, true
	}
	for _, s := range w.setAside {
		if !s.until.IsZero() && (!ok || s.until.Before(at)) {
			at, ok = s.until, true
		}
	}
	return at, ok
}

// waiting are the Services that may not have their rules yet.
func (w *works) waiting() []status.Waiting {
	var all []status.Waiting
	for _, o := range w.queue {
		all = append(all, status.Waiting{Service: o.Service()})
	}
	for name, s := range w.setAside {
		if !s.until.IsZero() { // or it is in the queue
			all = append(all, status.Waiting{Service: name, Why: s.why, Again: s.until})
		}
	}
	slices.SortFunc(all, func(a, b status.Waiting) int { return a.Service.Compare(b.Service) })
	return all
}

// admit returns the changes to be begun now. A Service whose Work is not done waits for its
// end, and one that is set aside until it is tried again. But a change that removes the
// Service or one of its frontends, which may be another's by now, ends both and begins.
func (w *works) admit(changes []Change) []Change {
	if len(w.queue)+len(w.setAside) == 0 {
		return changes
	}
	return slices.DeleteFunc(slices.Clone(changes), func(c Change) bool {
		name := c.New.Name
		at := slices.IndexFunc(w.queue, func(o *ongoing) bool { return o.Service() == name })
		aside := w.setAside[name] != nil
		if len(c.New.Frontends) > 0 && !givesUp(c) {
			return at >= 0 || aside
		}
		if at >= 0 {
			w.queue = slices.Delete(w.queue, at, at+1)
		}
		if len(c.New.Frontends) == 0 {
			delete(w.setAside, name)
		} else if aside {
			w.setAside[name].until = time.Time{}
		}
		return false
	})
}

// putsOff reports whether a Service is planned when its Work is done. Where only endpoints
// change it asks for the same frontends, so nobody waits for its plan, and the plan would wait
// for the Work. The EndpointSlices of a large Service come one after the other.
func (c *Controller) putsOff(s *cluster.Service) bool {
	if c.dirty || c.audit || !slices.ContainsFunc(c.works.queue, func(o *ongoing) bool { return o.Service() == s.Name }) {
		return false
	}
	planned := c.table.Service(s.Name)
	if planned == nil {
		return false
	}
	a, b := *planned, *s
	a.Endpoints, b.Endpoints = nil, nil
	return reflect.DeepEqual(a, b)
}

// givesUp reports whether a Service had a frontend that it does not have any more.
func givesUp(c Change) bool {
	now := make(map[plan.Key]bool, len(c.New.Frontends))
	for _, f := range c.New.Frontends {
		now[f.Key] = true
	}
	return slices.ContainsFunc(c.Old.Frontends, func(f plan.Frontend) bool { return !now[f.Key] })
}

// apply writes changes, and begins those that are large. Some wait for their turn.
func (c *Controller) apply(ctx context.Context, changes []Change) error {
	return c.begin(ctx, c.works.admit(changes))
}

func (c *Controller) begin(ctx context.Context, changes []Change) error {
	rest, begun := c.backend.Large(changes)
	for _, w := range begun {
		from := plan.Service{Name: w.Service()}
		if at := slices.IndexFunc(changes, func(c Change) bool { return c.New.Name == w.Service() }); at >= 0 {
			from = changes[at].Old
		}
		c.queueWork(w, from)
	}
	c.noteFlows(rest)
	if len(rest) == 0 {
		return nil
	}
	return c.backend.Apply(ctx, rest)
}

// syncAll has the backend write everything, and begins the Services that it leaves. One
// that was set aside before stays set aside.
func (c *Controller) syncAll(ctx context.Context, state State) (written []string, err error) {
	tidying, aside := c.works.tidying, c.works.setAside
	c.works = newWorks() // those under way are over
	if written, err = c.backend.Sync(ctx, state); err != nil && !errors.Is(err, ErrPartial) && !errors.Is(err, ErrRemains) {
		return written, err
	}
	_, left := c.backend.Large(nil)
	for _, w := range left {
		name := w.Service()
		if s := aside[name]; s != nil {
			if s.until.IsZero() { // it was being tried
				s.until = time.Now().Add(s.delay)
			}
			c.works.setAside[name] = s
			continue
		}
		c.queueWork(w, plan.Service{Name: name})
	}
	// Once is enough, whatever it finds.
	c.works.untidy = len(c.works.queue) > 0 && !tidying
	return written, err
}

func (c *Controller) queueWork(w Work, from plan.Service) {
	c.works.queue = append(c.works.queue, &ongoing{Work: w, from: from, to: c.table.Plan(w.Service()), began: time.Now()})
}

// work writes parts of large Services until none is left or something else is to be
// written. It writes at least one part, or changes without a pause would put them off for
// ever.
func (c *Controller) work(ctx context.Context) error {
	for {
		at, ok := c.works.next()
		if !ok || time.Now().Before(at) {
			break
		}
		if err := c.workOnce(ctx); err != nil {
			c.dirty = true
			return fmt.Errorf("program NAT: %w", err)
		}
		if len(c.queue.wake) > 0 {
			break
		}
	}
	if c.works.untidy && len(c.works.queue) == 0 {
		c.works.untidy, c.works.tidying, c.audit = false, true, true
	}
	return nil
}

func (c *Controller) workOnce(ctx context.Context) error {
	if len(c.works.queue) == 0 {
		return c.tryAgain(ctx)
	}
	o := c.works.queue[0]
	done, err := o.Step(ctx)
	switch {
	case errors.Is(err, ErrSetAside) && ctx.Err() == nil:
		c.works.queue = c.works.queue[1:]
		c.putAside(o, err)
		return nil
	case err != nil || !done:
		// Others that are large have their turns.
		c.works.queue = append(c.works.queue[1:], o)
		return err
	}
	c.works.queue = c.works.queue[1:]
	c.queue.signal() // the Service may have been put off
	delete(c.works.setAside, o.Service())
	what := "written"
	if len(o.to.Frontends) == 0 {
		what = "removed"
	}
	c.log.Infof("%s: Service %s, which is large, is %s after %v", c.options.Family, o.Service(), what, time.Since(o.began).Round(time.Millisecond))
	c.noteFlows([]Change{{Old: o.from, New: o.to}})
	if now := c.table.Plan(o.Service()); !now.Equal(o.to) {
		if err := c.apply(ctx, []Change{{Old: o.to, New: now}}); err != nil {
			return err
		}
	}
	return c.forget()
}

// putAside leaves a Service as it is for a while.
func (c *Controller) putAside(o *ongoing, err error) {
	s := c.works.setAside[o.Service()]
	if s == nil {
		s = &setAside{from: o.from}
		c.works.setAside[o.Service()] = s
	}
	s.why = err.Error()
	s.delay = min(max(2*s.delay, firstSetAside), lastSetAside)
	s.until = time.Now().Add(s.delay)
	syncFailures.WithLabelValues(c.options.Family.String()).Inc()
	c.log.Errorf("%s: Service %s is set aside, all others go on: %v; trying again in %v", c.options.Family, o.Service(), err, s.delay)
	if c.options.Refused != nil {
		c.options.Refused(o.Service(), fmt.Sprintf("its rules cannot be written: %v", err))
	}
}

// tryAgain begins with the Services whose time has come.
func (c *Controller) tryAgain(ctx context.Context) error {
	var changes []Change
	for name, s := range c.works.setAside {
		if s.until.IsZero() || time.Now().Before(s.until) {
			continue
		}
		s.until = time.Time{}
		changes = append(changes, Change{Old: s.from, New: c.table.Plan(name)})
	}
	return c.begin(ctx, changes)
}
