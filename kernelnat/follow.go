package kernelnat

import (
	"context"
	"slices"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// listingPatience is how long the rules that an earlier process has left may refuse what
// is in ranges of ClusterIPs. The API server, which is waited for, may be among that.
const listingPatience = 5 * time.Second

// awaitListing returns when the Store has synced. If that takes long, it removes the rules
// of an earlier process that refuse what is in ranges, and no others.
func (c *Controller) awaitListing(ctx context.Context, store *cluster.Store) error {
	timer := time.NewTimer(listingPatience)
	defer timer.Stop()
	for {
		select {
		case <-store.Synced():
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		if c.options.DryRun {
			continue
		}
		if err := c.backend.Refuse(ctx, nil); err != nil && ctx.Err() == nil {
			c.log.Errorf("%s: %v; trying again in %v", c.options.Family, err, listingPatience)
			timer.Reset(listingPatience)
			continue
		}
		c.log.Infof("%s: nothing is listed after %v: until it is, what is in the ranges of ClusterIPs and no Service is not refused", c.options.Family, listingPatience)
	}
}

// refusesOther reports whether the kernel is to refuse something else in ranges than it
// does.
func (c *Controller) refusesOther(state State) bool {
	return !slices.EqualFunc(state.Ranges, c.refused, plan.Range.Equal)
}

// sweep has the flows forgotten of Services that went unnoticed, once it is known which
// Services there are and what else is in the ranges.
func (c *Controller) sweep(state State) {
	if !c.unswept || c.options.DryRun || state.Incomplete || c.network.around.unsure {
		return
	}
	c.unswept = false
	ranges, _ := c.table.Ranges()
	c.flows.stale.All(c.table.Plans(), ranges)
}
