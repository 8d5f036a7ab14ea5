package nftables

import (
	"context"
	"fmt"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// work is a Service on its way, in transactions of bounded size.
type work struct {
	*Backend
	plan    plan.Service
	passage *passage // nil before the first step
}

// Large implements kernelnat.Backend. Sync leaves no Service.
func (b *Backend) Large(changes []kernelnat.Change) (rest []kernelnat.Change, works []kernelnat.Work) {
	if b.state == nil {
		return changes, nil
	}
	for _, c := range changes {
		if size(&c.Old)+size(&c.New) < maxCommit && b.size(c.New.Name) < maxCommit {
			rest = append(rest, c)
			continue
		}
		works = append(works, &work{Backend: b, plan: c.New})
	}
	return rest, works
}

// size is how many elements a plan has, about.
func size(p *plan.Service) int {
	n := 0
	for i := range p.Pools {
		frontends, endpoints := len(p.Of(i)), len(p.Pools[i].Endpoints)+len(p.Pools[i].Local)
		if n += frontends * (4 + endpoints); policyOf(&p.Pools[i]) == cluster.SourceHash && endpoints > 1 {
			n += maxCommit // a table of thousands of slots
		}
	}
	return n
}

// size is how many elements the kernel holds for a Service, about.
func (b *Backend) size(name cluster.ServiceName) int {
	s := b.state.services[name]
	if s == nil {
		return 0
	}
	n := 0
	for _, f := range s.frontends {
		n += 4 + len(f.near) + len(f.far) + len(f.loopback)
	}
	return n
}

func (w *work) Service() cluster.ServiceName { return w.plan.Name }

// maxLooks is how many elements a step looks at: thousands that stay cost less than a few
// that change.
const maxLooks = 8 * maxCommit

// Step implements kernelnat.Work. Where it stands is part of what the kernel holds, and if
// somebody else has changed that, the way is planned anew.
func (w *work) Step(ctx context.Context) (done bool, err error) {
	if w.state == nil {
		return false, fmt.Errorf("change nftables for %s: what the kernel holds is not known", w.family)
	}
	if w.passage == nil || w.passage.held != w.state.services[w.plan.Name] {
		w.passage = w.state.begin(&w.plan)
	}
	batch := newBatch(w.family)
	done = w.passage.step(&limited{writer: &over{batch, w.state.kept}, elements: maxCommit / 2, looks: maxLooks})
	if err := w.commitClasses(ctx, batch); err != nil {
		w.state = nil
		return false, fmt.Errorf("change nftables for %s: %w", w.family, err)
	}
	return done, nil
}
