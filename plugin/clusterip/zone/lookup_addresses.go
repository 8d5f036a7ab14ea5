package zone

import (
	"cmp"
	"net/netip"
	"slices"
	"sort"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/plugin/clusterip/zone/addrs"
	"github.com/miekg/dns"
)

// reverse answers for a whole reverse name, or for part of one, which is an empty
// non-terminal if an address below it has records.
func (x *Index) reverse(name string, qtype uint16) Hit {
	prefix, ok := addrs.ParseReverse(name)
	switch {
	case name == addrs.Reverse4 || name == addrs.Reverse6: // in a zone above them
		return Hit{Outcome: NoData}
	case !ok:
		return Hit{Outcome: NXDomain}
	case prefix.IsSingleIP():
		if found, ok := x.owners.Load().Get(prefix.Addr()); ok {
			return x.pointers(found, name, prefix.Addr(), qtype)
		}
	case x.owners.Load().HasIn(prefix):
		return Hit{Outcome: NoData}
	}
	return Hit{Outcome: NXDomain}
}

// pointers answers for an address that Services own.
func (x *Index) pointers(of *owners, name string, ip netip.Addr, qtype uint16) Hit {
	if len(of.services) <= lazyLimit {
		switch only := of.only(ip, x.primary.services.get); {
		case only.of == nil:
		case qtype == dns.TypePTR, qtype == dns.TypeANY:
			return Hit{Outcome: Success, pointer: only}
		default:
			return Hit{Outcome: NoData}
		}
	}
	return Hit{later: func() Hit {
		records := of.records(name, ip, x.primary.services.get, MaxRecords)
		if len(records) == 0 {
			return Hit{Outcome: NXDomain}
		}
		return rrset{qtype: dns.TypePTR, records: records}.hit(qtype)
	}}
}

// ReverseAddress returns the address of a whole reverse name.
func ReverseAddress(name string) (netip.Addr, bool) {
	prefix, ok := addrs.ParseReverse(name)
	return prefix.Addr(), ok && prefix.IsSingleIP()
}

// records returns the pointers from an address, whose reverse name is given: to
// the first Service that has it as its ClusterIP, as CoreDNS does, else to all
// endpoints, or as many as are asked for. It returns none for nil.
func (o *owners) records(name string, ip netip.Addr, service func(string) *Records, most int) []dns.RR {
	if o == nil {
		return nil
	}
	if only := o.only(ip, service); only.of != nil {
		return onePointer(name, only.name(), only.of.options().TTL)
	}
	var targets []pointer
	var ttl uint32
	var first bool
	for _, k := range o.services {
		r := service(k)
		if r == nil {
			continue // it goes, and the address is about to
		}
		ttl, first = r.options().TTL, r.options().PTRFirst
		from, to := r.endpointsAt(ip)
		for i := from; i < to && len(targets) < most; i++ {
			if target := r.fullHost(i); target != "" {
				targets = append(targets, r.pointer(i, target))
			}
		}
	}
	if first {
		targets = firstOfEachPod(targets)
	}
	targets = ranked(targets)
	records := make([]dns.RR, len(targets))
	for i, p := range targets {
		records[i] = &dns.PTR{Hdr: header(name, dns.TypePTR, ttl), Ptr: p.target}
	}
	return records
}

// target is what a PTR record leads to: the name of a Service, or of one of its usable
// endpoints.
type target struct {
	of       *Records
	endpoint int // or less than 0
}

// only returns the target of the only pointer from an address, if there is one, without
// allocating.
func (o *owners) only(ip netip.Addr, service func(string) *Records) target {
	for _, k := range o.services {
		r := service(k)
		if r != nil && slices.Contains(r.service.ClusterIPs, ip) && len(r.base) <= maxName {
			return target{r, -1}
		}
		if r == nil || len(o.services) > 1 {
			continue
		}
		var buffer [maxName]byte
		if from, to := r.endpointsAt(ip); to-from == 1 && len((target{r, from}).append(buffer[:0])) > 0 {
			return target{r, from}
		}
	}
	return target{}
}

// append appends the name, or nothing if DNS cannot hold it.
func (t target) append(b []byte) []byte {
	if t.endpoint < 0 {
		return append(b, t.of.base...)
	}
	return appendFullName(b, &t.of.usable[t.endpoint], t.of.base, t.of.options().EndpointPodNames)
}

