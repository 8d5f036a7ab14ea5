package ipvs

import (
	"testing"

	"github.com/clusterip/clusterip/cluster"
)

func TestProxySet(t *testing.T) {
	for _, c := range []struct {
		family     cluster.Family
		name, want string
	}{
		{cluster.IPv4, "KUBE-LOAD-BALANCER-SOURCE-CIDR", "KUBE-LOAD-BALANCER-SOURCE-CIDR"},
		{cluster.IPv6, "KUBE-CLUSTER-IP", "KUBE-6-CLUSTER-IP"},
		// As kube-proxy cuts it.
		{cluster.IPv6, "KUBE-LOAD-BALANCER-SOURCE-CIDR", "KUBE-6-LOAD-BALANCER-SOURCE-CID"},
	} {
		if got := proxySet(c.family, c.name); got != c.want {
			t.Errorf("%s of %s is called %s, want %s", c.name, c.family, got, c.want)
		}
	}
}
