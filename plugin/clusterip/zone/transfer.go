package zone

import (
	"iter"
	"math"

	"github.com/clusterip/clusterip/plugin/clusterip/zone/addrs"
	"github.com/miekg/dns"
)

// Snapshot is what a transfer of a zone carries. Immutable.
//
// A transfer is one moment, and a difference is exact. Index and serial change under one
// lock. A transfer takes a Snapshot under it, which is the pointers to what is there, and
// reads the records without it. A Change is what went and came between two such moments.
type Snapshot struct {
	zone     *Zone
	glue     []dns.RR
	services *shards
	owners   *addrs.Tree[*owners]
	primary  *shards // where the pointers lead
}

// Snapshot returns the present state of the zone. It must not run at the same
// time as Apply, which it would see half done; it copies no records.
func (z *Zone) Snapshot() *Snapshot {
	return &Snapshot{
		zone: z, glue: z.glue(), services: z.services.snapshot(),
		owners: z.index.owners.Load(), primary: z.index.primary.services.snapshot(),
	}
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
		if !yield(z.ns()) || !yield(s.glue) {
			return
		}
		if !z.reverse && !yield(z.version.records) {
			return
		}
		for records := range s.services.all() {
			for _, set := range records.sets() {
				if !yield(set.records) {
					return
				}
			}
		}
		if !z.reverse && !z.above {
			return
		}
		for ip, found := range s.owners.All() {
			if !yield(found.records(addrs.ReverseName(ip), ip, s.primary.get, math.MaxInt)) {
				return
			}
		}
	}
}
