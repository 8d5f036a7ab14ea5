package nftables

import (
	"context"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// syncOwned writes what differs from what the kernel holds. Nobody else can have changed that.
func (b *Backend) syncOwned(ctx context.Context, state kernelnat.State) error {
	d, err := b.newDialect(state)
	if err != nil {
		return err
	}
	changes := make([]kernelnat.Change, 0, len(state.Services))
	there := make(map[cluster.ServiceName]bool, len(state.Services))
	for _, p := range state.Services {
		there[p.Name] = true
		changes = append(changes, kernelnat.Change{New: p})
	}
	for name := range b.state.services {
		if !there[name] {
			changes = append(changes, kernelnat.Change{New: plan.Service{Name: name}})
		}
	}
	if err := b.apply(ctx, changes); err != nil {
		return err
	}
	return b.turn(ctx, d)
}

// turn writes the chains anew that differ in another dialect.
func (b *Backend) turn(ctx context.Context, d dialect) error {
	was := make(map[string]chain)
	for _, c := range b.schema.fixedChains(b.dialect) {
		was[c.name] = c
	}
	batch := newBatch(b.family)
	var differ []chain
	for _, c := range b.schema.fixedChains(d) {
		o, there := was[c.name]
		delete(was, c.name)
		switch {
		case !there:
			batch.addChain(&c)
		case slices.EqualFunc(o.rules, c.rules, func(a, b rule) bool { return a.String() == b.String() }):
			continue
		default:
			batch.flushChain(c.name)
		}
		differ = append(differ, c)
	}
	for i := range differ {
		if err := batch.addRules(&differ[i]); err != nil {
			return err
		}
	}
	for name := range was {
		batch.deleteChain(name)
	}
	b.dialect = d
	return b.commit(ctx, batch)
}
