package nftables

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/backendtest"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// A frontend for endpoints on this node has its packets dropped if nobody translates them. A
// write that gives it its first endpoints, or takes the last ones, has the kernel drop them only
// while it translates others: whichever transaction is the last, they are refused.
func TestNoDropBesideAWrite(t *testing.T) {
	endpoints := []netip.AddrPort{endpointOf(1), endpointOf(2)}
	service := func(drops bool) kernelnat.State {
		port := backendtest.Port(cluster.TCP, netip.MustParseAddrPort("10.43.0.200:80"), endpoints...)
		outside := backendtest.Outside{IPs: []netip.Addr{netip.MustParseAddr("198.51.100.7")}, Verdict: plan.Reject}
		if !drops {
			port.Pools[0], port.Frontends[0].Verdict = plan.Pool{Port: port.Pools[0].Port, Protocol: cluster.TCP}, plan.Reject
			return kernelnat.State{Services: []plan.Service{backendtest.Named("web", outside.Add(port))}}
		}
		outside.Verdict, outside.Local, port.Pools[0].Local = plan.Forward, true, endpoints[:1]
		return kernelnat.State{Services: []plan.Service{backendtest.Named("web", outside.Add(port))}}
	}
	for _, drops := range []bool{true, false} {
		before, after := service(!drops), service(drops)
		for name, write := range map[string]func(b *Backend) error{
			"sync": func(b *Backend) error { b.state = nil; _, err := b.Sync(t.Context(), after); return err },
			"apply": func(b *Backend) error {
				return b.Apply(t.Context(), []kernelnat.Change{{Old: before.Services[0], New: after.Services[0]}})
			},
		} {
			for message := 1; ; message++ {
				h, b := newHost(t), newBackend(t, cluster.IPv4, settings)
				h.do(func() error { _, err := b.Sync(t.Context(), before); return err })
				b.socket.raw = &flaky{RawConn: b.socket.raw, next: unconfirms, left: message}
				var err error
				h.do(func() error { err = write(b); return nil })
				in := func(set string) bool {
					return strings.Contains(h.nft("", "list", "set", "ip", tableName, set), "198.51.100.7")
				}
				translated := strings.Contains(h.nft("", "list", "map", "ip", tableName, "frontends"), "198.51.100.7")
				if in("drops") && !translated {
					t.Errorf("%s to drops: %v, broken after message %d: packets that nobody translates are dropped", name, drops, message)
				}
				if b.Close(); err == nil {
					if in("drops") != drops || translated != drops || message < 2 {
						t.Errorf("%s to drops: %v: after %d messages the kernel drops %v, translates %v", name, drops, message-1, in("drops"), translated)
					}
					break
				}
			}
		}
	}
}
