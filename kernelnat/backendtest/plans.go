package backendtest

import (
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// Port is the plan of one port that forwards from a ClusterIP to endpoints.
func Port(protocol cluster.Protocol, at netip.AddrPort, endpoints ...netip.AddrPort) plan.Service {
	return plan.Service{
		Frontends: []plan.Frontend{{Key: plan.Key{At: at, Protocol: protocol}, Kind: plan.ClusterIP, Verdict: plan.Forward, Treatment: new(plan.Treatment)}},
		Pools:     []plan.Pool{{Protocol: protocol, Endpoints: endpoints}},
	}
}

// Named is a Service with all these ports, which may be of both families.
func Named(name string, ports ...plan.Service) plan.Service {
	out := plan.Service{Name: cluster.ServiceName{Namespace: "testing", Name: name}}
	for _, p := range ports {
		for _, f := range p.Frontends {
			f.Pool += len(out.Pools)
			out.Frontends = append(out.Frontends, f)
		}
		out.Pools = append(out.Pools, p.Pools...)
	}
	return out
}

// Part is what concerns one family of a Service with ports in both.
func Part(service plan.Service, family cluster.Family) plan.Service {
	var ports []plan.Service
	for i := range service.Pools {
		if of := service.Of(i); len(of) > 0 && cluster.FamilyOf(of[0].At.Addr()) == family {
			port := plan.Service{Frontends: slices.Clone(of), Pools: service.Pools[i : i+1]}
			for j := range port.Frontends {
				port.Frontends[j].Pool = 0
			}
			ports = append(ports, port)
		}
	}
	out := Named("", ports...)
	out.Name = service.Name
	return out
}

// Outside is how clients outside the cluster reach a port.
type Outside struct {
	plan.Treatment     // of all but Sources and FromNode, which are of load balancers alone
	Verdict            plan.Verdict
	NodePort           uint16
	IPs, LoadBalancers []netip.Addr
}

// Add gives a port these frontends as well.
func (o Outside) Add(port plan.Service) plan.Service {
	everybody := o.Treatment
	everybody.Masquerade.All, everybody.Sources, everybody.FromNode = !o.Local, nil, false
	restricted := everybody
	restricted.Sources, restricted.FromNode = o.Sources, o.FromNode
	first := port.Frontends[0]
	add := func(key plan.Key, kind plan.Kind, t *plan.Treatment) {
		port.Frontends = append(port.Frontends, plan.Frontend{Key: key, Kind: kind, Verdict: o.Verdict, Treatment: t})
	}
	at := func(ip netip.Addr) plan.Key {
		return plan.Key{At: netip.AddrPortFrom(ip, first.At.Port()), Protocol: first.Protocol}
	}
	for _, ip := range o.IPs {
		add(at(ip), plan.ExternalIP, &everybody)
	}
	for _, ip := range o.LoadBalancers {
		add(at(ip), plan.LoadBalancer, &restricted)
	}
	if o.NodePort != 0 {
		add(plan.NodePortKey(cluster.FamilyOf(first.At.Addr()), o.NodePort, first.Protocol), plan.NodePort, &everybody)
	}
	return port
}
