package zone

import (
	"net/netip"
	"slices"
	"sort"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/plugin/clusterip/wire"
	"github.com/miekg/dns"
)

// plain is what a Service of the usual shape has for one of the usual questions: addresses,
// or SRV records of one port. Its octets are written of the Service itself, and nothing is
// kept for them but in which order the names of endpoints are. Records are compiled when the
// plugin chain wants them: for all names of 10,000 Services of 10 endpoints they take 17 MB,
// beside the 25 MB of the Services.
type plain struct {
	of           *Records
	name         string // relative to the Service
	qtype        uint16
	endpoints    []cluster.Endpoint // whose addresses they are, of a headless Service
	port, weight uint16             // of SRV records
}

// isPlain reports whether a Service has the usual shape: ClusterIPs of different families, or
// few endpoints with an address each, in one slice, and equal weights; and few ports, since
// all are looked at.
func (r *Records) isPlain() bool {
	s := r.service
	switch {
	case len(r.base) > maxName:
		return false
	case s.Kind == cluster.KindClusterIP:
		ips := s.ClusterIPs
		return !r.isIgnored() && len(s.Ports) <= lazyLimit && (len(ips) < 2 || len(ips) == 2 && ips[0].Is4() != ips[1].Is4())
	case s.Kind != cluster.KindHeadless, len(r.usable) == 0, len(r.usable) > lazyLimit, len(r.usable[0].Ports()) > lazyLimit, len(s.Weights) > 0:
		return false
	}
	for i := range r.usable[1:] {
		if a, b := &r.usable[i], &r.usable[i+1]; !a.Addr.Less(b.Addr) || a.Slice != b.Slice {
			return false
		}
	}
	return true
}

// plainHit answers for a name relative to the Service if the answer is plain.
func (r *Records) plainHit(name string, qtype uint16) (h Hit, ok bool) {
	switch {
	case !r.plain, qtype == dns.TypeANY, name != "" && (name[0] != '_' || qtype != dns.TypeSRV):
		return Hit{}, false
	case qtype == dns.TypeSRV:
		return r.plainServices(name)
	case qtype == dns.TypeA, qtype == dns.TypeAAAA:
		return r.plainAddresses(qtype), true
	}
	return Hit{Outcome: NoData}, true
}

func (r *Records) plainAddresses(qtype uint16) Hit {
	h := Hit{Outcome: Success, plain: plain{of: r, qtype: qtype}}
	if r.service.Kind == cluster.KindClusterIP {
		family := cluster.IPv4
		if qtype == dns.TypeAAAA {
			family = cluster.IPv6
		}
		if h.address = r.service.ClusterIP(family); !h.address.IsValid() {
			return Hit{Outcome: NoData}
		}
		return h
	}
	v4 := sort.Search(len(r.usable), func(i int) bool { return !r.usable[i].Addr.Is4() })
	if h.plain.endpoints = r.usable[v4:]; qtype == dns.TypeA {
		h.plain.endpoints = r.usable[:v4]
	}
	if len(h.plain.endpoints) == 0 {
		return Hit{Outcome: NoData}
	}
	return h
}

// plainServices answers if there is one port of that name, and each target has a name of
// its own.
func (r *Records) plainServices(name string) (h Hit, ok bool) {
	p := plain{of: r, name: name, qtype: dns.TypeSRV}
	matches := 0
	look := func(its string, protocol cluster.Protocol, port uint16) {
		if name == "" || isPortLabels(name, its, protocol) {
			p.port = port
			matches++
		}
	}
	var targets int
	if r.service.Kind == cluster.KindClusterIP {
		targets = len(r.service.ClusterIPs)
		for i := range r.service.Ports {
			its := &r.service.Ports[i]
			look(its.Name, its.Protocol, its.Port)
		}
	} else {
		targets = len(r.usable)
		for _, its := range r.usable[0].Ports() {
			look(its.Name, its.Protocol, its.Port)
		}
	}
	if matches != 1 || targets == 0 || r.service.Kind == cluster.KindHeadless && len(r.order().endpoints) == 0 {
		return Hit{}, false
	}
	p.weight = shareOf(targets)
	return Hit{Outcome: Success, plain: p}, true
}

// isPortLabels reports whether a name is the portLabels of a port, without allocating.
func isPortLabels(labels, name string, protocol cluster.Protocol) bool {
	rest, is := strings.CutPrefix(labels[1:], name)
	return is && IsPortName(name) && strings.HasPrefix(rest, "._") && strings.EqualFold(rest[2:], protocol.String())
}

