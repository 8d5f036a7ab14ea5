package ipvs

import (
	"context"
	"slices"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/backendtest"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// scheduled has a scheduler be the policy of all pools of which the suite says nothing.
type scheduled struct {
	kernelnat.Backend
	policy cluster.Policy
}

func (s *scheduled) plan(p plan.Service) plan.Service {
	p.Pools = slices.Clone(p.Pools)
	for i := range p.Pools {
		if p.Pools[i].Policy == cluster.Random {
			p.Pools[i].Policy = s.policy
		}
	}
	return p
}

func (s *scheduled) Sync(ctx context.Context, state kernelnat.State) ([]string, error) {
	state.Services = slices.Clone(state.Services)
	for i, p := range state.Services {
		state.Services[i] = s.plan(p)
	}
	return s.Backend.Sync(ctx, state)
}

func (s *scheduled) Apply(ctx context.Context, changes []kernelnat.Change) error {
	changes = slices.Clone(changes)
	for i, c := range changes {
		changes[i] = kernelnat.Change{Old: s.plan(c.Old), New: s.plan(c.New)}
	}
	return s.Backend.Apply(ctx, changes)
}

func TestBackend(t *testing.T) {
	required(t)
	backendtest.Run(t, nil, func() error { return nil }, func() (map[cluster.Family]kernelnat.Backend, error) {
		backends, err := New(netfilter.Settings{MasqueradeBit: netfilter.DefaultMasqueradeBit})
		for family, b := range backends {
			backends[family] = &scheduled{b, DefaultScheduler}
		}
		return backends, err
	})
}
