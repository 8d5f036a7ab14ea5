package zone

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/miekg/dns"
)

const (
	maxLabel = 63  // octets, RFC 1035 section 2.3.4
	maxName  = 254 // characters with the final dot: 255 octets on the wire
)

// Compile makes the records of a Service in the forward zone origin, which is
// lower case and fully qualified: what sections 2.3 to 2.5 of the Kubernetes DNS
// specification ask for and, as CoreDNS has them, SRV records at the Service's
// own name and endpoint names for Services with a ClusterIP. A name or label
// too long for DNS is left out.
func Compile(service *cluster.Service, origin string, o *Options) *Records {
	r := &Records{service: service, options: o, base: join(key(service.Name)+".svc", origin)}
	b := newBuilder(service, r.base, o)
	switch service.Kind {
	case cluster.KindExternalName:
		if IsName(service.ExternalName) {
			b.alias()
		} else {
			r.names = []node{{}} // there is a Service, so the name exists
		}
	case cluster.KindClusterIP:
		r.usable = cluster.Usable(service.Endpoints)
		b.clusterIPs()
	case cluster.KindHeadless:
		r.usable = cluster.Usable(service.Endpoints)
		r.hosts = b.endpoints(r.usable)
	}
	for _, n := range b.finish() {
		if n.name == "" || n.name[0] == '_' { // not an endpoint's
			r.names = append(r.names, n)
		}
	}
	r.names = slices.Clip(r.names)
	if o.Zonal && !slices.Contains(o.Multicluster, origin) && service.Kind == cluster.KindHeadless {
		r.zonal = compileZonal(r)
	}
	return r
}

func newBuilder(service *cluster.Service, base string, o *Options) *builder {
	return &builder{
		service: service,
		options: o,
		base:    base,
		sets:    make(map[ownerType]*rrset),
		seen:    make(map[record]struct{}),
		full:    make(map[string]string),
	}
}

// key is what a Service is found by: the two labels that its names share.
func key(name cluster.ServiceName) string { return name.Name + "." + name.Namespace }

func join(name, origin string) string {
	if origin == "." {
		return name + "."
	}
	return name + "." + origin
}

type ownerType struct {
	name  string
	qtype uint16
}

// record is what tells two records apart; the unused fields are zero.
type record struct {
	ownerType
	addr   netip.Addr
	target string
	port   uint16
}

// builder collects the records of one Service. Names are relative to it.
type builder struct {
	service *cluster.Service
	options *Options
	base    string // the full name of the Service
	sets    map[ownerType]*rrset
	seen    map[record]struct{}
	full    map[string]string // one copy of each name, for all its records
}

// fullName returns "" for a name that DNS cannot hold.
func (b *builder) fullName(name string) string {
	if full, known := b.full[name]; known {
		return full
	}
	full := b.base
	if name != "" {
		full = name + "." + b.base
	}
	if len(full) > maxName {
		full = ""
	}
	b.full[name] = full
	return full
}

// add gives rr its header and puts it at a name, once.
func (b *builder) add(r record, rr dns.RR) {
	if _, seen := b.seen[r]; seen {
		return
	}
	b.seen[r] = struct{}{}
	owner := b.fullName(r.name)
	if owner == "" {
		return
	}
	set := b.sets[r.ownerType]
	if set == nil {
		set = &rrset{qtype: r.qtype}
		b.sets[r.ownerType] = set
	}
	*rr.Header() = header(owner, r.qtype, b.options.TTL)
	set.records = append(set.records, rr)
}

func header(owner string, qtype uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: qtype, Class: dns.ClassINET, Ttl: ttl}
}

// address adds an A or AAAA record.
func (b *builder) address(name string, ip netip.Addr) {
	rr := newAddress(ip)
	b.add(record{ownerType: ownerType{name, rr.Header().Rrtype}, addr: ip}, rr)
}

// newAddress returns a record that has only type and address.
func newAddress(ip netip.Addr) dns.RR {
	if ip.Is4() {
		return &dns.A{Hdr: dns.RR_Header{Rrtype: dns.TypeA}, A: ip.AsSlice()}
	}
	return &dns.AAAA{Hdr: dns.RR_Header{Rrtype: dns.TypeAAAA}, AAAA: ip.AsSlice()}
}

// alias adds the CNAME of an ExternalName Service, unless its target is an IP
// address, for which there is no name to look up.
func (b *builder) alias() {
	if _, err := netip.ParseAddr(b.service.ExternalName); err == nil {
		return
	}
	b.add(record{ownerType: ownerType{"", dns.TypeCNAME}}, &dns.CNAME{Target: dns.Fqdn(b.service.ExternalName)})
}

// IsName reports whether DNS can hold a name: the API server takes labels of any
// length, and one record that cannot be packed breaks off a whole transfer.
func IsName(name string) bool {
	_, ok := dns.IsDomainName(name) // allows one octet too many
	return ok && len(dns.Fqdn(name)) <= maxName
}

// finish returns all names, sorted, and adds what follows from the rest: the extra
// records of SRV sets and the empty non-terminals.
func (b *builder) finish() []node {
	nodes := make(map[string][]rrset)
	for at, set := range b.sets {
		if at.qtype == dns.TypeSRV {
			set.extra = b.targets(set.records)
		}
		set.records = slices.Clip(set.records)
		nodes[at.name] = append(nodes[at.name], *set)
		for parent := at.name; parent != ""; {
			_, parent, _ = strings.Cut(parent, ".")
			if _, known := nodes[parent]; !known {
				nodes[parent] = nil
			}
		}
	}
	out := make([]node, 0, len(nodes))
	for name, sets := range nodes {
		slices.SortFunc(sets, func(a, b rrset) int { return int(a.qtype) - int(b.qtype) })
		if full := b.full[name]; full != "" {
			name = full[:len(name)] // the same memory
		}
		out = append(out, node{name, slices.Clip(sets)})
	}
	slices.SortFunc(out, func(a, b node) int { return strings.Compare(a.name, b.name) })
	return out
}

// targets returns the addresses of the names that SRV records point to.
func (b *builder) targets(srvs []dns.RR) []dns.RR {
	var extra []dns.RR
	done := make(map[string]bool, len(srvs))
	for _, rr := range srvs {
		target := rr.(*dns.SRV).Target
		if done[target] {
			continue
		}
		done[target] = true
		name := strings.TrimSuffix(strings.TrimSuffix(target, b.base), ".")
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
			set := b.sets[ownerType{name, qtype}]
			switch {
			case set == nil:
			case extra == nil:
				extra = slices.Clip(set.records) // mostly the only ones
			default:
				extra = append(extra, set.records...)
			}
		}
	}
	return slices.Clip(extra)
}
