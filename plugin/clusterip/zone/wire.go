package zone

import (
	"encoding/binary"

	"github.com/clusterip/clusterip/plugin/clusterip/wire"
	"github.com/miekg/dns"
)

// AppendWire writes the reply to the question that something was found for, with the same
// records as those of Lookup. Addresses are shuffled as the loadbalance plugin does it, if
// asked for. It is false for what is rare: aliases to be followed, records of other types
// than those of Services, and what only Lookup finds. Names of records are taken to be
// without escapes.
func (h Hit) AppendWire(r *wire.Reply, serial uint32, shuffle bool) bool {
	ttl, owner := h.zone.index.options.TTL, r.OwnerLen
	switch {
	case h.later != nil || h.Alias != "" || h.zone.origin == ".":
		return false
	case h.Outcome != Success:
		r.Authority()
		return h.zone.appendSOA(r, serial)
	case h.soa:
		return h.zone.appendSOA(r, serial)
	case h.address.IsValid():
		return r.Expect(addressLen(owner, h.address.BitLen()/8), true) && r.Address(r.Owner, ttl, h.address)
	case h.pointer.of != nil:
		to := h.pointer.append(r.Buffer[:0])
		if !r.Expect(owner+1+recordLen+len(to)+1, false) {
			return false
		}
		r.Pointer(ttl, to)
		return true
	case h.plain.of != nil:
		return h.plain.appendWire(r, shuffle)
	}
	return h.set.appendWire(r, shuffle)
}

const (
	recordLen  = 10 // of a record without its owner and data
	serviceLen = 6  // of the data of an SRV record without the target
)

func addressLen(owner, octets int) int { return owner + 1 + recordLen + octets }

// appendWire writes a set of one type and what goes with it.
func (s rrset) appendWire(r *wire.Reply, shuffle bool) bool {
	switch first := s.records[0].(type) {
	case *dns.A:
		return appendAddresses(r, s.records, len(first.A), shuffle)
	case *dns.AAAA:
		return appendAddresses(r, s.records, len(first.AAAA), shuffle)
	case *dns.SRV:
		return s.appendServices(r, shuffle)
	}
	return false
}

// appendAddresses writes addresses of one family, so many octets each.
func appendAddresses(r *wire.Reply, records []dns.RR, octets int, shuffle bool) bool {
	if !r.Expect(len(records)*addressLen(r.OwnerLen, octets), true) {
		return false
	}
	r.Deal(len(records), shuffle)
	for i := range records {
		if !appendAddress(r, r.Owner, records[r.Next(i)]) {
			break // truncated
		}
	}
	return true
}

// appendAddress writes an A or AAAA record. It is false if there is no room.
func appendAddress(r *wire.Reply, owner uint16, rr dns.RR) bool {
	if a, ok := rr.(*dns.A); ok {
		return r.Record(owner, dns.TypeA, a.Hdr.Ttl, a.A)
	}
	aaaa := rr.(*dns.AAAA)
	return r.Record(owner, dns.TypeAAAA, aaaa.Hdr.Ttl, aaaa.AAAA)
}

// appendServices writes SRV records and the addresses of their targets, both of which are
// sorted by the name of the target.
func (s rrset) appendServices(r *wire.Reply, shuffle bool) bool {
	if !r.Expect(s.servicesLen(r.OwnerLen), true) {
		return false
	}
	next := 0
	for _, rr := range s.records {
		srv := rr.(*dns.SRV)
		target, ok := r.Service(srv.Hdr.Ttl, srv.Priority, srv.Weight, srv.Port, append(r.Buffer[:0], srv.Target...), nil)
		if !ok {
			return true // truncated
		}
		for next < len(s.extra) && s.extra[next].Header().Name == srv.Target {
			r.Owners[next] = target
			next++
		}
	}
	if next < len(s.extra) {
		return false // not in order
	}
	r.Additional()
	r.Deal(len(s.extra), shuffle)
	for i := range s.extra {
		number := r.Next(i)
		if !appendAddress(r, r.Owners[number], s.extra[number]) {
			break
		}
	}
	return true
}

// servicesLen returns the length of SRV records at a name, and of what goes with them,
// without compression.
func (s rrset) servicesLen(owner int) int {
	length := 0
	for _, rr := range s.records {
		length += owner + 1 + recordLen + serviceLen + len(rr.(*dns.SRV).Target) + 1
	}
	for _, rr := range s.extra {
		octets := 4
		if rr.Header().Rrtype == dns.TypeAAAA {
			octets = 16
		}
		length += addressLen(len(rr.Header().Name), octets)
	}
	return length
}

// appendSOA writes the SOA record.
func (z *Zone) appendSOA(r *wire.Reply, serial uint32) bool {
	soa := z.soaOf(serial)
	return r.Expect(len(z.origin)+1+recordLen+len(soa.wire), false) &&
		r.Record(r.Suffix(len(z.origin)), dns.TypeSOA, soa.records[0].Header().Ttl, soa.wire)
}

// soaData returns the data of an SOA record as octets.
func soaData(soa *dns.SOA) []byte {
	data := wire.AppendName(wire.AppendName(nil, soa.Ns), soa.Mbox)
	for _, number := range [...]uint32{soa.Serial, soa.Refresh, soa.Retry, soa.Expire, soa.Minttl} {
		data = binary.BigEndian.AppendUint32(data, number)
	}
	return data
}
