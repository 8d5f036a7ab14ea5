package zone

import (
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/miekg/dns"
)

// The SOA timers are CoreDNS's, and so is the limit on the SOA's own TTL.
const (
	soaRefresh = 7200
	soaRetry   = 1800
	soaExpire  = 86400
	soaMaxTTL  = 300
)

// serialSOA is the SOA of one serial number, and its data as octets.
type serialSOA struct {
	serial  uint32
	records []dns.RR
	wire    []byte
}

// SOA returns the SOA record with a serial number. The TTL option is the time
// that clients may keep a negative answer (RFC 2308).
func (z *Zone) SOA(serial uint32) []dns.RR { return z.soaOf(serial).records }

func (z *Zone) soaOf(serial uint32) *serialSOA {
	if soa := z.soa.Load(); soa != nil && soa.serial == serial {
		return soa
	}
	ttl := z.index.options.TTL
	record := &dns.SOA{
		Hdr: header(z.origin, dns.TypeSOA, min(ttl, soaMaxTTL)),
		Ns:  z.server(), Mbox: join("hostmaster", z.authority()),
		Serial: serial, Refresh: soaRefresh, Retry: soaRetry, Expire: soaExpire, Minttl: ttl,
	}
	soa := &serialSOA{serial, []dns.RR{record}, soaData(record)}
	z.soa.Store(soa)
	return soa
}

func (z *Zone) apex(qtype uint16) Hit {
	switch qtype {
	case dns.TypeSOA, dns.TypeANY:
		return Hit{Outcome: Success, soa: true}
	case dns.TypeNS:
		return Hit{later: func() Hit {
			return Hit{Outcome: Success, set: rrset{records: z.ns(), extra: Window(z.index.serverAt(z.server()))}}
		}}
	}
	return Hit{Outcome: NoData}
}

func (z *Zone) ns() []dns.RR {
	return []dns.RR{&dns.NS{Hdr: header(z.origin, dns.TypeNS, z.index.options.TTL), Ns: z.server()}}
}

// server is the name of the zone's server.
func (z *Zone) server() string { return join("ns.dns", z.authority()) }

// authority is where names for the zone's server and its people are. A reverse zone
// has none: it borrows those of the first forward zone.
func (z *Zone) authority() string {
	if z.reverse {
		return z.index.primary.origin
	}
	return z.origin
}

// nameserver answers for ns.dns.<zone>.
func (z *Zone) nameserver(qtype uint16) Hit {
	var ofType []dns.RR
	for _, rr := range z.glue() {
		if t := rr.Header().Rrtype; t == qtype || qtype == dns.TypeANY {
			ofType = append(ofType, rr)
		}
	}
	if len(ofType) == 0 {
		return Hit{Outcome: NoData}
	}
	return Hit{Outcome: Success, set: rrset{records: slices.Clip(Window(ofType))}}
}

// glue returns the address records of the zone's server. That of a reverse zone is in
// another zone.
func (z *Zone) glue() []dns.RR {
	if z.reverse {
		return nil
	}
	return z.index.serverAt(z.server())
}

// serverAt returns address records, at the name given, of the Services that this
// server is an endpoint of, else of the server itself.
func (x *Index) serverAt(owner string) []dns.RR {
	var ips []netip.Addr
	for _, s := range x.OwnServices() {
		// It may be gone since.
		if r := x.primary.services.get(key(s.Name)); r != nil {
			ips = append(ips, r.resolved()...)
		}
	}
	if len(ips) == 0 {
		ips = x.options.Nameservers
	}
	return x.AddressRecords(owner, ips)
}

// resolved returns the addresses that the Service's own name has, in no order.
func (r *Records) resolved() []netip.Addr {
	switch {
	case len(r.base) > maxName:
		return nil
	case r.service.Kind != cluster.KindClusterIP:
		return addressesOf(r.usable)
	case r.isIgnored():
		return nil
	}
	return r.service.ClusterIPs
}

// Nameservers returns this server's own addresses.
func (x *Index) Nameservers() []netip.Addr { return x.options.Nameservers }

// AddressRecords returns records of addresses, which may be there twice.
func (x *Index) AddressRecords(owner string, ips []netip.Addr) []dns.RR {
	return addressRecords(at(owner, sortUnique(slices.Clone(ips))), x.options.TTL)
}
