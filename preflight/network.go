package preflight

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// routes says which ranges of ClusterIPs no route leads to, and which hold an address of this
// machine.
func routes(n *NAT, m Machine) (all []Finding) {
	for _, cidr := range n.ServiceCIDRs {
		if why, unrouted := m.Unrouted[cidr]; unrouted {
			all = append(all, Finding{n.CIDRPlace, fmt.Sprintf("this machine has no route to the range of ClusterIPs %s (%s), so connections from here fail before they are translated", cidr, why),
				fmt.Sprintf("add a default route, or one to that range by any interface: ip route add %s dev INTERFACE", cidr), true})
		}
		for _, a := range m.Addresses {
			if cidr.Contains(a.Addr()) {
				all = append(all, Finding{n.CIDRPlace, fmt.Sprintf("the range of ClusterIPs %s holds this machine's address %s (%s), which a Service could get", cidr, a.Addr(), a.Interface),
					"choose a range that is used for nothing else", true})
			}
		}
	}
	return all
}

// clients says where the network of this machine's uplink counts as pods, as that of a
// home or an office does in Calico's default 192.168.0.0/16.
func clients(n *NAT, m Machine) (all []Finding) {
	for _, cidr := range n.ClusterCIDRs {
		for _, a := range m.Addresses {
			if a.Uplink && cidr.Contains(a.Addr()) {
				all = append(all, Finding{n.Place("cluster_cidr"), fmt.Sprintf("cluster_cidr %s holds this machine's address %s (%s), so clients in that network count as pods: their connections to Services keep their source address, and replies that go past this machine are lost", cidr, a, a.Interface),
					"give the range of the pods alone, unless pods have addresses of that network", false})
			}
		}
	}
	return all
}

// localPorts says where the kernel gives NodePorts to outgoing connections.
func localPorts(n *NAT, m Machine) []Finding {
	low, high, ok := span(m.Sysctls[localRange], " ")
	if !ok {
		return nil
	}
	reserved := m.Sysctls[localReserved]
	from, to := max(low, n.NodePorts[0]), min(high, n.NodePorts[1])
	if from > to || isReserved(from, to, reserved) {
		return nil
	}
	both := strings.Trim(fmt.Sprintf("%s,%d-%d", reserved, from, to), ",")
	return []Finding{{Here, fmt.Sprintf("the NodePorts %d-%d are in %s (%d-%d): a connection from this machine may get one as its own port, and its replies go to a Service", from, to, localRange, low, high),
		fmt.Sprintf("set %s=%s", localReserved, both), false}}
}

// span reads two ports with something between.
func span(text, between string) (from, to uint16, ok bool) {
	if words := strings.Fields(text); between == " " && len(words) == 2 {
		text = words[0] + " " + words[1] // the kernel has a tab
	}
	n, err := fmt.Sscanf(text, "%d"+between+"%d", &from, &to)
	return from, to, n == 2 && err == nil
}

// isReserved reports whether a list such as "8080,30000-32767" has all ports of a range.
func isReserved(from, to uint16, list string) bool {
	type ports struct{ from, to uint16 }
	var all []ports
	for part := range strings.SplitSeq(list, ",") {
		if a, b, ok := span(part, "-"); ok {
			all = append(all, ports{a, b})
		} else if n, err := fmt.Sscanf(part, "%d", &a); n == 1 && err == nil {
			all = append(all, ports{a, a})
		}
	}
	slices.SortFunc(all, func(x, y ports) int { return int(x.from) - int(y.from) })
	next := int(from)
	for _, p := range all {
		if int(p.from) <= next {
			next = max(next, int(p.to)+1)
		}
	}
	return next > int(to)
}

func forwarding(n *NAT, m Machine) (all []Finding) {
	for _, f := range []struct {
		sysctl string
		is6    bool
	}{{ipForward, false}, {ipv6Forwarding, true}} {
		asked := slices.ContainsFunc(n.ServiceCIDRs, func(p netip.Prefix) bool { return p.Addr().Is6() == f.is6 })
		if asked && m.Sysctls[f.sysctl] == "0" {
			all = append(all, Finding{Here, f.sysctl + " is 0: connections of this machine reach Services, but those of pods and of other machines are not passed on to endpoints elsewhere",
				fmt.Sprintf("set %s=1, if there are such", f.sysctl), false})
		}
	}
	for _, chain := range m.InputDrops {
		all = append(all, Finding{Here, chain + " drops what comes to this machine, unless a rule there accepts it, and the first packets of connections to Services pass it",
			"have it accept packets to " + strings.Trim(fmt.Sprint(m.Entries), "[]"), false})
	}
	for _, chain := range m.ForwardDrops {
		all = append(all, Finding{Here, chain + " drops what is forwarded, unless a rule there accepts it, whatever other tables say: connections of this machine reach Services, but those of pods and of other machines may not",
			"have it accept packets to and from the endpoints", false})
	}
	return all
}

