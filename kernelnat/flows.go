package kernelnat

import (
	"errors"
	"time"

	"github.com/clusterip/clusterip/kernelnat/conntrack"
)

// flows are those that the kernel is to forget. A look at them reads the machine's whole flow
// table, however few it is for. So it is beside the loop, and the next one is for all that has
// come meanwhile.
type flows struct {
	stale    conntrack.Stale
	draining conntrack.Draining // those to be forgotten when they are idle
	looking  chan struct{}      // closed when the look under way is over; nil: there is none
	err      error              // of the last look
	next     time.Time          // when another may begin after it
}

// due is when a look is to begin; ok is false if nothing waits for that. The end of a look
// wakes the loop.
func (f *flows) due() (at time.Time, ok bool) {
	if at, ok = f.draining.Next(); !f.stale.Empty() {
		at, ok = time.Time{}, true
	}
	if !ok || f.looking != nil {
		return at, false
	}
	if at.Before(f.next) {
		at = f.next
	}
	return at, true
}

// over takes over what a look has led to, if it is over.
func (f *flows) over() (err error) {
	if f.looking == nil {
		return nil
	}
	select {
	case <-f.looking:
		f.looking = nil
		return f.err
	default:
		return nil
	}
}

// noteFlows notes what flows are to be looked at when changes are written.
func (c *Controller) noteFlows(changes []Change) {
	c.flows.stale.Changed(changes)
	c.flows.draining.Changed(changes)
}

// forget begins to delete the flows that are stale, and to look after those to draining
// endpoints when it is time to. The error may be that of the look before. Looks are at it for a
// small part of the time, so what is noted soon after another look waits for a moment.
func (c *Controller) forget() error {
	err := c.flows.over()
	if at, ok := c.flows.due(); err != nil || !ok || time.Now().Before(at) {
		return err
	}
	return c.look()
}

// forgetAll returns when all flows are deleted that are stale by now. While the kernel's state
// is unknown they stay noted.
func (c *Controller) forgetAll() error {
	f := &c.flows
	wait := func() error {
		if f.looking != nil {
			<-f.looking
		}
		return f.over()
	}
	err := wait()
	if at, ok := f.draining.Next(); !f.stale.Empty() || ok && !time.Now().Before(at) {
		err = errors.Join(err, c.look(), wait())
	}
	return err
}

// look begins a look. There is none under way. While the kernel's state is unknown its end is
// waited for.
func (c *Controller) look() error {
	f := &c.flows
	look, err := c.backend.Forget(&f.stale, &f.draining)
	if err != nil {
		return err
	}
	over, waited := make(chan struct{}), c.dirty
	f.looking = over
	f.stale.Begin(c.dirty)
	go func() {
		began := time.Now()
		deleted, err := look()
		staleFlowsDeleted.WithLabelValues(c.options.Family.String()).Add(float64(deleted))
		f.stale.End(err)
		f.err, f.next = err, time.Now().Add(pauseFactor*time.Since(began))
		close(over)
		if _, again := f.draining.Next(); (err != nil || again || !f.stale.Empty()) && !waited {
			c.queue.signal()
		}
	}()
	return nil
}
