package zone

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/plugin/clusterip/zone/addrs"
	"github.com/miekg/dns"
)

// Outcome says what a lookup found. The zero value is invalid.
type Outcome uint8

const (
	// Success has records.
	Success Outcome = iota + 1
	// NoData: the name exists, or a name below it does, without such records.
	NoData
	// NXDomain: neither the name nor one below it exists.
	NXDomain
	// NotReady: the source has not been read yet. No lookup returns it.
	NotReady
)

// Lack is what somebody who asks may miss. The zero value: nothing.
type Lack uint8

const (
	// LacksEndpoints: the Service is there and has no usable endpoint.
	LacksEndpoints Lack = iota + 1
	// LacksService: the namespace is there, and has no Service of that name. A search path
	// makes no such names of those of Services in other namespaces, nor of names outside the
	// cluster, unless their last label is a namespace.
	LacksService
)

// Answer is what a lookup found. The slices are shared with other queries and
// have no spare capacity: they may be appended to, never written to.
type Answer struct {
	Outcome   Outcome
	Lack      Lack
	Answer    []dns.RR
	Authority []dns.RR // the SOA, with NoData and NXDomain
	Extra     []dns.RR
	// Alias is the target still to be looked up, when Answer holds a CNAME and
	// records of another type were asked for.
	Alias string
}

// InCaseOf returns the answer with owner names in the letter case of the question,
// which has the owner, or is in a zone that does. Shared records are copied.
func (a Answer) InCaseOf(question string) Answer {
	as := func(owner string) string { return question[len(question)-len(owner):] }
	a.Answer, a.Authority = renamed(a.Answer, as), renamed(a.Authority, as)
	return a
}

// Lookup answers the question for a name in the zone, in class IN. The serial
// goes into the SOA. It allocates only for a new serial, the first time that a
// Service is asked for, and for what is not kept: reverse pointers, endpoints, pods,
// and the addresses of name servers.
func (z *Zone) Lookup(name string, qtype uint16, serial uint32) Answer {
	h := z.Find(name, qtype)
	lack := h.Lack
	for h.later != nil {
		h = h.later()
	}
	h.zone, h.Lack = z, lack
	return h.answer(name, serial)
}

// Hit is what was found for a question, of which records or octets can be made. It is for
// at once: of one address or pointer there is no record yet.
type Hit struct {
	// Outcome is 0 where only Lookup finds out.
	Outcome Outcome
	// Lack is there whatever the Outcome.
	Lack Lack
	// Alias is as in Answer.
	Alias string

	zone    *Zone
	plain   plain // in place of set, unless it is the zero plain
	set     rrset
	other   bool       // the set has another owner than the name asked for
	soa     bool       // the SOA of the zone, whatever its serial
	address netip.Addr // the only one, unless it is the zero Addr
	pointer target     // the only one, unless it is the zero target
	// later finds what takes longer than the octets of a reply: a list has to be made or
	// walked through, and whoever may write Services decides how long it is. It may return
	// another such Hit.
	later func() Hit
}

// Find finds what answers a question for a name in the zone, in class IN. It takes some
// tens of microseconds at most, however large Services are: what takes longer, or may, it
// leaves to Lookup. It allocates the first time that a Service is asked for what is kept,
// and for short lists that are not.
func (z *Zone) Find(name string, qtype uint16) Hit {
	var h Hit
	switch rel := z.Relative(name); {
	case len(name) > maxName: // that of no message, but plugins such as autopath make names
		h.Outcome = NXDomain
	case rel == "":
		h = z.apex(qtype)
	case z.reverse, z.above && IsReverse(name):
		h = z.index.reverse(name, qtype)
	default:
		h = z.forward(name, rel, qtype)
	}
	h.zone = z
	return h
}

// answer returns the records.
func (h Hit) answer(name string, serial uint32) Answer {
	if h.plain.of != nil {
		h.set, h.address = h.plain.hit().set, netip.Addr{}
	}
	a := Answer{Outcome: h.Outcome, Lack: h.Lack, Alias: h.Alias, Answer: h.set.records, Extra: h.set.extra}
	ttl := h.zone.index.options.TTL
	switch {
	case h.Outcome != Success:
		a.Authority = h.zone.SOA(serial)
	case h.soa:
		a.Answer = h.zone.SOA(serial)
	case h.address.IsValid():
		a.Answer = oneAddress(name, h.address, ttl)
	case h.pointer.of != nil:
		a.Answer = onePointer(name, h.pointer.name(), ttl)
	case h.other:
		a.Answer = atName(name, a.Answer)
	}
	return a
}

