package plan

import (
	"net/netip"

	"github.com/clusterip/clusterip/cluster"
)

// HealthCheck is what load balancers are told that ask whether this node has endpoints of
// a Service (healthCheckNodePort). The zero value: nobody asks.
type HealthCheck struct {
	NodePort uint16
	Local    int // ready endpoints on this node
}

// HealthCheckOf returns that of a Service, which may be nil, in one IP family on a node. It
// depends on this Service alone, so the answer need not wait until rules are written.
func HealthCheckOf(service *cluster.Service, family cluster.Family, node Node, options Options) HealthCheck {
	if service == nil || service.External.HealthCheckNodePort == 0 || service.Proxy != options.Proxy || !service.ClusterIP(family).IsValid() {
		return HealthCheck{}
	}
	out := HealthCheck{NodePort: service.External.HealthCheckNodePort}
	c := choice{family: family, node: node}
	var last netip.Addr
	for _, e := range c.here(c.takingPackets(service)) {
		// They are sorted by address; one with several lists of ports is one.
		if e.Ready && e.Addr != last {
			last = e.Addr
			out.Local++
		}
	}
	return out
}
