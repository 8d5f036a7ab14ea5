package nftables

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/backendtest"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/google/go-cmp/cmp"
)

// withEndpoints has a port at the n-th address that leads to so many endpoints.
func withEndpoints(n, endpoints int) plan.Service {
	var all []netip.AddrPort
	for e := range endpoints {
		all = append(all, endpointOf(e+1))
	}
	return backendtest.Port(cluster.TCP, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 43, 0, byte(n)}), 80), all...)
}

// What a Service that is not known shares with others, which are, stays when those go.
func TestUnknownServicesKeepWhatTheyShare(t *testing.T) {
	h := newHost(t)
	unknown := backendtest.Named("unknown", withEndpoints(200, 5))
	// With each another number of slots, there are more classes than may be idle.
	state := kernelnat.State{Incomplete: true, Known: make(map[cluster.ServiceName]bool)}
	var gone []kernelnat.Change
	for n := range maxIdle + 2 {
		known := backendtest.Named(fmt.Sprint("known-", n), withEndpoints(n+1, n+1))
		state.Services, state.Known[known.Name] = append(state.Services, known), true
		gone = append(gone, kernelnat.Change{Old: known, New: plan.Service{Name: known.Name}})
	}
	h.synced(kernelnat.State{Services: append(slices.Clip(state.Services), unknown)}, cluster.IPv4)

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

// The chain of a class that only a Service has that is not known is used, and left, by others that
// come later. Its rules are written no second time, and the unknown Service keeps it.
func TestUnknownServicesShareTheirClass(t *testing.T) {
	h, b := newHost(t), newBackend(t, cluster.IPv4, settings)
	unknown := backendtest.Named("unknown", withEndpoints(200, 5))
	h.synced(kernelnat.State{Services: []plan.Service{unknown}}, cluster.IPv4)
	h.do(func() error { _, err := b.Sync(t.Context(), kernelnat.State{Incomplete: true}); return err })
	want, rules := listed(h), h.nft("", "list", "chain", "ip", tableName, "plain-5")

	var come, gone []kernelnat.Change
	for n := range maxIdle + 2 {
		late := backendtest.Named(fmt.Sprint("late-", n), withEndpoints(n+1, n+1))
		come = append(come, kernelnat.Change{New: late})
		gone = append(gone, kernelnat.Change{Old: late, New: plan.Service{Name: late.Name}})
	}
	h.do(func() error { return b.Apply(t.Context(), come) })
	if diff := cmp.Diff(rules, h.nft("", "list", "chain", "ip", tableName, "plain-5")); diff != "" {
		t.Errorf("once others have come: %s", diff)
	}
	h.do(func() error { return b.Apply(t.Context(), gone) })
	h.do(func() error { return b.Apply(t.Context(), nil) }) // removes what is idle
	if diff := cmp.Diff(want, listed(h)); diff != "" {
		t.Errorf("once others have come and gone: %s", diff)
	}
	b.Close()
	if written := h.synced(kernelnat.State{Services: []plan.Service{unknown}}, cluster.IPv4); len(written) > 0 {
		t.Errorf("a start that knows the Service writes %q", written)
	}
}

// A Sync that breaks off may have written a class that nobody has then. When that comes to be used,
// its rules are there once, whichever message it was.
func TestClassOfABrokenSync(t *testing.T) {
	late := backendtest.Named("late", withEndpoints(1, 5))
	for message := 1; ; message++ {
		h, b := newHost(t), newBackend(t, cluster.IPv4, settings)
		h.do(b.open)
		way := &flaky{RawConn: b.socket.raw, next: unconfirms, left: message}
		b.socket.raw = way
		sync := func(s kernelnat.State) (err error) {
			h.do(func() error { _, err = b.Sync(t.Context(), s); return nil })
			return err
		}
		if err := sync(kernelnat.State{Services: []plan.Service{late}}); err == nil {
			if message < 7 {
				t.Errorf("there were only %d messages", message-1)
			}
			return
		}
		if err := sync(kernelnat.State{Incomplete: true}); err != nil {
			t.Fatal(err)
		}
		h.do(func() error { return b.Apply(t.Context(), []kernelnat.Change{{New: late}}) })
		b.Close()
		if written := h.synced(kernelnat.State{Services: []plan.Service{late}}, cluster.IPv4); len(written) > 0 {
			t.Errorf("broken at message %d, a start writes %q", message, written)
		}
	}
}
