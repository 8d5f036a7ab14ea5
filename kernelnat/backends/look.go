package backends

import (
	"context"
	"net/netip"

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
			return held, b.Name, b.lookAround(held, family, p)
		}
	}
	return nil, name, nil
}

// maxRouted is how many endpoints of a pool are asked the way to.
const maxRouted = 100

// lookAround reads what else packets to the Service meet on this machine.
func (b Backend) lookAround(held *status.Kernel, family cluster.Family, p plan.Service) (err error) {
	if sysctl, off := netfilter.Forwarding(family); off {
		held.ForwardingOff = sysctl
	}
	var endpoints []plan.Key
	var addrs []netip.Addr
	for i := range p.Pools {
		for _, local := range []bool{false, true} {
			all := p.Pools[i].For(local)
			for _, e := range all[:min(len(all), maxRouted)] {
				endpoints, addrs = append(endpoints, plan.Key{At: e, Protocol: p.Pools[i].Protocol}), append(addrs, e.Addr())
			}
		}
	}
	if held.Others, err = netfilter.Others(family, b.Name == Default); err != nil {
		return err
	}
	drops, err := netfilter.FindDrops(family)
	if err != nil {
		return err
	}
	held.ForwardDrops = drops.Forward
	if held.Entry = b.Entry(family); held.Entry.IsValid() {
		held.InputDrops = drops.Input
	}
	if held.Unrouted, err = netfilter.Unrouted(addrs); err != nil {
		return err
	}
	held.Silent, err = netfilter.Silent(endpoints)
	return err
}
