package kernelnat

import (
	"time"

	"github.com/clusterip/clusterip/kernelnat/netfilter"
)

// An audit that somebody's write leads to begins at once, but no sooner after the last one
// than leastPause, and than that took times pauseFactor: who writes all the time is not to
// keep the loop at audits.
const (
	leastPause  = time.Second
	pauseFactor = 10
)

// watch begins to hear of what others write where the Backend does, once that is known.
// Without it the periodic audit finds it.
func (c *Controller) watch() {
	tables := c.backend.Tables()
	if c.watching != nil || len(tables) == 0 || c.options.SyncPeriod == 0 || c.options.DryRun {
		return
	}
	w, err := netfilter.NewWatch(c.options.Family, tables)
	if err != nil {
		c.log.Errorf("%s: %v: what others change is repaired after sync_period only", c.options.Family, err)
		return
	}
	c.watching = w
	go func() {
		if err := w.Run(c.queue.touch); err != nil {
			c.log.Errorf("%s: %v: what others change is repaired after sync_period only", c.options.Family, err)
		}
	}()
}

// heed has somebody's write looked at.
func (c *Controller) heed(by string) {
	c.by = by
	if at := c.audited.Add(max(leastPause, pauseFactor*c.auditTook)); time.Now().Before(at) {
		if c.nextAudit.IsZero() || at.Before(c.nextAudit) {
			c.nextAudit = at
		}
		return
	}
	c.audit = !c.backend.Untouched()
}
