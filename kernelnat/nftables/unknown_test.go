package nftables

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/backendtest"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// What a Service that is not known shares with others, which are, stays when those go.
func TestUnknownServicesKeepWhatTheyShare(t *testing.T) {
	h := newHost(t)
	port := func(n, endpoints int) plan.Service {
		var all []netip.AddrPort
		for e := range endpoints {
			all = append(all, endpointOf(e+1))
		}
		return backendtest.Port(cluster.TCP, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 43, 0, byte(n)}), 80), all...)
	}
	unknown := backendtest.Named("unknown", port(200, 5))
	// With each another number of slots, there are more classes than may be idle.
	state := kernelnat.State{Incomplete: true, Known: make(map[cluster.ServiceName]bool)}
	var gone []kernelnat.Change
	for n := range maxIdle + 2 {
		known := backendtest.Named(fmt.Sprint("known-", n), port(n+1, n+1))
		state.Services, state.Known[known.Name] = append(state.Services, known), true
		gone = append(gone, kernelnat.Change{Old: known, New: plan.Service{Name: known.Name}})
	}
	h.synced(kernelnat.State{Services: append(state.Services[:len(state.Services):len(state.Services)], unknown)}, cluster.IPv4)

	b := newBackend(t, cluster.IPv4, settings)
	h.do(func() error { _, err := b.Sync(t.Context(), state); return err })
	h.do(func() error { return b.Apply(t.Context(), gone) })
	h.do(func() error { return b.Apply(t.Context(), nil) }) // removes what is idle
	pairs := h.nft("", "list", "set", "ip", tableName, "hairpin")
	for e := range 6 {
		pair := fmt.Sprintf("%s . %[1]s", endpointOf(e+1).Addr())
		if there := strings.Contains(pairs, pair); there != (e < 5) {
			t.Errorf("%s is in hairpin: %t", pair, there)
		}
	}
	b.Close()
	for _, written := range h.synced(kernelnat.State{Services: []plan.Service{unknown}}, cluster.IPv4) {
		if strings.HasPrefix(written, "elements of") && !strings.Contains(written, "nobody's") || strings.HasPrefix(written, "chain ") {
			t.Errorf("a start that knows the Service writes %q", written)
		}
	}
}
