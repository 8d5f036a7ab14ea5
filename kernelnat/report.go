package kernelnat

import (
	"fmt"
	"strings"
	"time"

	"github.com/clusterip/clusterip/kernelnat/plan"
)

// reportRepair tells what somebody else had changed.
func (c *Controller) reportRepair(written []string) {
	if len(written) == 0 {
		return
	}
	c.status.Repairs += len(written)
	c.status.Repaired, c.status.RepairedAt = written[:min(len(written), maxShown)], time.Now()
	c.status.RepairedBy = c.by
	repairs.WithLabelValues(c.options.Family.String()).Add(float64(len(written)))
	shown := written[:min(len(written), maxShown)]
	more := ""
	if n := len(written) - len(shown); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	who := "somebody else"
	if c.by != "" {
		who = c.by
	}
	c.log.Errorf("%s: %s had changed our rules; repaired: %s%s", c.options.Family, who, strings.Join(shown, "; "), more)
}

// reportShortfalls tells what Services ask for and do not get: the log of each thing once in
// tellAgain, as Services may come and go, and not of more than there is room for.
func (c *Controller) reportShortfalls(changed []plan.ShortfallChange) {
	for _, s := range changed {
		for _, text := range s.New.Beyond(s.Old).Texts() {
			switch c.told.refusals.take(fmt.Sprintf("%s: %s", s.New.Service, text), time.Now()) {
			case tell:
				c.log.Errorf("Service %s: %s", s.New.Service, text)
			case tellMany:
				c.log.Errorf("%s: more Services do not get what they ask for: for up to %v no more of them are named here; coredns explain says it of each, and the metric kernelnat_refused_frontends counts them", c.options.Family, tellAgain)
			}
			if c.options.Refused != nil {
				c.options.Refused(s.New.Service, text)
			}
		}
		conflicts.WithLabelValues(c.options.Family.String()).Add(float64(len(s.New.Refused) - len(s.Old.Refused)))
	}
}

// reportOverlaps tells of overlaps that are new.
func (c *Controller) reportOverlaps(overlaps []plan.Overlap) {
	for _, o := range c.told.overlaps.new(overlaps, time.Now()) {
		c.log.Errorf("%s: %s", c.options.Family, o)
		if c.options.Overlaps != nil {
			c.options.Overlaps(o)
		}
	}
}

// reportUnsure tells, where that makes a difference, that what is in ranges is not
// refused any more, or is again.
func (c *Controller) reportUnsure(unsure bool, ranges []plan.Range) {
	switch {
	case c.options.KeepUnknown || len(ranges) == 0 || unsure == c.told.unsure:
		return
	case unsure:
		c.log.Infof("%s: what is in the ranges of ClusterIPs, and whether they are still there, is not known for now: what is in them and no Service is not refused any more", c.options.Family)
	default:
		c.log.Infof("%s: the ranges of ClusterIPs are known again: what is in them and no Service is refused", c.options.Family)
	}
	c.told.unsure = unsure
}

// showServices tells metrics how many Services there are.
func (c *Controller) showServices() {
	services, _ := c.table.Counts()
	servicesPlanned.WithLabelValues(c.options.Family.String()).Set(float64(services))
	servicesUnserved.WithLabelValues(c.options.Family.String()).Set(float64(c.table.Unserved()))
}

// maxShown is how many repairs one line of the log names.
const maxShown = 10

// report tells how a sync went.
func (c *Controller) report(full bool, changed int, took time.Duration) {
	rounded := took.Round(time.Microsecond)
	services, ports := c.table.Counts()
	switch {
	case c.options.DryRun:
		c.log.Infof("%s: dry run, nothing written to the kernel: Services %d, ports %d", c.options.Family, services, ports)
	case full && services == 0:
		c.log.Infof("%s: no Service has a ClusterIP, after %v", c.options.Family, rounded)
	case full:
		c.log.Infof("%s: all rules are in place, after %v: Services %d, ports %d", c.options.Family, rounded, services, ports)
	default:
		c.told.changes.add(changed, took)
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
	u := &c.told.changes
	if at, ok := u.next(); !ok || now.Before(at) {
		return
	}
	took := u.took.Round(time.Microsecond)
	services, ports := c.table.Counts()
	if u.writes == 1 {
		c.log.Infof("%s: changed Services %d, written in %v: Services %d, ports %d", c.options.Family, u.services, took, services, ports)
	} else {
		c.log.Infof("%s: changed Services %d in %d writes that took %v: Services %d, ports %d", c.options.Family, u.services, u.writes, took, services, ports)
	}
	*u = changesTold{last: now}
}

// told is what the log was told, and what it is still to be told.
type told struct {
	changes  changesTold
	overlaps tidings
	refusals refusals
	unsure   bool // that what is in ranges is not refused
}

// tellAgain is after how long an overlap is told again that comes and goes.
const tellAgain = time.Hour

// maxOverlaps is how many overlaps are remembered to have been told, and told.
const maxOverlaps = 1000

// tidings are the overlaps that were told, by what they are of.
type tidings struct {
	present map[plan.Overlap]bool
	told    map[plan.Overlap]time.Time
}

// new returns those of the overlaps that are to be told now.
func (t *tidings) new(overlaps []plan.Overlap, now time.Time) []plan.Overlap {
	var out []plan.Overlap
	before := t.present
	t.present = make(map[plan.Overlap]bool)
	if t.told == nil {
		t.told = make(map[plan.Overlap]time.Time)
	}
	for _, o := range overlaps {
		key := plan.Overlap{CIDR: o.CIDR, What: o.What}
		t.present[key] = true
		last, known := t.told[key]
		if before[key] || known && now.Sub(last) < tellAgain || !known && len(t.told) >= maxOverlaps {
			continue
		}
		t.told[key] = now
		out = append(out, o)
	}
	return out
}

// maxRefusals is how many refusals the log is told in tellAgain, and are remembered.
const maxRefusals = 1000

// refusals are those that the log was told since a time.
type refusals struct {
	told  map[string]bool
	since time.Time
}

// telling says what to do about something new.
type telling uint8

const (
	silence telling = iota
	tell
	tellMany // that there are more
)

// take notes that there is a refusal.
func (r *refusals) take(text string, now time.Time) telling {
	if r.told == nil || now.Sub(r.since) >= tellAgain {
		r.told, r.since = make(map[string]bool), now
	}
	if r.told[text] || len(r.told) > maxRefusals {
		return silence
	}
	r.told[text] = true
	if len(r.told) > maxRefusals {
		return tellMany
	}
	return tell
}
