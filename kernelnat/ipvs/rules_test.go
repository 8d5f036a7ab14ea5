package ipvs

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/backendtest"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// A pool leads to its virtual server, and that to its endpoints.
func TestRules(t *testing.T) {
	p := backendtest.Port(cluster.TCP, netip.MustParseAddrPort("10.43.0.1:80"), netip.MustParseAddrPort("10.42.0.1:8080"), netip.MustParseAddrPort("10.42.0.2:8080"))
	p.Pools[0].Policy, p.Pools[0].Weights = cluster.LC, []cluster.Weight{1, 3}
	sticky := backendtest.Port(cluster.TCP, netip.MustParseAddrPort("10.43.0.2:80"), netip.MustParseAddrPort("10.42.0.3:8080"))
	sticky.Pools[0].Policy, sticky.Pools[0].AffinitySeconds = cluster.LC, 60
	state := kernelnat.State{Services: []plan.Service{backendtest.Named("echo", p), backendtest.Named("sticky", sticky)}}
	var out bytes.Buffer
	if err := Rules(&out, cluster.IPv4, state, settings); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"10.43.0.1 . tcp . 80 . c100:0 : 192.88.99.0 . 1\n", "10.43.0.2 . tcp . 80 . c100:0 : 10.42.0.3 . 8080,\n",
		"10.42.0.1 . 10.42.0.1", "10.42.0.2 . 10.42.0.2", "chain input-virtual {\n\t\ttype filter hook input priority 101; policy accept;\n\t\tct state new ip daddr 192.88.99.0/24 goto refused\n",
		`# ip route add local 192.88.99.0/24 dev lo proto 99
# ipvsadm --restore:
# -A --tcp-service 192.88.99.0:1 -s wlc
# -a --tcp-service 192.88.99.0:1 -r 10.42.0.1:8080 -m -w 1
# -a --tcp-service 192.88.99.0:1 -r 10.42.0.2:8080 -m -w 3
`,
	} {
		if !strings.Contains(strings.ReplaceAll(out.String(), "192.88.99.0 . 1,", "192.88.99.0 . 1"), strings.ReplaceAll(want, "8080,\n", "8080")) {
			t.Errorf("there is no %q in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "192.88.99.0 . 192.88.99.0") {
		t.Errorf("a virtual server is in hairpin:\n%s", out.String())
	}
}
