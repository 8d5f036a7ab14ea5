package plan

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
)

// Network is what is known of addresses besides what Services say of them. It is looked
// at whole when it changes.
type Network struct {
	// ServiceCIDRs are the ranges of ClusterIPs, of both families.
	ServiceCIDRs []netip.Prefix
	// Known is what else is in them, in the order in which it is to be told.
	Known []Known
	// Broadcasts are the broadcast addresses of this node's networks: what is sent
	// there is for every host of the network.
	Broadcasts []netip.Addr
}

// nobodys knows what is nobody's in the ranges of ClusterIPs of one family. What Services
// say of addresses is counted by address, and only where nothing else has that exempt
// already, so that a change costs what its Service costs.
type nobodys struct {
	family cluster.Family
	proxy  cluster.Proxy

	cidrs  []netip.Prefix
	fixed  []Known // but for what Services say
	settle []Range // with what is fixed
	// What Services say of addresses that the ranges above would have refused.
	said  map[cluster.ServiceName][]Known
	count map[Known]int

	changed  bool    // since the last update
	now      []Range // with all that is known
	overlaps []Overlap
}

func newNobodys(family cluster.Family, proxy cluster.Proxy) nobodys {
	return nobodys{family: family, proxy: proxy, said: make(map[cluster.ServiceName][]Known), count: make(map[Known]int)}
}

// fix takes over what is known besides Services. It reports whether all Services are to
// be set anew, since other addresses of theirs count.
func (n *nobodys) fix(cidrs []netip.Prefix, known []Known) (anew bool) {
	n.cidrs, n.fixed, n.changed = cidrs, known, true
	settled, _ := Ranges(cidrs, n.family, known)
	if slices.EqualFunc(settled, n.settle, Range.Equal) {
		return false
	}
	n.settle = settled
	clear(n.said)
	clear(n.count)
	return true
}

// set takes over what a Service says, nil if it is gone.
func (n *nobodys) set(name cluster.ServiceName, s *cluster.Service) {
	n.changed = n.changed || len(n.said[name]) > 0
	for _, k := range n.said[name] {
		if n.count[k]--; n.count[k] == 0 {
			delete(n.count, k)
		}
	}
	delete(n.said, name)
	if s == nil || len(n.settle) == 0 {
		return
	}
	var said []Known
	say := func(addr netip.Addr, what string) {
		k := KnownAt(addr, what)
		if i := len(said); n.has(addr) && (i == 0 || said[i-1] != k) { // endpoints are sorted
			said = append(said, k)
		}
	}
	for i := range s.Endpoints {
		say(s.Endpoints[i].Addr, "endpoints of Services")
	}
	if s.Proxy != n.proxy { // another serves it
		for _, addr := range s.ClusterIPs {
			say(addr, "")
		}
	}
	for _, k := range said {
		n.count[k]++
	}
	if len(said) > 0 {
		n.said[name], n.changed = said, true
	}
}

// has reports whether an address would be refused if there were no Services.
func (n *nobodys) has(a netip.Addr) bool {
	return slices.ContainsFunc(n.settle, func(r Range) bool { return r.Nobodys(a) })
}

// update works out what is nobody's, if something has changed.
func (n *nobodys) update() {
	if !n.changed {
		return
	}
	n.changed = false
	known := slices.Clone(n.fixed)
	var said []Known
	if len(n.count) <= MaxExempt {
		said = slices.SortedFunc(maps.Keys(n.count), func(a, b Known) int { return a.At.Compare(b.At) })
	} else {
		// So many are not looked at one by one with each change.
		for _, r := range n.settle {
			known = append(known, Known{At: r.CIDR, What: "many endpoints of Services, or ClusterIPs that another proxy serves"})
		}
	}
	n.now, n.overlaps = Ranges(n.cidrs, n.family, append(known, said...))
}

// closed are the ranges that, as far as admins say, are the Services' alone. In them no
// Service gets an external address.
func (n *nobodys) closed() []netip.Prefix {
	var out []netip.Prefix
	for _, r := range n.settle {
		if !r.Open && len(r.Exempt) == 0 {
			out = append(out, r.CIDR)
		}
	}
	return out
}
