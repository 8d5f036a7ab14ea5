package kernelnat

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/conntrack"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// nowhere is a Backend that writes nothing, so that the loop alone is measured.
type nowhere struct{}

func (nowhere) Sync(context.Context, State) ([]string, error)    { return nil, nil }
func (nowhere) Apply(context.Context, []Change) error            { return nil }
func (nowhere) Large(changes []Change) (rest []Change, _ []Work) { return changes, nil }
func (nowhere) Refuse(context.Context, []plan.Range) error       { return nil }
func (nowhere) Forget(*conntrack.Stale, *conntrack.Draining) (func() (uint, error), error) {
	return func() (uint, error) { return 0, nil }, nil
}
func (nowhere) Untouched() bool                     { return true }
func (nowhere) Tables() []string                    { return nil }
func (nowhere) Connections() ([]Connections, error) { return nil, nil }
func (nowhere) Cleanup(context.Context) error       { return nil }
func (nowhere) Close() error                        { return nil }
func (nowhere) Infof(string, ...any)                {}
func (nowhere) Errorf(string, ...any)               {}

// benched is Service i with so many endpoints, with an address and a NodePort for clients
// outside or without.
func benched(i, endpoints int, external bool) cluster.ServiceUpdate {
	name := cluster.ServiceName{Namespace: "testing", Name: fmt.Sprint("service-", i)}
	s := cluster.Service{
		Name: name, Kind: cluster.KindClusterIP, ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 43, byte(i >> 8), byte(i)})},
		Ports: []cluster.Port{{Name: "http", Protocol: cluster.TCP, Port: 80}},
	}
	if external {
		s.External.LoadBalancerIPs = []netip.Addr{netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})}
		s.Ports[0].NodePort = uint16(30000 + i)
	}
	slice := &cluster.EndpointSlice{Ports: []cluster.EndpointPort{{Name: "http", Protocol: cluster.TCP, Port: 8080}}}
	var list []cluster.Endpoint
	for e := range endpoints {
		list = append(list, cluster.Endpoint{Addr: netip.AddrFrom4([4]byte{10, byte(100 + e), byte(i >> 8), byte(i)}), Slice: slice, Ready: true, Serving: true})
	}
	return cluster.ServiceUpdate{Name: name, Service: cluster.New(s, list)}
}

// changing returns a function that changes an endpoint of one Service of so many, by turns.
func changing(t testing.TB, n int, external bool) func() {
	c := New(Options{Family: cluster.IPv4}, nowhere{}, nowhere{})
	apply := func(u cluster.Update) {
		c.enqueue(u)
		if err := c.sync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	first := cluster.Update{Synced: true}
	for i := range n {
		first.Services = append(first.Services, benched(i, 10, external))
	}
	apply(first)
	var updates [2]cluster.Update
	for i := range updates {
		updates[i].Services = []cluster.ServiceUpdate{benched(n/2, 9+i, external)}
	}
	turn := 0
	return func() {
		turn++
		apply(updates[turn%2])
	}
}

// An endpoint that comes or goes costs the loop the same, however many Services there are.
func TestChangeCostsWhatItsServiceCosts(t *testing.T) {
	for _, external := range []bool{false, true} {
		few, many := testing.AllocsPerRun(200, changing(t, 10, external)), testing.AllocsPerRun(200, changing(t, 3000, external))
		if many > few+2 || many > 60 {
			t.Errorf("external %t: %v allocations among 10 Services, %v among 3,000", external, few, many)
		}
	}
}

func BenchmarkChange(b *testing.B) {
	for _, external := range []bool{false, true} {
		for _, n := range []int{100, 10_000} {
			b.Run(fmt.Sprintf("external=%t/services=%d", external, n), func(b *testing.B) {
				change := changing(b, n, external)
				b.ReportAllocs()
				for b.Loop() {
					change()
				}
			})
		}
	}
}
