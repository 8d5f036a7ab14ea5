package zone

import (
	"math"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/plugin/clusterip/zone/addrs"
	"github.com/miekg/dns"
)

// owners are the Services that an address leads to, by "name.namespace", sorted.
// Mostly there is one; all addresses of that one share a value. Immutable. The reverse
// zones hold nothing else of an address: PTR records are made when somebody asks.
type owners struct{ services []string }

// addresses returns those that lead to the Service, sorted; none for nil.
func (r *Records) addresses() []netip.Addr {
	if r == nil {
		return nil
	}
	all := make([]netip.Addr, 0, len(r.service.ClusterIPs)+len(r.usable))
	if len(r.base) <= maxName {
		all = append(all, r.service.ClusterIPs...)
	}
	var buffer [maxName]byte
	for i := range r.usable {
		if len(appendFullName(buffer[:0], &r.usable[i], r.base, r.options().EndpointPodNames)) > 0 {
			all = append(all, r.usable[i].Addr)
		}
	}
	return sortUnique(all)
}

// relocation is a Service to which other addresses lead than before. Both lists are
// sorted.
type relocation struct {
	service  string
	from, to []netip.Addr
}

// apply leaves addresses in both lists alone.
func (r relocation) apply(e *addrs.Edit[*owners]) {
	alone := &owners{[]string{r.service}}
	for before, after := r.from, r.to; len(before) > 0 || len(after) > 0; {
		switch {
		case len(after) == 0 || len(before) > 0 && before[0].Less(after[0]):
			disown(e, before[0], r.service)
			before = before[1:]
		case len(before) == 0 || after[0].Less(before[0]):
			own(e, after[0], r.service, alone)
			after = after[1:]
		default:
			before, after = before[1:], after[1:]
		}
	}
}

// own adds a Service to those at an address; alone is for where there is none.
func own(e *addrs.Edit[*owners], ip netip.Addr, service string, alone *owners) {
	others, ok := e.Get(ip)
	if !ok {
		e.Put(ip, alone)
		return
	}
	at, _ := slices.BinarySearch(others.services, service)
	if e.Unseen() && len(others.services) > 1 {
		// Made in this edit for this address: to copy it for each Service of a
		// first load would take time quadratic in those that share an address.
		others.services = slices.Insert(others.services, at, service)
		return
	}
	e.Put(ip, &owners{slices.Insert(slices.Clone(others.services), at, service)})
}

func disown(e *addrs.Edit[*owners], ip netip.Addr, service string) {
	all, ok := e.Get(ip)
	if !ok {
		return
	}
	rest := slices.DeleteFunc(slices.Clone(all.services), func(s string) bool { return s == service })
	if len(rest) == 0 {
		e.Remove(ip)
		return
	}
	e.Put(ip, &owners{slices.Clip(rest)})
}

// relocate takes over all relocations of an Update, and what has become of the
// pointers: an address that many Services share is looked at once.
func (x *Index) relocate(e *addrs.Edit[*owners], moved []relocation, changes *tracker) {
	var touched []netip.Addr
	for _, m := range moved {
		touched = append(append(touched, m.from...), m.to...)
	}
	touched = sortUnique(touched)
	before := pointersFrom(touched, e, x.primary.services.get)
	for _, m := range moved {
		m.apply(e)
	}
	after := pointersFrom(touched, e, x.primary.services.pending)
	for i := range touched {
		changes.replaced(before[i], after[i])
	}
}

// pointersFrom returns the PTR records of each address, in the state of an edit and
// with such Services.
func pointersFrom(ips []netip.Addr, e *addrs.Edit[*owners], service func(string) *Records) [][]dns.RR {
	out := make([][]dns.RR, len(ips))
	for i, ip := range ips {
		found, _ := e.Get(ip)
		out[i] = found.records(addrs.ReverseName(ip), ip, service, math.MaxInt)
	}
	return out
}

// OwnServices returns the Services that this server is an endpoint of.
func (x *Index) OwnServices() []*cluster.Service {
	var all []*cluster.Service
	for _, own := range x.options.Nameservers {
		found, ok := x.owners.Load().Get(own)
		if !ok {
			continue
		}
		for _, k := range found.services {
			if r := x.primary.services.get(k); r != nil {
				if from, to := r.endpointsAt(own); from < to {
					all = append(all, r.service)
				}
			}
		}
	}
	return all
}

// Published returns the Services that clients outside are told to find at an address:
// it is in their External.Published.
func (x *Index) Published(ip netip.Addr) []*cluster.Service {
	all, _ := x.published.Load().Get(ip)
	return all
}

// setPublished exchanges what is published of a Service; nil has nothing.
func setPublished(e *addrs.Edit[[]*cluster.Service], before, after *cluster.Service) {
	for _, ip := range publishedAddresses(before) {
		addrs.Release(e, ip, before)
	}
	for _, ip := range publishedAddresses(after) {
		addrs.Hold(e, ip, after)
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
	return sortUnique(ips)
}

// Pods returns the pods that have an address. None are known unless the PodMode
// is PodsVerified.
func (x *Index) Pods(ip netip.Addr) []*cluster.Pod {
	all, _ := x.pods.Load().Get(ip)
	return all
}

// setPods takes pods over, also those in namespaces that are not served: clients come
// from there.
func (x *Index) setPods(updates []cluster.PodUpdate) {
	e := x.pods.Edit()
	for _, c := range updates {
		if old := x.knownPods[c.Name]; old != nil {
			for _, ip := range old.IPs {
				addrs.Release(e, ip, old)
			}
			delete(x.knownPods, c.Name)
		}
		if c.Pod != nil {
			x.knownPods[c.Name] = c.Pod
			for _, ip := range c.Pod.IPs {
				addrs.Hold(e, ip, c.Pod)
			}
		}
	}
	e.Commit()
}
