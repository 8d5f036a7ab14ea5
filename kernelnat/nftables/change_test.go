package nftables

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/backendtest"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// tally counts elements that come and go.
type tally int

func (t *tally) put(*set, []byte, []byte, string) { *t++ }
func (t *tally) remove(*set, []byte)              { *t++ }

// One endpoint that comes or goes is a few elements for each frontend, however many endpoints
// there are.
func TestElementsOfOneEndpoint(t *testing.T) {
	for _, frontends := range []int{1, 3, 10} {
		for _, endpoints := range []int{2, 10, 5000} {
			t.Run(fmt.Sprintf("%d frontends, %d endpoints", frontends, endpoints), func(t *testing.T) {
				with := func(without int) plan.Service {
					var all []netip.AddrPort
					for i := range endpoints {
						if i != without {
							all = append(all, endpointOf(i))
						}
					}
					p := backendtest.Port(cluster.TCP, netip.MustParseAddrPort("10.43.0.1:80"), all...)
					o := backendtest.Outside{Verdict: plan.Forward}
					for i := range frontends - 1 {
						o.LoadBalancers = append(o.LoadBalancers, netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}))
					}
					return backendtest.Named("echo", o.Add(p))
				}
				s := newState(newSchema(cluster.IPv4, false))
				var written tally
				step := func(p plan.Service) (elements int) {
					written = 0
					next := s.target(s.services[p.Name], &p)
					s.change(&written, s.services[p.Name], next)
					s.services[p.Name] = next
					return int(written)
				}
				step(with(-1))
				// A slot that is emptied and filled by the last one, and a class that is
				// replaced, are 2 + 1 and 2. The endpoint itself is one of hairpin.
				const each, once = 5, 1
				for _, without := range []int{0, -1, endpoints / 2, -1, endpoints - 1, -1} {
					if n := step(with(without)); n > frontends*each+once {
						t.Errorf("without %d: %d elements come or go", without, n)
					}
				}
				if n := step(with(-1)); n != 0 {
					t.Errorf("%d elements of the same plan come or go", n)
				}
			})
		}
	}
}
