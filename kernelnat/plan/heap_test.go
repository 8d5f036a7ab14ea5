package plan_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/clusterip/clusterip/test/clustertest"
)

// What Tables of both families hold for a Service of 10 endpoints of IPv4, beside the Service
// itself. Of that the endpoints are 320 bytes. At 10,000 Services 100 bytes are 1 MB, and 2 MB
// of the process: as much again is garbage before it is collected.
func TestHeap(t *testing.T) {
	const services, endpoints, bound = 4000, 10, 1350
	all := make(map[cluster.ServiceName]*cluster.Service)
	for i := range services {
		s := cluster.Service{Name: named(fmt.Sprint("service-", i)), Kind: cluster.KindClusterIP, Ports: []cluster.Port{{Protocol: cluster.TCP, Port: 80}},
			ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})}}
		slice := &cluster.EndpointSlice{Ports: []cluster.EndpointPort{{Protocol: cluster.TCP, Port: 8080}}}
		var list []cluster.Endpoint
		for e := range endpoints {
			n := i*endpoints + e
			list = append(list, cluster.Endpoint{Addr: netip.AddrFrom4([4]byte{10, 128 | byte(n>>16), byte(n >> 8), byte(n)}), Slice: slice, Ready: true, Serving: true})
		}
		all[s.Name] = cluster.New(s, list)
	}
	held := clustertest.Heap(func() any {
		var tables []*plan.Table
		for _, family := range cluster.Families {
			table := plan.NewTable(family, plan.Options{ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.128.0.0/9")}})
			table.Apply(plan.Update{Services: all})
			tables = append(tables, table)
		}
		return tables
	})
	runtime.KeepAlive(all)
	t.Logf("%d bytes a Service", held/services)
	if held/services > bound {
		t.Errorf("Tables of both families hold %d bytes for a Service, want %d at most", held/services, bound)
	}
}
