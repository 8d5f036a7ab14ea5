package zone

import (
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
)

// Service returns a Service that is served, or nil.
func (x *Index) Service(name cluster.ServiceName) *cluster.Service {
	return serviceOf(x.primary.services.get(key(name)))
}

func serviceOf(r *Records) *cluster.Service {
	if r == nil {
		return nil
	}
	return r.service
}

// Services returns all Services that are served, sorted by name.
func (x *Index) Services() []*cluster.Service {
	var all []*cluster.Service
	for i := range x.primary.services.maps {
		if m := x.primary.services.maps[i].Load(); m != nil {
			for _, records := range *m {
				all = append(all, records.service)
			}
		}
	}
	slices.SortFunc(all, func(a, b *cluster.Service) int { return a.Name.Compare(b.Name) })
	return all
}

// HasNamespace reports whether there is a namespace, and it is served.
func (x *Index) HasNamespace(name string) bool { return x.namespaces.exists(name) }

// Published returns the Services that clients outside find at an address.
func (x *Index) Published(ip netip.Addr) []*cluster.Service {
	all, _ := x.published.get(ip)
	return all
}

// OwnServices returns the Services that this server is an endpoint of.
func (x *Index) OwnServices() []*cluster.Service {
	var all []*cluster.Service
	for _, own := range x.options.Nameservers {
		found, ok := x.pointers.get(own)
		if !ok {
			continue
		}
		for _, k := range found.services {
			r := x.primary.services.get(k)
			if r == nil {
				continue
			}
			if i := r.firstAt(own); i < len(r.usable) && r.usable[i].Addr == own {
				all = append(all, r.service)
			}
		}
	}
	return all
}

// Hostname is the label of an endpoint below its Service.
func (x *Index) Hostname(e *cluster.Endpoint) string {
	return string(appendLabel(nil, e, x.options.EndpointPodNames))
}

// publish exchanges what is published of a Service; nil has nothing.
func publish(e *edit[[]*cluster.Service], before, after *cluster.Service) {
	for _, ip := range publishedAddresses(before) {
		release(e, ip, before)
	}
	for _, ip := range publishedAddresses(after) {
		hold(e, ip, after)
	}
}

func publishedAddresses(s *cluster.Service) []netip.Addr {
	if s == nil {
		return nil
	}
	var ips []netip.Addr
	for _, host := range s.External.Published {
		if ip, err := netip.ParseAddr(host); err == nil {
			ips = append(ips, ip)
		}
	}
	slices.SortFunc(ips, netip.Addr.Compare)
	return slices.Compact(ips)
}