// nameOrder is in which order the names of endpoints are, by number. There are no endpoints
// in it if two have one name, or DNS cannot hold one.
type nameOrder struct {
	endpoints     []uint8
	names, octets int // length of all names, and of all addresses
}

// order returns that of the few endpoints of a plain Service. Who asks first makes it.
func (r *Records) order() *nameOrder {
	if o := r.named.Load(); o != nil {
		return o
	}
	o := &nameOrder{endpoints: make([]uint8, len(r.usable))}
	names := fullNames(r.usable, r.base, r.options().EndpointPodNames)
	for i := range r.usable {
		o.endpoints[i] = uint8(i)
		o.names += len(names[i])
		o.octets += r.usable[i].Addr.BitLen() / 8
	}
	slices.SortFunc(o.endpoints, func(a, b uint8) int { return strings.Compare(names[a], names[b]) })
	for i, at := range o.endpoints {
		if names[at] == "" || i > 0 && names[at] == names[o.endpoints[i-1]] {
			o.endpoints = nil
			break
		}
	}
	r.named.Store(o)
	return o
}

// hit finds the records.
func (p *plain) hit() Hit { return find(p.of.compiled().names, p.name).hit(p.qtype) }

// appendWire writes them as rrset.appendWire does.
func (p *plain) appendWire(r *wire.Reply, shuffle bool) bool {
	switch {
	case p.qtype != dns.TypeSRV:
		return p.appendAddresses(r, shuffle)
	case p.of.service.Kind == cluster.KindClusterIP:
		return p.appendService(r, shuffle)
	}
	return p.appendServices(r, shuffle)
}

func (p *plain) appendAddresses(r *wire.Reply, shuffle bool) bool {
	n, ttl := len(p.endpoints), p.of.options().TTL
	if !r.Expect(n*addressLen(r.OwnerLen, p.endpoints[0].Addr.BitLen()/8), true) {
		return false
	}
	r.Deal(n, shuffle)
	for i := range n {
		if !r.Address(r.Owner, ttl, p.endpoints[r.Next(i)].Addr) {
			break // truncated
		}
	}
	return true
}

// appendService writes the SRV record of a Service with ClusterIPs, and those.
func (p *plain) appendService(r *wire.Reply, shuffle bool) bool {
	var ips [2]netip.Addr
	n := copy(ips[:], p.of.service.ClusterIPs)
	if n == 2 && ips[1].Is4() {
		ips[0], ips[1] = ips[1], ips[0]
	}
	length := r.OwnerLen + 1 + recordLen + serviceLen + len(p.of.base) + 1
	for _, ip := range ips[:n] {
		length += addressLen(len(p.of.base), ip.BitLen()/8)
	}
	if !r.Expect(length, true) {
		return false
	}
	ttl := p.of.options().TTL
	target, ok := r.Service(ttl, 0, p.weight, p.port, append(r.Buffer[:0], p.of.base...), nil)
	if !ok {
		return true // truncated
	}
	r.Additional()
	r.Deal(n, shuffle)
	for i := range n {
		if !r.Address(target, ttl, ips[r.Next(i)]) {
			break
		}
	}
	return true
}

// appendServices writes SRV records of endpoints, and their addresses.
func (p *plain) appendServices(r *wire.Reply, shuffle bool) bool {
	order, ttl := p.of.order(), p.of.options().TTL
	n := len(order.endpoints)
	if !r.Expect(n*(r.OwnerLen+1+recordLen+serviceLen+1+addressLen(0, 0))+2*order.names+order.octets, true) {
		return false
	}
	var buffer [wire.MaxName]byte
	base := wire.AppendName(buffer[:0], p.of.base)
	for i, at := range order.endpoints {
		name := append(appendHostname(r.Buffer[:0], &p.of.usable[at], p.of.options().EndpointPodNames), '.')
		target, ok := r.Service(ttl, 0, p.weight, p.port, name, base)
		if !ok {
			return true // truncated
		}
		r.Owners[i] = target
	}
	r.Additional()
	r.Deal(n, shuffle)
	for i := range n {
		number := r.Next(i)
		if !r.Address(r.Owners[number], ttl, p.of.usable[order.endpoints[number]].Addr) {
			break
		}
	}
	return true
}
