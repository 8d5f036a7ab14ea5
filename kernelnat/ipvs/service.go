package ipvs

import (
	"cmp"
	"net/netip"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// server is a virtual server, as it is to be or as the kernel has it.
type server struct {
	id
	scheduler string
	reals     []real // sorted
}

// id is what the kernel knows a virtual server by.
type id struct {
	at       netip.AddrPort
	protocol cluster.Protocol
}

// protocols are those that IPVS balances.
var protocols = []cluster.Protocol{cluster.TCP, cluster.UDP, cluster.SCTP}

// real is an endpoint of a virtual server, a real server.
type real struct {
	at     netip.AddrPort
	weight uint32
}

func compareIDs(a, b id) int {
	return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.protocol, b.protocol))
}

func compareReals(a, b real) int { return a.at.Compare(b.at) }

// schedulerOf returns what chooses among a pool's endpoints, and false if that is not IPVS: there
// are none, a client is to keep its endpoint, or the policy is another one. Those schedulers that do
// not look at weights have others beside them that do.
func schedulerOf(p *plan.Pool, local bool) (scheduler string, is bool) {
	if len(p.For(local)) == 0 || p.AffinitySeconds > 0 || !p.Policy.OfIPVS() {
		return "", false
	}
	if p.WeightsFor(local) != nil {
		return weighted(p.Policy).String(), true
	}
	return p.Policy.String(), true
}

// weighted is the policy beside one that looks at weights.
func weighted(p cluster.Policy) cluster.Policy {
	switch p {
	case cluster.RR:
		return cluster.WRR
	case cluster.LC:
		return cluster.WLC
	}
	return p
}

// realsOf returns the endpoints of a pool. The plan has them sorted.
func realsOf(p *plan.Pool, local bool) []real {
	endpoints, weights := p.For(local), p.WeightsFor(local)
	out := make([]real, len(endpoints))
	for i, e := range endpoints {
		out[i] = real{at: e, weight: uint32(cluster.DefaultWeight)}
		if weights != nil {
			out[i].weight = uint32(weights[i])
		}
	}
	return out
}
