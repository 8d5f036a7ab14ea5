package nftables

import (
	"context"
	"fmt"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/clusterip/clusterip/status"
)

// Drift returns what the Sync of a process that starts now would write of each family, by a Sync
// that writes to a record. It writes nothing to the kernel.
func Drift(ctx context.Context, states map[cluster.Family]kernelnat.State, settings netfilter.Settings) (map[cluster.Family][]status.Drift, error) {
	return DriftFor(ctx, states, settings, nil)
}

// DriftFor is Drift with a Chooser for each IP family, whose Ready is not called.
func DriftFor(_ context.Context, states map[cluster.Family]kernelnat.State, settings netfilter.Settings, choosers map[cluster.Family]Chooser) (map[cluster.Family][]status.Drift, error) {
	out := make(map[cluster.Family][]status.Drift)
	for family, state := range states {
		var err error
		if out[family], err = drift(family, state, settings, choosers[family]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func drift(family cluster.Family, state kernelnat.State, settings netfilter.Settings, chooser Chooser) ([]status.Drift, error) {
	b := &Backend{language: language{family}, settings: settings, schema: newSchema(family, settings.CountEndpoints), chooser: chooser}
	have, err := b.readHeld()
	if unsupported(err) && !slices.ContainsFunc(state.Services, func(s plan.Service) bool { return len(s.Frontends) > 0 }) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("read table %s of nftables for %s: %w", tableName, family, err)
	}
	if b.dialect, err = dialectOf(b.language, settings, state); err != nil {
		return nil, err
	}
	b.dialect.virtual = rangeOf(chooser)
	b.dialect.localhost = b.dialect.localhost && netfilter.MayRouteLocalnet()
	s := b.session(have)
	table := b.thing("table", "")
	var out []status.Drift
	if have.there && !s.fits(b.dialect) {
		out = append(out, status.Drift{Change: status.DriftRemove, Text: table, Of: "of another layout"})
		s.have, have.there = newHeld(), false
	}
	if !have.there {
		out = append(out, status.Drift{Change: status.DriftAdd, Text: table})
	}
	r := newRecord(b.language, b.schema, s.have, state.Services)
	s.batch, s.send = r, func() error { return nil }
	if err := s.sync(state); err != nil {
		return nil, err
	}
	return append(out, r.drift()...), nil
}

// Left returns, as Drift does, what Cleanup would remove.
func Left(_ context.Context, family cluster.Family) ([]status.Drift, error) {
	b := &Backend{language: language{family}}
	if err := b.open(); err != nil {
		return nil, err
	}
	defer b.Close()
	h := new(held)
	if err := b.socket.readTable(b.language, h); err != nil && !unsupported(err) {
		return nil, err
	}
	if !h.there {
		return nil, nil
	}
	return []status.Drift{{Change: status.DriftRemove, Text: b.thing("table", ""), Of: "of the backend nftables"}}, nil
}

// readHeld reads what the kernel holds, over a socket of its own.
func (b *Backend) readHeld() (*held, error) {
	if err := b.open(); err != nil {
		return nil, err
	}
	defer b.Close()
	return b.readTwice()
}
