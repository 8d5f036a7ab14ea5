package backends

import (
	"context"
	"fmt"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/status"
)

// Drift returns what the first Sync of one family would change in the kernel as it is, what other
// backends and a kube-proxy have left included. It writes nothing.
func (b Backend) Drift(ctx context.Context, family cluster.Family, state kernelnat.State, settings netfilter.Settings) ([]status.Drift, error) {
	out, err := b.drift(ctx, family, state, settings)
	if err != nil {
		return nil, err
	}
	known := make(map[string]bool, len(state.Known))
	for name := range state.Known {
		known[name.String()] = true
	}
	for i := range out {
		if d := &out[i]; d.Service != "" && !known[d.Service] {
			d.Of = "of a Service that is not known here: an earlier start's, or kube-proxy's"
		}
	}
	if state.Incomplete {
		return out, nil
	}
	for _, other := range all {
		if other.Name == b.Name {
			continue
		}
		left, err := other.left(ctx, family)
		if err != nil {
			return nil, fmt.Errorf("look for what the backend %s has left: %w", other.Name, err)
		}
		out = append(left, out...) // as those of no Service are first
	}
	return out, nil
}
