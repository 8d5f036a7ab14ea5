package nftables

import (
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/backendtest"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
)

func TestBackend(t *testing.T) {
	backendtest.Run(t, nil, func() error { return nil }, func() (map[cluster.Family]kernelnat.Backend, error) {
		return New(netfilter.Settings{MasqueradeBit: netfilter.DefaultMasqueradeBit})
	})
}