// entries says which ranges lie where packets come to this machine before their endpoint is chosen: what
// is there is not reached any more.
func entries(n *NAT, m Machine) (all []Finding) {
	for _, e := range m.Entries {
		for _, cidr := range slices.Concat(n.ServiceCIDRs, n.ClusterCIDRs) {
			if e.Overlaps(cidr) {
				all = append(all, Finding{n.Place("backend"), fmt.Sprintf("the range %s overlaps %s, where backend %s has virtual servers, so nobody else is reached there", cidr, e, n.Backend),
					"choose another range, or another backend", true})
			}
		}
	}
	return all
}

// loopback says where NodePorts at 127.0.0.1 cannot be had. Else kernelnat sets what they need.
func loopback(n *NAT, m Machine) []Finding {
	if !n.AtLoopback || m.Sysctls[routeLocalnet] != "0" || !m.ReadOnly {
		return nil
	}
	return []Finding{{n.Place("nodeport_addresses"), routeLocalnet + " is 0 and cannot be set by this process, so NodePorts are not at 127.0.0.1",
		"set it to 1 from outside, make /proc/sys/net writable, or name other addresses with nodeport_addresses", false}}
}

// paths says where packets that come in by another interface than replies would go out by are
// dropped. The larger value of an interface and of all of them counts (ip-sysctl: rp_filter).
func paths(_ *NAT, m Machine) []Finding {
	var strict []string
	links := make(map[string]bool)
	for _, a := range m.Addresses {
		if links[a.Interface] || !a.Addr().Is4() || a.Addr().IsLoopback() {
			continue
		}
		links[a.Interface] = true
		if max(m.Sysctls[filterAll], m.Sysctls[FilterOf(a.Interface)]) == "1" { // values are 0 to 2
			strict = append(strict, a.Interface)
		}
	}
	if len(strict) == 0 || len(links) < 2 {
		return nil
	}
	slices.Sort(strict)
	return []Finding{{Here, fmt.Sprintf("rp_filter is 1 (strict) for %s: where packets from one address come in by several interfaces, replies of endpoints among them, they are dropped", strings.Join(strict, ", ")),
		"set net.ipv4.conf.all.rp_filter=2 (loose), if routes are not symmetric", false}}
}

// bridges says where frames between two ports of a bridge pass no rules: a reply to a pod on
// the same bridge is not translated back then.
func bridges(n *NAT, m Machine) (all []Finding) {
	of := m.Bridges
	if n.Bridge != "" {
		of = slices.DeleteFunc(slices.Clone(of), func(name string) bool { return name != n.Bridge })
	}
	if len(of) == 0 {
		return nil
	}
	for _, sysctl := range []string{bridgeIPv4, bridgeIPv6} {
		asked := slices.ContainsFunc(n.ServiceCIDRs, func(p netip.Prefix) bool { return p.Addr().Is6() == (sysctl == bridgeIPv6) })
		value, there := m.Sysctls[sysctl]
		if !asked || value == "1" {
			continue
		}
		what, mend := sysctl+" is 0", fmt.Sprintf("set %s=1", sysctl)
		if !there {
			what, mend = "the module br_netfilter is not loaded", fmt.Sprintf("modprobe br_netfilter, and set %s=1", sysctl)
		}
		all = append(all, Finding{Here, fmt.Sprintf("%s, and there is the bridge %s: a pod there that connects to a Service gets no replies from an endpoint on the same bridge", what, strings.Join(of, ", ")),
			mend + ", unless pods reach each other by routes alone", false})
		if !there {
			break
		}
	}
	return all
}

// full is how much of the table of connections may be in use, in percent.
const full = 90

// connections says where the kernel tracks as many connections as it may, or will.
func connections(n *NAT, m Machine) []Finding {
	var limit, now int
	if _, err := fmt.Sscan(m.Sysctls[trackedMax], &limit); err != nil || limit == 0 {
		return nil // no connection is tracked before the first rule asks for it
	}
	if _, err := fmt.Sscan(m.Sysctls[trackedNow], &now); err != nil {
		return nil
	}
	set := limit // from the start on
	if !m.ReadOnly {
		set = max(limit, n.Tracked)
	}
	place := n.Place("conntrack_min", "conntrack_max_per_core")
	switch {
	case now*100 >= set*full:
		return []Finding{{place, fmt.Sprintf("%d of %d connections are tracked that may be (%s): when there are as many, new ones are dropped, to Services or not", now, set, trackedMax),
			"raise conntrack_min, or that sysctl, or shorten how long idle connections are remembered (conntrack_…)", true}}
	case set < n.Tracked:
		return []Finding{{place, fmt.Sprintf("%s is %d and cannot be set by this process, and %d are asked for", trackedMax, limit, n.Tracked),
			"set it on the machine itself, or set conntrack_max_per_core 0", false}}
	}
	return nil
}
