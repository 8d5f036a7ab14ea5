package nftables

import (
	"net/netip"

	"github.com/clusterip/clusterip/kernelnat/plan"
)

// lingering returns the service as it is between two transactions, for packets that are on their
// way while it is written: with all slots of a frontend, near or far, where it has led to some and
// does not any more, and without having packets dropped that nobody translates, where it has
// led nowhere so far. It returns nil if it needs no transaction of its own.
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
		switch h := had[f.Key]; {
		case h == nil:
		case h.class == 0 && f.class != 0 && f.drops:
			f.drops, lingers = false, true
		case h.class != 0 && f.class != 0:
			stay(&f.near, h.near)
			stay(&f.far, h.far)
			stay(&f.loopback, h.loopback)
		}
		out.frontends[i] = f
	}
	if !lingers {
		return nil
	}
	return out
}
