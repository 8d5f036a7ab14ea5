package nftables

import (
	"net/netip"

	"github.com/clusterip/clusterip/kernelnat/plan"
)

// lingering returns the service with the slots beside it that packets may be on their way to
// while it is written: all of a frontend, near or far, where it has led to some and does not any
// more. They go in a transaction of their own. It returns nil if there are none.
func (s *service) lingering(held *service) *service {
	if held == nil {
		return nil
	}
	had := make(map[plan.Key]*frontend, len(held.frontends))
	for i := range held.frontends {
		had[held.frontends[i].Key] = &held.frontends[i]
	}
	out, lingers := &service{frontends: make([]frontend, len(s.frontends)), pools: s.pools}, false
	stay := func(slots *[]netip.AddrPort, before []netip.AddrPort) {
		if len(*slots) == 0 && len(before) > 0 {
			*slots, lingers = before, true
		}
	}
	for i, f := range s.frontends {
		if h := had[f.Key]; h != nil && h.class != 0 && f.class != 0 {
			stay(&f.near, h.near)
			stay(&f.far, h.far)
		}
		out.frontends[i] = f
	}
	if !lingers {
		return nil
	}
	return out
}
