package nftables

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/backendtest"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/clusterip/clusterip/test/clustertest"
)

// What is held for a Service of 10 endpoints beside its plan, whose endpoints are the slots.
// A third of it are the addresses in hairpin.
func TestHeap(t *testing.T) {
	const services, endpoints, bound = 4000, 10, 1020
	var plans []plan.Service
	for i := range services {
		var all []netip.AddrPort
		for e := range endpoints {
			n := i*endpoints + e
			all = append(all, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 128 | byte(n>>16), byte(n >> 8), byte(n)}), 8080))
		}
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 43, byte(i >> 8), byte(i)}), 80)
		plans = append(plans, backendtest.Named(fmt.Sprint("service-", i), backendtest.Port(cluster.TCP, at, all...)))
	}
	held := clustertest.Heap(func() any {
		s := newState(newSchema(cluster.IPv4, false))
		for i := range plans {
			next := s.target(nil, &plans[i])
			s.change(new(tally), nil, next)
			s.services[plans[i].Name] = next
		}
		return s
	})
	runtime.KeepAlive(plans)
	t.Logf("%d bytes a Service", held/services)
	if held/services > bound {
		t.Errorf("%d bytes are held for a Service, want %d at most", held/services, bound)
	}
}
