package nftables

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// Refuse implements kernelnat.Backend. It writes one chain anew. Before Sync it also undoes what
// somebody has added to those that are the same whatever Services there are: while nobody owned
// the table, that may have come to keep the source away.
func (b *Backend) Refuse(ctx context.Context, ranges []plan.Range) error {
	if err := b.refuse(ctx, ranges); err != nil {
		return fmt.Errorf("change what nftables refuses for %s: %w", b.family, err)
	}
	return nil
}

func (b *Backend) refuse(ctx context.Context, ranges []plan.Range) error {
	if b.state == nil {
		if len(ranges) > 0 {
			return errors.New("nothing could be written at the start")
		}
		if there, err := b.find(ctx); err != nil || !there {
			return err
		}
		have := newHeld()
		if err := b.socket.readChains(b.language, have); err != nil || have.chains[chainRanges] == nil {
			return err
		}
		if err := b.restore(ctx, have); err == nil {
			return nil
		}
		// The table has another layout, say: then the ranges alone.
	}
	d := b.dialect
	d.language, d.ranges = b.language, ranges
	batch, c := newBatch(b.family), d.rangesChain()
	batch.flushChain(chainRanges)
	if err := batch.addRules(&c); err != nil {
		return err
	}
	if err := b.commit(ctx, batch); err != nil {
		return err
	}
	b.dialect.ranges = ranges
	return nil
}

// restore writes the fixed chains anew, without ranges, and removes others that packets come in
// by. Where the Node object says at which addresses NodePorts are, these are not known yet: what
// leads to them stays as it is, and what refuses them is left out.
func (b *Backend) restore(ctx context.Context, have *held) error {
	d, err := dialectOf(b.language, b.settings, kernelnat.State{})
	if err != nil {
		return err
	}
	d.localhost, d.virtual = have.chains[chainLoopback] != nil, rangeOf(b.chooser)
	fixed := b.schema.fixedChains(d)
	batch := newBatch(b.family)
	for name, c := range have.chains {
		if c.based && !slices.ContainsFunc(fixed, func(f chain) bool { return f.name == name }) {
			batch.emptyChain(name)
			batch.deleteChain(name)
		}
	}
	for i := range fixed {
		if fixed[i].name == chainServices && b.settings.NodePorts.Primary {
			continue
		}
		batch.addChain(&fixed[i]) // for its policy
		batch.flushChain(fixed[i].name)
		if err := batch.addRules(&fixed[i]); err != nil {
			return err
		}
	}
	return b.commit(ctx, batch)
}
