package ipvs

import (
	"context"
	"errors"
	"net/netip"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// errUnknown is that of a change where the last Sync has not succeeded.
var errUnknown = errors.New("what the kernel has is not known")

// Apply implements kernelnat.Backend.
func (b *Backend) Apply(ctx context.Context, changes []kernelnat.Change) error {
	if !b.known {
		return b.failed("change", errUnknown)
	}
	b.servers.round++
	since := b.servers.round
	if err := b.Backend.Apply(ctx, changes); err != nil {
		b.known = false
		return err
	}
	if err := b.servers.Ready(ctx); err != nil { // where nftables had nothing to write
		return b.failed("change", err)
	}
	for _, c := range changes {
		if _, err := b.servers.finish(ctx, c.New.Name, since, 1<<30); err != nil {
			return b.failed("change", err)
		}
	}
	return nil
}

// work is a large Service on its way.
type work struct {
	kernelnat.Work
	*Backend
	plan  plan.Service
	since int // 0: it has not begun
	led   bool
}

// maxStep is how many endpoints come or go in one step. A message takes some 10 µs.
const maxStep = 500

func (w *work) Service() cluster.ServiceName { return w.plan.Name }

// Step implements kernelnat.Work.
func (w *work) Step(ctx context.Context) (done bool, err error) {
	if !w.known {
		return false, w.failed("change", errUnknown)
	}
	if w.since == 0 {
		w.begin()
	}
	if !w.led {
		if all, err := w.servers.come(ctx, maxStep); err != nil {
			return false, w.failed("change", err)
		} else if !all {
			return false, nil
		}
		if w.led, err = w.Work.Step(ctx); err != nil {
			w.known = false
			return false, err
		}
		return false, nil
	}
	if done, err = w.servers.finish(ctx, w.plan.Name, w.since, maxStep); err != nil {
		return false, w.failed("change", err)
	}
	return done, nil
}

// begin has what comes be noted before nftables asks for it: that is to come in steps.
func (w *work) begin() {
	w.servers.round++
	w.since = w.servers.round
	for i := range w.plan.Pools {
		for _, local := range []bool{false, true} {
			w.servers.Server(w.plan.Name, &w.plan.Pools[i], local, netip.AddrPort{})
		}
	}
}
