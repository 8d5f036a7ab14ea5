package kernelnat

import (
	"time"

	"github.com/clusterip/clusterip/status"
)

// Status returns how this Controller's NAT stood at the end of its last sync. It may be
// called at any time.
func (c *Controller) Status() status.NAT {
	if s := c.current.Load(); s != nil {
		return *s
	}
	return status.NAT{Family: c.options.Family}
}

// publish ends a sync.
func (c *Controller) publish(err error) {
	now := time.Now()
	s := &c.status
	s.Family = c.options.Family
	s.Services, s.Ports = c.table.Counts()
	s.Node, s.Ranges = c.table.Node(), c.refused
	s.Short = c.table.Shortfalls()
	s.Audited = c.audited
	s.Waiting = c.works.waiting()
	if s.Error = ""; err != nil {
		s.Error, s.Failed = err.Error(), now
	} else {
		s.Updated, s.Error = now, c.remains.why
	}
	published := *s
	c.current.Store(&published)
}

// Health is how a Controller keeps up.
type Health struct {
	LastUpdated time.Time // when the kernel last held everything; zero: never yet
	// Late says that something has been waiting to be written for longer than
	// two SyncPeriods, as kube-proxy counts it.
	Late bool
}

// defaultLate is what counts as late where there is no SyncPeriod.
const defaultLate = time.Minute

// Health may be called at any time.
func (c *Controller) Health() Health {
	limit := 2 * c.options.SyncPeriod
	if limit == 0 {
		limit = defaultLate
	}
	return Health{LastUpdated: c.Status().Updated, Late: c.queue.late(limit)}
}
