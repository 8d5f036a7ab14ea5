package iptables

import (
	"testing"

	"github.com/clusterip/clusterip/cluster"
)

func TestNames(t *testing.T) {
	name := portName(cluster.ServiceName{Namespace: "testing", Name: "echo-server-clusterip"}, "")
	for _, c := range []struct{ got, want string }{
		{prefixService + hash(name, "tcp"), "KUBE-SVC-EF6QQNEDGUCXH6TD"},
		{prefixEndpoint + hash(name, "tcp", "10.42.0.49:5678"), "KUBE-SEP-OCROO4CKUGE2RS3Z"},
		{prefixEndpoint + hash(name, "tcp", "10.42.1.63:5678"), "KUBE-SEP-BVKDY2MCK3ZCK2TS"},
		{prefixEndpoint + hash(name, "tcp", "10.42.1.64:5678"), "KUBE-SEP-XTMO5XT2DVXLF33I"},
		{portName(cluster.ServiceName{Namespace: "kube-system", Name: "kube-dns"}, "dns"), "kube-system/kube-dns:dns"},
	} {
		if c.got != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
}

func TestRank(t *testing.T) {
	for chain, want := range map[string]int{
		"KUBE-SVC-0A": 0, "KUBE-FW-A": 1, "KUBE-EXT-A": 2, "KUBE-SVC-A": 3, "KUBE-SVL-A": 4, "KUBE-SEP-A": 5,
		"KUBE-SERVICES": -1, "KUBE-FIREWALL": -1, "KUBE-KUBELET-CANARY": -1, "OTHER-KUBE-SVC-A": -1,
	} {
		if got := rank(chain); got != want {
			t.Errorf("rank(%s) = %d, want %d", chain, got, want)
		}
	}
}
