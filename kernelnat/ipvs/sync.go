package ipvs

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// Sync implements kernelnat.Backend. It reads all virtual servers of its range, which are ours
// alone; others stay. While nftables plans, it says which virtual servers it leads to; those come
// before it writes, and what nobody leads to any more goes after it.
func (b *Backend) Sync(ctx context.Context, state kernelnat.State) ([]string, error) {
	b.known = false
	if err := prepare(b.servers.within, b.counting); err != nil {
		none := errors.Is(err, errNotLoaded) || errors.Is(err, errNoConntrack)
		if none || slices.ContainsFunc(state.Services, func(s plan.Service) bool { return len(s.Frontends) > 0 }) {
			return nil, b.failed("prepare this node for", err)
		}
		return b.Backend.Sync(ctx, state) // a host without IPv6, say
	}
	held, err := readHeld(b.servers.within)
	if err != nil {
		return nil, b.failed("read", err)
	}
	before := len(held)
	b.servers.begin(held)
	written, err := b.Backend.Sync(ctx, state)
	if err != nil {
		return written, err
	}
	if err := b.servers.Ready(ctx); err != nil {
		return written, b.failed("write", err)
	}
	removed, err := b.servers.end(ctx)
	if err != nil {
		return written, b.failed("write", err)
	}
	b.known = true
	if came := len(held) + removed - before; came > 0 {
		written = append(written, fmt.Sprintf("virtual servers (%d)", came))
	}
	if removed > 0 {
		written = append(written, fmt.Sprintf("virtual servers that are nobody's (%d)", removed))
	}
	return written, nil
}
