package backends

import (
	"context"
	"fmt"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/status"
)

// Drift returns what the first Sync of each family would change in the kernel as it is, what other
// backends and a kube-proxy have left included. It writes nothing.
func (b Backend) Drift(ctx context.Context, states map[cluster.Family]kernelnat.State, settings netfilter.Settings) (map[cluster.Family][]status.Drift, error) {
	out, err := b.drift(ctx, states, settings)
	if err != nil {
		return nil, err
	}
	for family, state := range states {
		nameStrangers(out[family], state.Known)
		for _, other := range all {
			if other.Name == b.Name || other.Name == b.over || state.Incomplete {
				continue
			}
			left, err := other.left(ctx, family)
			if err != nil {
				return nil, fmt.Errorf("look for what the backend %s has left: %w", other.Name, err)
			}
			out[family] = append(left, out[family]...) // as those of no Service are first
		}
	}
	return out, nil
}

// nameStrangers says of what goes that its Service is not known.
func nameStrangers(all []status.Drift, services map[cluster.ServiceName]bool) {
	known := make(map[string]bool, len(services))
	for name := range services {
		known[name.String()] = true
	}
	for i := range all {
		if d := &all[i]; d.Service != "" && !known[d.Service] {
			d.Of = "of a Service that is not known here: an earlier start's, or kube-proxy's"
		}
	}
}
