package kernelnat

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/clusterip/clusterip/cluster"
)

// reportRepair tells what somebody else had changed.
func (c *Controller) reportRepair(written []string) {
	if len(written) == 0 {
		return
	}
	repairs.WithLabelValues(c.options.Family.String()).Add(float64(len(written)))
	shown := written[:min(len(written), maxShown)]
	more := ""
	if n := len(written) - len(shown); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	c.log.Errorf("%s: somebody else had changed our rules; repaired: %s%s", c.options.Family, strings.Join(shown, "; "), more)
}

// reportShortfall tells, once, what a Service asks for and does not get.
func (c *Controller) reportShortfall(name cluster.ServiceName, now shortfall) {
	before := c.short[name]
	if slices.Equal(now.texts, before.texts) && now.frontends == before.frontends {
		return
	}
	for _, text := range now.texts {
		if slices.Contains(before.texts, text) {
			continue
		}
		c.log.Errorf("Service %s: %s", name, text)
		if c.options.Refused != nil {
			c.options.Refused(name, text)
		}
	}
	if delete(c.short, name); len(now.texts) > 0 {
		c.short[name] = now
	}
	conflicts.WithLabelValues(c.options.Family.String()).Add(float64(now.frontends - before.frontends))
}

// maxShown is how many repairs one line of the log names.
const maxShown = 10

// report tells how a sync went.
func (c *Controller) report(full bool, changed int, took time.Duration) {
	rounded := took.Round(time.Microsecond)
	switch {
	case c.options.DryRun:
		c.log.Infof("%s: dry run, nothing written to the kernel: Services %d, ports %d", c.options.Family, len(c.plans), c.ports)
	case full && len(c.plans) == 0:
		c.log.Infof("%s: no Service has a ClusterIP, after %v", c.options.Family, rounded)
	case full:
		c.log.Infof("%s: all rules are in place, after %v: Services %d, ports %d", c.options.Family, rounded, len(c.plans), c.ports)
	default:
		c.untold.add(changed, took)
		c.tellChanges(time.Now())
	}
}

// tellPeriod is the least time between two lines of the log about changes.
const tellPeriod = time.Second

// changesTold is what is not told yet of the changes that were written.
type changesTold struct {
	writes, services int
	took             time.Duration
	last             time.Time // when some were told
}

func (u *changesTold) add(services int, took time.Duration) {
	u.writes, u.services, u.took = u.writes+1, u.services+services, u.took+took
}

// next is when there is something to tell; ok is false if there is nothing.
func (u *changesTold) next() (at time.Time, ok bool) { return u.last.Add(tellPeriod), u.writes > 0 }

func (c *Controller) tellChanges(now time.Time) {
	u := &c.untold
	if at, ok := u.next(); !ok || now.Before(at) {
		return
	}
	took := u.took.Round(time.Microsecond)
	if u.writes == 1 {
		c.log.Infof("%s: changed Services %d, written in %v: Services %d, ports %d", c.options.Family, u.services, took, len(c.plans), c.ports)
	} else {
		c.log.Infof("%s: changed Services %d in %d writes that took %v: Services %d, ports %d", c.options.Family, u.services, u.writes, took, len(c.plans), c.ports)
	}
	*u = changesTold{last: now}
}
