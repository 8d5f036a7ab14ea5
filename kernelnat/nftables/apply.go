package nftables

import (
	"context"
	"errors"
	"fmt"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
)

// maxIdle is how many chains may be there for classes that no frontend has any more. A number
// of endpoints comes again.
const maxIdle = 64

// Apply implements kernelnat.Backend. It makes one transaction, or several where there are
// many changes, each Service whole.
func (b *Backend) Apply(ctx context.Context, changes []kernelnat.Change) error {
	if err := b.apply(ctx, changes); err != nil {
		b.state = nil
		return fmt.Errorf("change nftables for %s: %w", b.family, err)
	}
	return nil
}

func (b *Backend) apply(ctx context.Context, changes []kernelnat.Change) error {
	if b.state == nil {
		return errors.New("nothing could be written at the start")
	}
	// What the last change has left: packets may have been on their way there.
	if err := b.removeIdle(ctx); err != nil {
		return err
	}
	batch := newBatch(b.family)
	after := make(map[cluster.ServiceName]*service) // Services as they are once nothing lingers
	for i := range changes {
		var next *service
		if p := &changes[i].New; len(p.Frontends) > 0 {
			held := b.state.services[p.Name]
			next = b.state.target(held, p)
			if l := next.lingering(held); l != nil {
				after[p.Name], next = next, l
			}
		}
		b.changeTo(batch, changes[i].New.Name, next)
		if batch.elements() >= maxCommit {
			if err := b.commitInOrder(ctx, batch, after); err != nil {
				return err
			}
			batch.reset()
			clear(after)
		}
	}
	return b.commitInOrder(ctx, batch, after)
}

// commitInOrder makes a transaction, and then one that takes out what lingers.
func (b *Backend) commitInOrder(ctx context.Context, first *batch, after map[cluster.ServiceName]*service) error {
	if err := b.commitClasses(ctx, first); err != nil || len(after) == 0 {
		return err
	}
	second := newBatch(b.family)
	for name, next := range after {
		b.changeTo(second, name, next)
	}
	return b.commit(ctx, second)
}

// changeTo adds what makes a Service so; nil removes it.
func (b *Backend) changeTo(batch *batch, name cluster.ServiceName, next *service) {
	b.state.change(&over{batch, b.state.kept}, b.state.services[name], next)
	if next == nil {
		delete(b.state.services, name)
	} else {
		b.state.services[name] = next
	}
}

// over is a writer that replaces what is kept for Services that were not known.
type over struct {
	*batch
	kept map[*set]map[string]bool
}

func (o *over) put(s *set, key, data []byte, comment string) {
	if o.kept[s][string(key)] {
		delete(o.kept[s], string(key))
		o.batch.remove(s, key)
	}
	o.batch.put(s, key, data, comment)
}

// commitClasses makes a transaction, and one before it with the classes that are new. A
// packet goes through chains as they were when it came to the first one, but it looks up
// what sets have now: in the same transaction, it could be led to a chain that is empty to it.
func (b *Backend) commitClasses(ctx context.Context, batch *batch) error {
	if len(b.state.fresh) > 0 {
		if err := b.addClasses(ctx); err != nil {
			return err
		}
	}
	return b.commit(ctx, batch)
}

func (b *Backend) addClasses(ctx context.Context) error {
	batch := newBatch(b.family)
	for _, number := range b.state.fresh {
		of := b.state.classIDs[number]
		c := b.schema.classChain(b.dialect, of)
		batch.addChain(&c)
		batch.flushChain(c.name) // it may be kept for unknown Services
		if err := batch.addRules(&c); err != nil {
			return err
		}
		for _, set := range b.schema.classesOf(of) {
			batch.put(set, appendNumber(nil, number), []byte(c.name), "")
		}
		if batch.large() {
			if err := b.commit(ctx, batch); err != nil {
				return err
			}
			batch.reset()
		}
	}
	b.state.fresh = nil
	return b.commit(ctx, batch)
}

// removeIdle removes the chains of classes that no frontend has, if they are many. Those that
// unknown Services have stay.
func (b *Backend) removeIdle(ctx context.Context) error {
	if b.state.idle <= maxIdle {
		return nil
	}
	batch := newBatch(b.family)
	for c, used := range b.state.classes {
		if used.frontends > 0 {
			continue
		}
		if _, kept := b.state.named[c.name()]; kept {
			continue
		}
		for _, set := range b.schema.classesOf(c) {
			batch.remove(set, appendNumber(nil, used.id))
		}
		batch.deleteChain(c.name())
		b.state.forgetClass(c)
		if batch.large() {
			if err := b.commit(ctx, batch); err != nil {
				return err
			}
			batch.reset()
		}
	}
	return b.commit(ctx, batch)
}
