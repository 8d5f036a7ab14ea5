package clusterip

import (
	"net/netip"

	"github.com/clusterip/clusterip/plugin/clusterip/zone"
)

// Index returns an empty Index of the names that are served. The addresses are those that the
// server listens on.
func (o *Options) Index(own []netip.Addr) *zone.Index {
	return zone.New(o.Zones, zone.Options{
		TTL:              o.TTL,
		EndpointPodNames: o.EndpointPodNames,
		IgnoreEmpty:      o.IgnoreEmpty,
		NoEndpoints:      o.API.NoEndpoints,
		Zonal:            o.Zonal,
		Pods:             o.Pods,
		PTRFirst:         o.PTRFirst,
		Multicluster:     o.Multicluster,
		Namespaces:       o.Namespaces,
		Nameservers:      own,
	})
}
