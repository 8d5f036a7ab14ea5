package zone

import (
	"net/netip"
	"slices"
)

// holders maps addresses to those who have them: mostly one, more on a node whose
// address its pods share.
type holders[T any] struct{ table[[]*T] }

func hold[T any](e *edit[[]*T], ip netip.Addr, holder *T) {
	all, _ := e.get(ip)
	e.put(ip, append(slices.Clip(all), holder))
}

func release[T any](e *edit[[]*T], ip netip.Addr, holder *T) {
	all, _ := e.get(ip)
	all = slices.DeleteFunc(slices.Clone(all), func(h *T) bool { return h == holder })
	if len(all) == 0 {
		e.remove(ip)
		return
	}
	e.put(ip, slices.Clip(all))
}
