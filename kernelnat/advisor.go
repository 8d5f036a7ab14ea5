package kernelnat

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

const (
	// faultSettles is for how long a fault has to be there before it is told: controllers take
	// a while to follow a Service that has changed, and each other.
	faultSettles = 15 * time.Second
	// faultsPer is the least time between two that are told: every node sees the same ones.
	faultsPer = time.Second
	// maxFaultsTold is how many of the faults that were told of a Service are remembered.
	maxFaultsTold = 8
)

// Advisor tells what is wrong with Services on every node alike. A fault that comes and goes
// is told once an hour at most.
type Advisor struct {
	proxy   cluster.Proxy
	tell    func(cluster.ServiceName, plan.Fault)
	settles time.Duration

	mu       sync.Mutex
	changed  map[cluster.ServiceName]*cluster.Service // nil: gone
	wake     chan struct{}                            // has room for one: something has changed
	services map[cluster.ServiceName]*advised         // for Run: those that have, or had, faults
	due      []dueService                             // for Run: each once, about in the order in which they are
}

// advised is what is known of a Service's faults.
type advised struct {
	present []timedFault // and when they are due
	told    []timedFault // and when that was
	isDue   bool         // it is in the Advisor's list
	gone    bool         // there is no such Service any more
}

type timedFault struct {
	plan.Fault
	at time.Time
}

// dueService is one that may have a fault to tell at a time. However often its faults come and
// go, it waits once.
type dueService struct {
	of cluster.ServiceName
	at time.Time
}

// NewAdvisor returns an Advisor for the Services of a proxy. Tell must not block.
func NewAdvisor(proxy cluster.Proxy, tell func(cluster.ServiceName, plan.Fault)) *Advisor {
	return &Advisor{
		proxy: proxy, tell: tell,
		// Nodes that see a fault at one moment do not all tell the API server at that moment.
		settles:  faultSettles + rand.N(faultSettles),
		wake:     make(chan struct{}, 1),
		services: make(map[cluster.ServiceName]*advised),
	}
}

// Run follows the Store until the context ends.
func (a *Advisor) Run(ctx context.Context, store *cluster.Store) error {
	defer store.Subscribe(a.add)()
	var last time.Time
	for {
		wait := time.Duration(forever)
		if len(a.due) > 0 {
			wait = max(0, time.Until(later(a.due[0].at, last.Add(faultsPer))))
		}
		if err := sleep(ctx, wait, a.wake); err != nil {
			return err
		}
		now := time.Now()
		a.takeChanges(now)
		if len(a.due) > 0 && !now.Before(later(a.due[0].at, last.Add(faultsPer))) && a.tellNext(now) {
			last = now
		}
	}
}

// tellNext takes the first Service of those that wait, tells a fault of it if one is due, and has it
// wait again if there are others. It reports whether one was told.
func (a *Advisor) tellNext(now time.Time) (told bool) {
	name := a.due[0].of
	a.due = a.due[1:]
	s := a.services[name]
	s.isDue = false
	if s.gone {
		delete(a.services, name)
		return false
	}
	for _, f := range s.present {
		switch {
		case now.Before(f.at):
			a.wait(name, s, f.at)
		case told && s.mayTell(f.Fault, now):
			a.wait(name, s, now)
		case !told && s.mayTell(f.Fault, now):
			s.told, told = append(s.told, timedFault{f.Fault, now}), true
			a.tell(name, f.Fault)
		}
	}
	return told
}

// wait has a Service wait until a time, if it does not wait already.
func (a *Advisor) wait(name cluster.ServiceName, s *advised, until time.Time) {
	if !s.isDue {
		s.isDue = true
		a.due = append(a.due, dueService{name, until})
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// add is a cluster.Subscriber.
func (a *Advisor) add(u cluster.Update) {
	if len(u.Services) == 0 {
		return
	}
	a.mu.Lock()
	if a.changed == nil {
		a.changed = make(map[cluster.ServiceName]*cluster.Service)
	}
	for _, s := range u.Services {
		a.changed[s.Name] = s.Service
	}
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

func (a *Advisor) takeChanges(now time.Time) {
	a.mu.Lock()
	changed := a.changed
	a.changed = nil
	a.mu.Unlock()
	for name, service := range changed {
		a.look(name, service, now)
	}
}

// look notes what is wrong with a Service now.
func (a *Advisor) look(name cluster.ServiceName, service *cluster.Service, now time.Time) {
	known := a.services[name]
	if service == nil {
		switch {
		case known == nil:
		case known.isDue: // it may be another one by then
			*known = advised{isDue: true, gone: true}
		default:
			delete(a.services, name)
		}
		return
	}
	faults := plan.Faults(service, a.proxy)
	switch {
	case known == nil && len(faults) == 0:
		return
	case known == nil:
		known = &advised{}
		a.services[name] = known
	}
	known.gone = false
	var present []timedFault
	for _, f := range faults {
		at := slices.IndexFunc(known.present, func(t timedFault) bool { return t.Fault == f })
		if at >= 0 {
			present = append(present, known.present[at])
			continue
		}
		due := timedFault{f, now.Add(a.settles)}
		present = append(present, due)
		a.wait(name, known, due.at)
	}
	known.present = present
}

// mayTell reports whether a fault was not told lately, nor too many others.
func (s *advised) mayTell(f plan.Fault, now time.Time) bool {
	s.told = slices.DeleteFunc(s.told, func(t timedFault) bool { return now.Sub(t.at) >= tellAgain })
	return len(s.told) < maxFaultsTold && !slices.ContainsFunc(s.told, func(t timedFault) bool { return t.Fault == f })
}
