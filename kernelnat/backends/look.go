package backends

import (
	"context"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/clusterip/clusterip/status"
)

// Look reads what the kernel holds of one Service, and by which backend: for Auto the one whose
// rules are there. It returns nil if there are none. It writes nothing.
func Look(ctx context.Context, name string, family cluster.Family, p plan.Service, state kernelnat.State, settings netfilter.Settings) (held *status.Kernel, by string, err error) {
	for _, b := range all {
		if name != Auto && name != b.Name {
			continue
		}
		if held, err = b.Look(ctx, family, p, state, settings); err != nil {
			return nil, b.Name, err
		}
		if held != nil {
			held.Others, err = netfilter.Others(family, b.Name == Default)
			return held, b.Name, err
		}
	}
	return nil, name, nil
}
