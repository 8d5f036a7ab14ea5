package plan

import (
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
)

// weighty leaves endpoints of weight 0 out if another has a weight. Where none has, they
// are all the same: a weight takes new connections away from an endpoint, and never from
// a Service.
func (c *choice) weighty(all []cluster.Endpoint) []cluster.Endpoint {
	if c.weight == nil || !slices.ContainsFunc(all, func(e cluster.Endpoint) bool { return c.weight(&e) > 0 }) {
		return all
	}
	return c.keep(all, func(e *cluster.Endpoint) Reason {
		if c.weight(e) == 0 {
			return Weightless
		}
		return 0
	})
}

// weights returns what each target weighs that the port has at these endpoints: the most,
// of several endpoints at one target. It is nil if all weigh the same.
func (c *choice) weights(targets []netip.AddrPort, among []cluster.Endpoint, port cluster.Port) []cluster.Weight {
	if c.weight == nil || len(targets) < 2 {
		return nil
	}
	out := make([]cluster.Weight, len(targets))
	for i := range among {
		number, _ := c.number(&among[i], port)
		if at, chosen := slices.BinarySearchFunc(targets, netip.AddrPortFrom(among[i].Addr, number), netip.AddrPort.Compare); chosen {
			out[at] = max(out[at], c.weight(&among[i]))
		}
	}
	if slices.Min(out) == slices.Max(out) {
		return nil
	}
	return out
}
