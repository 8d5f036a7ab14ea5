package zone

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/miekg/dns"
)

// pods are found by their addresses, of both families.
type pods struct {
	holders[cluster.Pod]
	// known is for the writer.
	known map[cluster.PodName]*cluster.Pod
}

func (p *pods) set(name cluster.PodName, pod *cluster.Pod, e *edit[[]*cluster.Pod]) {
	if p.known == nil {
		p.known = make(map[cluster.PodName]*cluster.Pod)
	}
	if old := p.known[name]; old != nil {
		for _, ip := range old.IPs {
			release(e, ip, old)
		}
	}
	delete(p.known, name)
	if pod == nil {
		return
	}
	p.known[name] = pod
	for _, ip := range pod.IPs {
		hold(e, ip, pod)
	}
}

// Pods returns the pods that have an address. None are known unless the PodMode
// is PodsVerified.
func (x *Index) Pods(ip netip.Addr) []*cluster.Pod {
	all, _ := x.pods.get(ip)
	return all
}

// has reports whether a pod of the namespace has the address.
func (p *pods) has(namespace string, ip netip.Addr) bool {
	all, _ := p.get(ip)
	return slices.ContainsFunc(all, func(pod *cluster.Pod) bool { return pod.Name.Namespace == namespace })
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
	records := oneAddress(name, ip, x.options.TTL)
	if qtype == dns.TypeSRV {
		// As in CoreDNS: nobody knows the ports of a pod.
		set := serviceSet(name, []srv{{target: name}}, x.options.TTL)
		set.extra = records
		return set.answer(qtype)
	}
	set := rrset{qtype: records[0].Header().Rrtype, records: records}
	return set.answer(qtype)
}

// parseDashed reads an address with dashes for dots or colons.
func parseDashed(label string) (netip.Addr, bool) {
	if ip, ok := parseDashed4(label); ok || strings.Trim(label, "0123456789abcdef-") != "" {
		return ip, ok // most labels are none, and should not cost an error
	}
	ip, err := netip.ParseAddr(strings.ReplaceAll(label, "-", ":"))
	return ip, err == nil && ip.Zone() == "" && !ip.Is4In6()
}

func parseDashed4(label string) (netip.Addr, bool) {
	var b [4]byte
	for i := range b {
		octet, rest, more := strings.Cut(label, "-")
		value, ok := parseOctet(octet)
		if !ok || more != (i < len(b)-1) {
			return netip.Addr{}, false
		}
		b[i], label = value, rest
	}
	return netip.AddrFrom4(b), true
}