func (t target) name() string {
	if t.endpoint < 0 {
		return t.of.base
	}
	return t.of.fullHost(t.endpoint)
}

// endpointsAt returns from where to where the endpoints at an address are.
func (r *Records) endpointsAt(ip netip.Addr) (from, to int) {
	from, _ = slices.BinarySearchFunc(r.usable, ip, func(e cluster.Endpoint, ip netip.Addr) int { return e.Addr.Compare(ip) })
	return from, from + sort.Search(len(r.usable)-from, func(i int) bool { return r.usable[from+i].Addr != ip })
}

// fullHost returns the full name of an endpoint, or "" if DNS cannot hold it.
func (r *Records) fullHost(i int) string {
	if c := r.kept.Load(); c != nil && c.hosts != nil {
		return c.hosts[i]
	}
	var buffer [maxName]byte
	return string(appendFullName(buffer[:0], &r.usable[i], r.base, r.options().EndpointPodNames))
}

// pointer is a PTR record of an endpoint before it is made.
type pointer struct {
	rank   int // the order of records; see Records.pointer
	target string
	pod    cluster.PodName // without Name if it is not known
}

// pointer ranks the name of an endpoint. Most clients take the first record, and check
// that its name leads back: the name that a pod goes by is its hostname in the headless
// Service that it belongs to. The specification has pointers to no others than those of
// headless Services.
func (r *Records) pointer(i int, target string) pointer {
	e := &r.usable[i]
	p := pointer{target: target, pod: cluster.PodName{Namespace: r.service.Name.Namespace, Name: e.PodName}}
	if e.Hostname == "" {
		p.rank++
	}
	if r.service.Kind != cluster.KindHeadless {
		p.rank += 2
	}
	return p
}

func (p pointer) byRank(o pointer) int {
	return cmp.Or(cmp.Compare(p.rank, o.rank), cmp.Compare(p.target, o.target))
}

func (p pointer) byTarget(o pointer) int {
	return cmp.Or(cmp.Compare(p.target, o.target), cmp.Compare(p.rank, o.rank))
}

// ranked sorts pointers; of those to one name it keeps the first.
func ranked(all []pointer) []pointer {
	slices.SortFunc(all, pointer.byTarget)
	all = slices.CompactFunc(all, func(a, b pointer) bool { return a.target == b.target })
	slices.SortFunc(all, pointer.byRank)
	return all
}

// firstOfEachPod keeps the first pointer to each pod. Endpoints of which no pod is known
// count as one, and not at all if a pod is known beside them.
func firstOfEachPod(all []pointer) []pointer {
	slices.SortFunc(all, pointer.byRank)
	known := slices.ContainsFunc(all, func(p pointer) bool { return p.pod.Name != "" })
	seen := make(map[cluster.PodName]bool)
	return slices.DeleteFunc(all, func(p pointer) bool {
		if p.pod.Name == "" {
			p.pod.Namespace = ""
		}
		again := seen[p.pod] || known && p.pod.Name == ""
		seen[p.pod] = true
		return again
	})
}

// pod answers for [address.]namespace in pod.<zone>; name is the whole name.
func (x *Index) pod(name, base string, qtype uint16) Hit {
	label, namespace, found := strings.Cut(base, ".")
	if !found {
		label, namespace = "", base
	}
	if x.options.Pods == PodsDisabled || !x.namespaces.exists(namespace) {
		return Hit{Outcome: NXDomain}
	}
	if !found {
		return Hit{Outcome: NoData}
	}
	ip, ok := addrs.ParseDashed(label)
	if !ok || x.options.Pods == PodsVerified && !x.hasPod(namespace, ip) {
		return Hit{Outcome: NXDomain}
	}
	if qtype == dns.TypeANY || qtype == addressType(ip) {
		return Hit{Outcome: Success, address: ip}
	}
	if qtype == dns.TypeSRV {
		// As in CoreDNS: nobody knows the ports of a pod.
		target := func([]dns.RR) []dns.RR { return oneAddress(name, ip, x.options.TTL) }
		return serviceSet(name, []srv{{target: name}}, x.options.TTL, target).hit(qtype)
	}
	return Hit{Outcome: NoData}
}

// hasPod reports whether a pod of the namespace has the address.
func (x *Index) hasPod(namespace string, ip netip.Addr) bool {
	return slices.ContainsFunc(x.Pods(ip), func(pod *cluster.Pod) bool { return pod.Name.Namespace == namespace })
}
