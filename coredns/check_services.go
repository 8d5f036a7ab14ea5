package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/clusterip/clusterip/preflight"
)

// endpoints are those that packets go to, of Services that a proxy serves. SCTP is left out:
// who listens there the kernel does not tell without a module.
func (f folder) endpoints(proxy cluster.Proxy) (all []preflight.Endpoint) {
	for _, u := range f.update.Services {
		s := u.Service
		if s.Kind != cluster.KindClusterIP || s.Proxy != proxy {
			continue
		}
		place := func() string { return f.place(s.Name) }
		for _, e := range cluster.Usable(s.Endpoints) {
			if e.NamesOnly() {
				continue
			}
			for _, p := range s.Ports {
				if number, has := e.PortFor(p); has && p.Protocol != cluster.SCTP {
					all = append(all, preflight.Endpoint{Place: place, UDP: p.Protocol == cluster.UDP, At: netip.AddrPortFrom(e.Addr, number)})
				}
			}
		}
	}
	return all
}

// place is where a Service is.
func (f folder) place(service cluster.ServiceName) string {
	at := f.fault(service, errors.New(""))
	return at.Place()
}

// healthPorts are those at which a server block's NAT answers load balancers.
func (c *check) healthPorts(b block, u cluster.Update) (all []preflight.Port) {
	f := folder{update: u}
	if b.names.Manifest.Dir != "" {
		f = c.load(b)
	}
	node := plan.Node{Name: b.nat.NodeName}
	for _, u := range u.Services {
		h := plan.HealthCheckOf(u.Service, cluster.IPv4, node, b.nat.Plan)
		port := cmp.Or(h.NodePort, plan.HealthCheckOf(u.Service, cluster.IPv6, node, b.nat.Plan).NodePort)
		asked := slices.ContainsFunc(all, func(p preflight.Port) bool { return p.At.Port() == port })
		if port == 0 || asked || len(all) == maxTold {
			continue
		}
		all = append(all, preflight.Port{
			Place: f.place(u.Name), What: fmt.Sprintf("its healthCheckNodePort %d", port), At: netip.AddrPortFrom(netip.IPv6Unspecified(), port), Later: true,
			Mend: "give the Service another spec.healthCheckNodePort",
		})
	}
	return all
}
