package kernelnat

import "time"

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
	if limit := 2 * c.options.SyncPeriod; limit > 0 {
		return c.queue.health(limit)
	}
	return c.queue.health(defaultLate)
}
