package kernelnat

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// startPatience is how long the kernel refuses what an earlier run had it refuse while
// nothing is known yet. The API server itself may be among that.
const startPatience = 5 * time.Second

// awaitSynced returns when the Store has its first listing. If that takes long, nothing
// in the ranges of ClusterIPs is refused until then.
func (c *Controller) awaitSynced(ctx context.Context, store *cluster.Store) error {
	patience := time.NewTimer(startPatience)
	defer patience.Stop()
	for {
		select {
		case <-store.Synced():
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-patience.C:
		}
		if c.options.DryRun {
			continue
		}
		if err := c.backend.Refuse(ctx, nil); err != nil {
			c.log.Errorf("%s: end the refusal of what an earlier run took for no Service: %v", c.options.Family, err)
			patience.Reset(startPatience)
		}
	}
}

// settleRanges returns in which ranges what is no frontend is refused now. claims says
// that they decide otherwise than before on addresses that Services ask for. It costs
// what has changed, and only a change of who is in the ranges is looked at as a whole.
func (c *Controller) settleRanges(t taken, store *cluster.Store) (refused []plan.Range, claims bool) {
	o := c.occupants
	changed := t.reranged || t.resync
	o.node, o.told = t.state.Node, t.occupied
	for name, node := range t.nodes {
		if delete(o.nodes, name); node != nil && name != t.state.Node.Name {
			o.nodes[name] = node
		}
	}
	if o.setRanges(t.ranges) {
		clear(c.overlaps)
		for _, u := range store.Snapshot().Services {
			o.set(u.Name, u.Service)
		}
	}
	for name, service := range t.services {
		changed = o.set(name, service) || changed
	}
	rerouted, err := o.lookAtRoutes(c.options.Routes)
	if err != nil {
		c.log.Errorf("%v: those known before count", err)
	}
	if t.detached != c.detached {
		c.reportDetached(t.detached)
	}
	if !changed && !rerouted {
		return c.refused, false
	}
	refused, overlaps := plan.Refuse(o.ranges, o.all())
	c.reportOverlaps(overlaps)
	if exclusive := plan.Exclusive(o.ranges, o.withoutServices()); !slices.Equal(exclusive, c.claims.ranges) {
		c.claims.ranges, claims = exclusive, true
	}
	if t.detached || c.options.NoSuchServiceOff {
		return nil, claims
	}
	return refused, claims
}

// refuse has the kernel refuse what is in these ranges, if it does not yet.
func (c *Controller) refuse(ctx context.Context, ranges []plan.Range) error {
	if slices.EqualFunc(ranges, c.refused, plan.Range.Equal) {
		return nil
	}
	c.refused = ranges
	return c.backend.Refuse(ctx, ranges)
}

func (c *Controller) reportDetached(detached bool) {
	switch c.detached = detached; {
	case c.options.NoSuchServiceOff || len(c.occupants.ranges) == 0:
	case detached:
		c.log.Infof("%s: nobody says any more whether the ranges of ClusterIPs are right: what is in them and no Service's is not refused until then", c.options.Family)
	default:
		c.log.Infof("%s: the ranges of ClusterIPs are known again", c.options.Family)
	}
}

// maxOverlaps is how many overlaps are told, until the ranges change.
const maxOverlaps = 20

// reportOverlaps tells, once, which ranges overlap what.
func (c *Controller) reportOverlaps(overlaps []plan.Overlap) {
	for _, o := range overlaps {
		if c.overlaps[o.Text] || len(c.overlaps) >= maxOverlaps {
			continue
		}
		c.overlaps[o.Text] = true
		c.log.Errorf("%s: %s", c.options.Family, o.Text)
		if c.options.Overlaps != nil {
			c.options.Overlaps(o.Range, o.Text)
		}
	}
}

// Overlaps says, in words, where the ranges of ClusterIPs in a state of the Store overlap
// something else, as far as objects and options tell.
func Overlaps(u cluster.Update, family cluster.Family, options Options) (texts []string) {
	options.Family = family
	o := newOccupants(options)
	o.told = u.Occupied
	o.setRanges(u.ServiceCIDRs)
	for _, s := range u.Services {
		o.set(s.Name, s.Service)
	}
	for _, n := range u.Nodes {
		o.nodes[n.Name] = n.Node
	}
	_, overlaps := plan.Refuse(o.ranges, o.all())
	for _, overlap := range overlaps[:min(len(overlaps), maxOverlaps)] {
		texts = append(texts, overlap.Text)
	}
	if n := len(overlaps) - maxOverlaps; n > 0 {
		texts = append(texts, fmt.Sprintf("%s: %d more overlaps", family, n))
	}
	return texts
}

// Refused returns in which ranges of a state of the Store what is no frontend is refused.
func Refused(u cluster.Update, node plan.Node, options Options) []plan.Range {
	if options.NoSuchServiceOff {
		return nil
	}
	o := newOccupants(options)
	o.told, o.node = u.Occupied, node
	o.setRanges(u.ServiceCIDRs)
	for _, s := range u.Services {
		o.set(s.Name, s.Service)
	}
	for _, n := range u.Nodes {
		if n.Name != node.Name {
			o.nodes[n.Name] = n.Node
		}
	}
	refused, _ := plan.Refuse(o.ranges, o.all())
	return refused
}