// forward answers for a name below the origin of a forward zone. Splitting at
// every dot is safe though labels may hold escaped ones: a piece that ends in a
// backslash equals no name that exists.
func (z *Zone) forward(name, rel string, qtype uint16) Hit {
	if z.above && Contains(name, addrs.Reverse4) {
		return Hit{Outcome: NoData} // arpa.
	}
	switch rel {
	case "svc", "pod", "dns":
		return Hit{Outcome: NoData}
	case "dns-version":
		return z.version.hit(qtype)
	case "ns.dns":
		return Hit{later: func() Hit { return z.nameserver(qtype) }}
	}
	if base, ok := strings.CutSuffix(rel, ".svc"); ok {
		return z.service(name, base, qtype)
	}
	if base, ok := strings.CutSuffix(rel, ".pod"); ok {
		return z.index.pod(name, base, qtype)
	}
	return Hit{Outcome: NXDomain}
}

// service answers for [sub.]service.namespace, or a namespace alone; name is the
// whole name.
func (z *Zone) service(name, base string, qtype uint16) Hit {
	dot := strings.LastIndexByte(base, '.')
	if dot < 0 {
		return z.index.namespaces.hit(base)
	}
	start := strings.LastIndexByte(base[:dot], '.') + 1
	records := z.services.get(base[start:])
	sub := base[:max(start-1, 0)]
	switch {
	case records == nil && start == 0 && z.index.namespaces.exists(base[dot+1:]):
		return Hit{Outcome: NXDomain, Lack: LacksService}
	case records == nil:
		return Hit{Outcome: NXDomain}
	case records.lack != 0: // a Hit is large, so others are not copied
		h := records.lookup(name, sub, qtype)
		h.Lack = records.lack
		return h
	}
	return records.lookup(name, sub, qtype)
}

// lookup answers for a name, which is given in full and relative to the Service.
func (r *Records) lookup(full, name string, qtype uint16) Hit {
	if h, ok := r.plainHit(name, qtype); ok {
		return h
	}
	if r.size > quickLimit && r.kept.Load() == nil {
		return Hit{later: func() Hit {
			r.compiled()
			return r.lookup(full, name, qtype)
		}}
	}
	switch {
	case name == "" || name[0] == '_': // not an endpoint's
		if n := find(r.compiled().names, name); n != nil {
			if h := n.hit(qtype); h.Outcome == Success || name == "" {
				return h
			}
		}
	default:
		if a := r.endpoint(full, name, qtype); a.Outcome != NXDomain {
			return a
		}
	}
	if max(len(r.ports), len(r.service.Ports)) > lazyLimit {
		return Hit{later: func() Hit { return r.portOrZone(full, name, qtype) }}
	}
	return r.portOrZone(full, name, qtype)
}

// portOrZone is lookup for names that are neither kept nor an endpoint's. It may go
// through all ports.
func (r *Records) portOrZone(full, name string, qtype uint16) Hit {
	if h := r.port(full, name, qtype); h.Outcome != NXDomain || !r.isZonal() {
		return h
	}
	return r.topologyZone(name, qtype)
}

// topologyZone answers for a zonal name that the Service has not got otherwise.
func (r *Records) topologyZone(name string, qtype uint16) Hit {
	if n := find(r.compiled().zonal, name); n != nil {
		return n.hit(qtype)
	}
	switch {
	case name == "_zone", name == pin, name == prefer, strings.HasSuffix(name, "."+pin):
		return Hit{Outcome: NoData}
	case !strings.HasSuffix(name, "."+prefer):
		return Hit{Outcome: NXDomain}
	}
	if own := find(r.compiled().names, ""); own != nil {
		return own.hitAs(qtype)
	}
	return Hit{Outcome: NoData}
}

// find searches a sorted list; nil means that the name is not there.
func find(nodes []node, name string) *node {
	i, found := slices.BinarySearchFunc(nodes, name, func(n node, name string) int { return strings.Compare(n.name, name) })
	if !found {
		return nil
	}
	return &nodes[i]
}

func (n *node) hit(qtype uint16) Hit {
	for _, set := range n.sets {
		if a := set.hit(qtype); a.Outcome == Success {
			return a
		}
	}
	return Hit{Outcome: NoData}
}

// hitAs is hit for another name than that of the node.
func (n *node) hitAs(qtype uint16) Hit {
	h := n.hit(qtype)
	h.other = true
	return h
}
