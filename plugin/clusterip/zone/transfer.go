package zone

import (
	"iter"
	"math"

	"github.com/miekg/dns"
)

// Snapshot is what a transfer of a zone carries, at one moment. Immutable.
type Snapshot struct {
	zone      *Zone
	addresses []dns.RR // of the zone's name server
	services  [shardCount]*map[string]*Records
	pointers  *tree[*owners]
	primary   [shardCount]*map[string]*Records // where the pointers lead
}

// Snapshot returns the present state of the zone. It must not run at the same
// time as Apply, which it would see half done; it copies no records.
func (z *Zone) Snapshot() *Snapshot {
	return &Snapshot{
		zone: z, addresses: z.ownAddresses(), services: z.services.snapshot(),
		pointers: z.index.pointers.published.Load(), primary: z.index.primary.services.snapshot(),
	}
}

// target returns the records of a Service that pointers lead to, or nil.
func (s *Snapshot) target(k string) *Records {
	m := s.primary[s.zone.index.primary.services.number(k)]
	if m == nil {
		return nil
	}
	return (*m)[k]
}

// Records returns all records but the SOA, in pieces of one RRset. Left out are
// the names that have no end, pods' and zonal ones, and those in a zone below
// this one that the Index has too.
func (s *Snapshot) Records() iter.Seq[[]dns.RR] {
	return func(yield func([]dns.RR) bool) {
		for set := range s.all() {
			if len(set) == 0 || s.zone.index.Match(set[0].Header().Name) != s.zone {
				continue
			}
			if !yield(set) {
				return
			}
		}
	}
}

func (s *Snapshot) all() iter.Seq[[]dns.RR] {
	return func(yield func([]dns.RR) bool) {
		z := s.zone
		if !yield(z.ns()) || !yield(s.addresses) {
			return
		}
		if !z.reverse && !yield(z.version.records) {
			return
		}
		for _, shard := range s.services {
			if shard == nil {
				continue
			}
			for _, records := range *shard {
				for _, set := range records.sets() {
					if !yield(set.records) {
						return
					}
				}
			}
		}
		if !z.reverse && !z.above || s.pointers == nil {
			return
		}
		for ip, found := range s.pointers.all() {
			if !yield(found.records(reverseName(ip), ip, s.target, math.MaxInt)) {
				return
			}
		}
	}
}

// Zone returns the zone with this name, or nil.
func (x *Index) Zone(origin string) *Zone {
	if z := x.Match(origin); z != nil && z.origin == origin {
		return z
	}
	return nil
}

// Zones returns all zones, the most specific first.
func (x *Index) Zones() []*Zone { return x.zones }

// Track makes Apply return Changes from now on. Like Apply, it is for the writer.
func (x *Index) Track() { x.tracked = true }

// ownAddresses returns the addresses of the zone's own name server. That of a
// reverse zone is in another zone.
func (z *Zone) ownAddresses() []dns.RR {
	if z.reverse {
		return nil
	}
	return z.index.nameservers(join("ns.dns", z.origin))
}
