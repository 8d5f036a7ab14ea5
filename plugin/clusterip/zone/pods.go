package zone

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/miekg/dns"
)

// pods maps the addresses of pods, of both families, to the pods.
type pods struct {
	table[[]cluster.PodName]
	// known is for the writer.
	known map[cluster.PodName]*cluster.Pod
}

func (p *pods) set(name cluster.PodName, pod *cluster.Pod, e *edit[[]cluster.PodName]) {
	if p.known == nil {
		p.known = make(map[cluster.PodName]*cluster.Pod)
	}
	if old := p.known[name]; old != nil {
		for _, ip := range old.IPs {
			removePod(e, ip, name)
		}
	}
	delete(p.known, name)
	if pod == nil {
		return
	}
	p.known[name] = pod
	for _, ip := range pod.IPs {
		names, _ := e.get(ip)
		e.put(ip, append(slices.Clip(names), name))
	}
}

func removePod(e *edit[[]cluster.PodName], ip netip.Addr, name cluster.PodName) {
	names, _ := e.get(ip)
	names = slices.DeleteFunc(slices.Clone(names), func(n cluster.PodName) bool { return n == name })
	if len(names) == 0 {
		e.remove(ip)
		return
	}
	e.put(ip, names)
}

// has reports whether a pod of the namespace has the address.
func (p *pods) has(namespace string, ip netip.Addr) bool {
	names, _ := p.get(ip)
	return slices.ContainsFunc(names, func(n cluster.PodName) bool { return n.Namespace == namespace })
}

// pod answers for [address.]namespace in pod.<zone>; name is the whole name.
func (x *Index) pod(name, base string, qtype uint16) Answer {
	label, namespace, found := strings.Cut(base, ".")
	if !found {
		label, namespace = "", base
	}
	if x.options.Pods == PodsDisabled || !x.namespaces.exists(namespace) {
		return Answer{Outcome: NXDomain}
	}
	if !found {
		return Answer{Outcome: NoData}
	}
	ip, ok := parseDashed(label)
	if !ok || x.options.Pods == PodsVerified && !x.pods.has(namespace, ip) {
		return Answer{Outcome: NXDomain}
	}
	rr := newAddress(ip)
	set := rrset{qtype: rr.Header().Rrtype, records: []dns.RR{rr}}
	*rr.Header() = header(name, set.qtype, x.options.TTL)
	return set.answer(qtype)
}

// parseDashed reads an address with dashes for dots or colons.
func parseDashed(label string) (netip.Addr, bool) {
	separator := ":"
	if strings.Count(label, "-") == 3 && !strings.Contains(label, "--") {
		separator = "."
	}
	ip, err := netip.ParseAddr(strings.ReplaceAll(label, "-", separator))
	return ip, err == nil && ip.Zone() == "" && !ip.Is4In6()
}
