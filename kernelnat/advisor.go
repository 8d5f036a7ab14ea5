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
	due      []dueFault                               // for Run: in the order in which they are
}

// advised is what is known of a Service's faults.
type advised struct {
	present []timedFault // and when they are due
	told    []timedFault // and when that was
}

type timedFault struct {
	plan.Fault
	at time.Time
}

type dueFault struct {
	of cluster.ServiceName
	timedFault
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
		if len(a.due) > 0 && !now.Before(later(a.due[0].at, last.Add(faultsPer))) {
			next := a.due[0]
			if a.due = a.due[1:]; a.services[next.of].telling(next, now) {
				a.tell(next.of, next.Fault)
				last = now
			}
		}
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
	if service == nil {
		delete(a.services, name)
		return
	}
	faults := plan.Faults(service, a.proxy)
	known := a.services[name]
	switch {
	case known == nil && len(faults) == 0:
		return
	case known == nil:
		known = &advised{}
		a.services[name] = known
	}
	var present []timedFault
	for _, f := range faults {
		at := slices.IndexFunc(known.present, func(t timedFault) bool { return t.Fault == f })
		if at >= 0 {
			present = append(present, known.present[at])
			continue
		}
		due := timedFault{f, now.Add(a.settles)}
		present = append(present, due)
		a.due = append(a.due, dueFault{name, due})
	}
	known.present = present
}

// telling reports whether a fault is to be told that is due, and notes that. It is not if it
// is gone, or was meanwhile, or was told lately. The Service may be gone too.
func (s *advised) telling(due dueFault, now time.Time) bool {
	if s == nil || !slices.Contains(s.present, due.timedFault) {
		return false
	}
	s.told = slices.DeleteFunc(s.told, func(t timedFault) bool { return now.Sub(t.at) >= tellAgain })
	if len(s.told) >= maxFaultsTold || slices.ContainsFunc(s.told, func(t timedFault) bool { return t.Fault == due.Fault }) {
		return false
	}
	s.told = append(s.told, timedFault{due.Fault, now})
	return true
}
