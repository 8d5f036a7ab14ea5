package iptables

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// largeRules is the number of rules, before and after a change together, beyond which a
// Service is written in parts.
const largeRules = 3000

// partTime bounds what one part may take, which is a tenth of a second mostly. Another
// program that holds the lock of the tables has its own bound.
const partTime = 20 * time.Second

// size is about how many rules a plan becomes.
func size(s plan.Service) int {
	n := len(s.Frontends)
	for i := range s.Pools {
		p := &s.Pools[i]
		n += rulesPerEndpoint * (len(p.Endpoints) + len(p.Local))
		if p.Policy == cluster.RoundRobin && p.Weights != nil {
			n += plan.MaxSlots(len(p.Endpoints))
		}
		if p.Policy == cluster.RoundRobin && p.LocalWeights != nil {
			n += plan.MaxSlots(len(p.Local))
		}
	}
	for _, f := range s.Frontends {
		n += len(f.Sources)
	}
	return n
}

// rulesPerEndpoint are one in the chain that chooses and two in its own.
const rulesPerEndpoint = 3

// held is what the kernel may hold of a Service, whole or in part: these plans, and
// these rules in shared chains.
type held struct {
	plans   []plan.Service
	nothing bool // it surely holds nothing of the plans
	rules   [places][]rule
	right   map[string]bool // chains that are as the one plan has them
}

// maxHeld is how many plans of one Service are remembered at most.
const maxHeld = 8

// change returns the way to a plan from what the kernel may hold or, if old is not nil,
// from exactly old.
func (h *held) change(to plan.Service, old *plan.Service, a *arrangement, chains int) *large {
	l := &large{to: to, from: h.plans, rules: h.rules, arrangement: a, chains: chains / 2}
	if old == nil && h.nothing {
		old = &plan.Service{Name: to.Name}
	}
	if l.sure = old != nil; l.sure {
		l.from = []plan.Service{*old}
	} else if len(h.plans) == 1 && h.plans[0].Equal(to) {
		l.right = h.right
	}
	return l
}

// Large implements kernelnat.Backend.
func (b *Backend) Large(changes []kernelnat.Change) (rest []kernelnat.Change, works []kernelnat.Work) {
	if b.arrangement == nil {
		return changes, nil // Sync comes first
	}
	for _, s := range b.left {
		works = append(works, b.begin(s, b.held[s.Name], nil))
	}
	b.left = nil
	for _, c := range b.tools.variant.ableChanges(changes) {
		h := b.held[c.New.Name]
		switch {
		case h != nil:
			works = append(works, b.begin(c.New, h, nil))
		case size(c.Old)+size(c.New) > largeRules:
			works = append(works, b.begin(c.New, &held{}, &c.Old))
		default:
			rest = append(rest, c)
		}
	}
	return rest, works
}

func (b *Backend) begin(to plan.Service, from *held, old *plan.Service) *work {
	l := from.change(to, old, b.arrangement, b.tools.variant.chains())
	may := slices.Clip(l.from)
	if n := len(may); n == 0 || !may[n-1].Equal(to) {
		may = append(may, to)
	}
	if n := len(may); n > maxHeld { // chains of those in between go with the next Sync
		may = slices.Concat(may[:1], may[n-maxHeld+1:])
	}
	b.held[to.Name] = &held{plans: may, rules: from.rules}
	return &work{b, l}
}

// work implements kernelnat.Work.
type work struct {
	b *Backend
	*large
}

// Service implements kernelnat.Work.
func (w *work) Service() cluster.ServiceName { return w.to.Name }

// Step implements kernelnat.Work. It runs iptables-restore once.
func (w *work) Step(ctx context.Context) (done bool, err error) {
	p, more := w.next()
	if !more {
		delete(w.b.held, w.to.Name)
		return true, nil
	}
	limited, cancel := context.WithTimeout(ctx, partTime)
	defer cancel()
	err = w.b.send(limited, p.input)
	switch {
	case err == nil:
		return false, nil
	case p.undo != nil && !errors.As(err, new(*rejection)):
		// What others have in the same chains is unknown now.
		return false, fmt.Errorf("write a part of the %s rules: %w", w.b.Family, err)
	case p.undo != nil:
		p.undo()
	}
	return false, fmt.Errorf("write a part of the %s rules: %w: %w", w.b.Family, kernelnat.ErrSetAside, err)
}
