package nftables

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/backendtest"
	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// Each new connection to a frontend counts once, whoever changes what meanwhile, and also
// that it goes to an endpoint, if this is asked for, and if clients keep theirs.
func TestConnectionsAreCounted(t *testing.T) {
	netlab.Require(t)
	node, err := netlab.NewNode()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { node.Close() })
	var pods []netip.AddrPort
	var client *netlab.Host
	for _, name := range []string{"a", "b", "client"} {
		pod, err := node.AddPod(name, netip.MustParseAddr("10.42.0.1"+map[string]string{"a": "1", "b": "2", "client": "3"}[name]), netip.MustParseAddr("fd00:10:42::"+map[string]string{"a": "a", "b": "b", "client": "c"}[name]))
		if err != nil {
			t.Fatal(err)
		}
		if client = pod; name == "client" {
			break
		}
		if err := pod.ServeTCP(5678); err != nil {
			t.Fatal(err)
		}
		pods = append(pods, netip.AddrPortFrom(pod.Addr(cluster.IPv4), 5678))
	}
	vip, nodePort := netip.MustParseAddrPort("10.43.0.10:80"), netip.AddrPortFrom(node.Addr(cluster.IPv4), 30080)
	sticky := uint32(0)
	with := func(endpoints ...netip.AddrPort) plan.Service {
		p := backendtest.Port(cluster.TCP, vip, endpoints...)
		p.Pools[0].Port, p.Pools[0].AffinitySeconds = "http", sticky
		return backendtest.Named("echo", backendtest.Outside{NodePort: nodePort.Port(), Verdict: plan.Forward}.Add(p))
	}
	counting := settings
	for round, endpoints := range []bool{false, true, true} {
		counting.CountEndpoints = endpoints
		sticky = uint32(round / 2 * 60)
		b := newBackend(t, cluster.IPv4, counting)
		do := func(f func() error) {
			t.Helper()
			if err := node.Do(f); err != nil {
				t.Fatal(err)
			}
		}
		ask := func(to netip.AddrPort, times int) {
			t.Helper()
			for range times {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				if _, err := client.Ask(ctx, "tcp", to); err != nil {
					t.Fatal(err)
				}
				cancel()
			}
		}
		do(func() error {
			_, err := b.Sync(t.Context(), kernelnat.State{Services: []plan.Service{with(pods...)}})
			return err
		})
		ask(vip, 7)
		ask(nodePort, 3)
		do(func() error {
			return b.Apply(t.Context(), []kernelnat.Change{{Old: with(pods...), New: with(pods[0])}})
		})
		ask(vip, 5)
		var got []kernelnat.Connections
		do(func() (err error) { got, err = b.Connections(); return err })
		of := kernelnat.Connections{Service: with().Name, Port: "http"}
		sum := uint64(0)
		for _, c := range got {
			switch {
			case c.Service != of.Service || c.Port != of.Port:
				t.Errorf("counted %+v", c)
			case c.Endpoint.IsValid():
				sum += c.Count
			case c.Count != uint64(15*(round+1)):
				t.Errorf("%d connections in round %d", c.Count, round)
			}
		}
		// What went to the endpoint that is gone is gone with it.
		if n := uint64(round); sum < 5*n || sum > 15*n {
			t.Errorf("%d connections to endpoints", sum)
		}
		b.Close()
	}
}
