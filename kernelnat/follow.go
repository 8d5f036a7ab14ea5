package kernelnat

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/vishvananda/netlink"
)

// listingPatience is how long the rules that an earlier process has left are trusted
// to refuse what is in ranges of ClusterIPs: the source may be among that.
const listingPatience = 5 * time.Second

// awaitListing returns when the Store has synced. If that takes long, what is left of
// an earlier process refuses nothing in ranges any more; all else of it stays.
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
	return !slices.EqualFunc(state.Ranges, c.ranges.written, plan.Range.Equal)
}

// planned returns all plans, by name.
func (c *Controller) planned() []plan.Service {
	return slices.SortedFunc(maps.Values(c.plans), func(a, b plan.Service) int { return a.Name.Compare(b.Name) })
}

// sweep has the flows of Services forgotten that have gone without our knowing, once it
// is known which Services there are and what else is in the ranges.
func (c *Controller) sweep(state State) {
	if !c.unswept || c.options.DryRun || state.Incomplete || c.ranges.around.unsure {
		return
	}
	c.unswept = false
	c.stale.All(c.planned(), c.ranges.now)
}

// followRanges takes over what is known of ranges. It reports whether other ranges than
// before are closed to addresses that Services ask for.
func (c *Controller) followRanges(store *cluster.Store, t *taken) (closed bool) {
	unsure := c.ranges.around.unsure
	anew := false
	if t.around.changed || c.look {
		c.look = false
		anew = c.ranges.setFixed(t.around, c.fixed(t))
	}
	if anew {
		for _, u := range store.Snapshot().Services { // those of t among them
			c.ranges.set(u.Name, u.Service)
		}
	} else {
		for name, service := range t.services {
			c.ranges.set(name, service)
		}
	}
	if c.ranges.changed {
		c.ranges.update()
		c.reportOverlaps()
	}
	if now := c.ranges.around.unsure; now != unsure && !c.dirty {
		c.reportUnsure(now)
	}
	before := c.claims.ranges
	c.claims.ranges = c.ranges.undisputed()
	return !slices.Equal(before, c.claims.ranges)
}

// fixed is what is known besides Services, where there are ranges. The address of the
// API server, or a name server's, may be a ClusterIP; then a Service has it.
func (c *Controller) fixed(t *taken) []plan.Known {
	if len(t.around.cidrs) == 0 {
		return nil
	}
	all := t.around.known(&c.options)
	here := c.here(t.around.cidrs)
	return slices.DeleteFunc(append(all, here...), func(k plan.Known) bool {
		return k.At.IsSingleIP() && c.isClusterIP(k.At.Addr(), t)
	})
}

// here is what the node itself says of ranges. What it has said before counts until it
// could be asked again; as long as it never could, nothing is refused.
func (c *Controller) here(cidrs []netip.Prefix) []plan.Known {
	now, err := nodeKnows(c.options.Family, cidrs)
	if err == nil {
		c.ranges.here, c.ranges.hereTrouble = now, ""
		c.ranges.heard, c.ranges.unheard = true, false
		return now
	}
	c.ranges.unheard = !c.ranges.heard
	// One that routes have changed during is repeated soon enough.
	if text := err.Error(); text != c.ranges.hereTrouble && !errors.Is(err, netlink.ErrDumpInterrupted) {
		c.ranges.hereTrouble = text
		c.log.Errorf("%s: %v: it is not known whether ranges of ClusterIPs overlap new networks of this node", c.options.Family, err)
	}
	return append(now, c.ranges.here...)
}

func (c *Controller) isClusterIP(a netip.Addr, t *taken) bool {
	if c.claims.owned[a] > 0 {
		return true
	}
	for _, s := range t.services {
		if s != nil && slices.Contains(s.ClusterIPs, a) {
			return true
		}
	}
	return false
}

// own notes which ClusterIP a Service has, whose plan is given. It returns the Services
// to which that makes a difference.
func (c *Controller) own(service *cluster.Service, p plan.Service) (others []cluster.ServiceName) {
	old := c.unplanned[p.Name]
	if before, planned := c.plans[p.Name]; planned {
		old = before.Ports[0].Frontend.Addr()
	}
	now := clusterIP(service, c.options.Family)
	if delete(c.unplanned, p.Name); now.IsValid() && len(p.Ports) == 0 {
		c.unplanned[p.Name] = now
	}
	if old == now {
		return nil
	}
	if old.IsValid() {
		others = append(others, c.claims.own(old, -1)...)
	}
	if now.IsValid() {
		others = append(others, c.claims.own(now, 1)...)
	}
	return others
}

// clusterIP is that of a Service, which may be nil, in one family; the zero Addr if it
// has none.
func clusterIP(s *cluster.Service, family cluster.Family) netip.Addr {
	if s != nil {
		for _, ip := range s.ClusterIPs {
			if cluster.FamilyOf(ip) == family {
				return ip
			}
		}
	}
	return netip.Addr{}
}

// reportOverlaps tells of overlaps that are new.
func (c *Controller) reportOverlaps() {
	for _, o := range c.ranges.tidings.new(c.ranges.overlaps, time.Now()) {
		c.log.Errorf("%s: %s", c.options.Family, o)
		if c.options.Overlaps != nil {
			c.options.Overlaps(o)
		}
	}
}

// reportUnsure tells, where that makes a difference, that what is in ranges is not
// refused any more, or is again.
func (c *Controller) reportUnsure(unsure bool) {
	switch {
	case c.options.KeepUnknown || len(c.ranges.now) == 0 || unsure == c.ranges.toldUnsure:
		return
	case unsure:
		c.log.Infof("%s: what is in the ranges of ClusterIPs, and whether they are still there, is not known for now: what is in them and no Service is not refused any more", c.options.Family)
	default:
		c.log.Infof("%s: the ranges of ClusterIPs are known again: what is in them and no Service is refused", c.options.Family)
	}
	c.ranges.toldUnsure = unsure
}

// rangesOf is what an Update says of ranges. What the node itself knows is left out, so
// that it is the same wherever it is asked.
func rangesOf(u cluster.Update, o *Options) *ranges {
	r := newRanges(o)
	var a around
	a.add(u)
	owned := make(map[netip.Addr]bool)
	for _, s := range u.Services {
		owned[clusterIP(s.Service, o.Family)] = true
	}
	r.setFixed(a, slices.DeleteFunc(a.known(o), func(k plan.Known) bool { return k.At.IsSingleIP() && owned[k.At.Addr()] }))
	for _, s := range u.Services {
		r.set(s.Name, s.Service)
	}
	r.update()
	return r
}

// Ranges returns what a Controller would have the Backend refuse after a first Update,
// but for what the node itself knows, and the overlaps that it would tell of.
func Ranges(u cluster.Update, family cluster.Family, options Options) ([]plan.Range, []plan.Overlap) {
	options.Family = family
	r := rangesOf(u, &options)
	return r.refused(&options), r.overlaps
}
