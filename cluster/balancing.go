package cluster

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Policy says how endpoints take turns at new connections. How many each of them gets is
// the weights' to say.
type Policy uint8

// The policies.
const (
	// Random: each connection goes to any of them.
	Random Policy = iota
	// RoundRobin: one after the other.
	RoundRobin
	// SourceHash: by the client's address, so that a client gets the same one again.
	SourceHash
	// Those after it are schedulers of IPVS, by the names that the kernel has for them
	// (net/netfilter/ipvs/Kconfig): round robin, weighted round robin, least connections and
	// weighted least connections,
	RR
	WRR
	LC
	WLC
	// source hashing, with a table of Maglev, and destination hashing,
	SH
	MH
	DH
	// shortest expected delay, never queue, failover and overflow by weight,
	SED
	NQ
	FO
	OVF
	// locality-based least connections, with replication, and power of two choices.
	LBLC
	LBLCR
	TwoS
)

var policies = [...]string{
	Random: "random", RoundRobin: "round_robin", SourceHash: "source_hash",
	RR: "rr", WRR: "wrr", LC: "lc", WLC: "wlc", SH: "sh", MH: "mh", DH: "dh", SED: "sed", NQ: "nq", FO: "fo", OVF: "ovf",
	LBLC: "lblc", LBLCR: "lblcr", TwoS: "twos",
}

// Schedulers returns the policies that are schedulers of IPVS.
func Schedulers() (all []Policy) {
	for p := RR; p <= TwoS; p++ {
		all = append(all, p)
	}
	return all
}

// OfIPVS reports whether it is a scheduler of IPVS.
func (p Policy) OfIPVS() bool { return p >= RR }

// ParsePolicy reads what String writes.
func ParsePolicy(text string) (Policy, error) {
	if p := slices.Index(policies[:], text); p >= 0 {
		return Policy(p), nil
	}
	return 0, fmt.Errorf("%q is none of %s, nor a scheduler of IPVS: %s", text, strings.Join(policies[:RR], ", "), strings.Join(policies[RR:], ", "))
}

// String returns "random", "round_robin", "source_hash" or the name of a scheduler.
func (p Policy) String() string { return policies[p] }

// Weight is how many new connections an endpoint gets beside others: one of weight 2 gets
// twice as many as one of weight 1. One of weight 0 gets none as long as another may get
// some.
type Weight = uint16

// DefaultWeight is that of an endpoint of which nothing is said.
const DefaultWeight Weight = 1

// WeightRule gives a weight to the endpoints of a Service that it is for.
type WeightRule struct {
	// Either the endpoints with an address in this range, or those in this zone.
	Range  netip.Prefix
	Zone   string
	Weight Weight
}

func (r *WeightRule) isFor(e *Endpoint) bool {
	if r.Zone != "" {
		return e.Zone() == r.Zone
	}
	return r.Range.Contains(e.Addr)
}

// HasWeights reports whether any weight is given.
func (s *Service) HasWeights() bool {
	if len(s.Weights) > 0 {
		return true
	}
	for i := range s.Endpoints {
		if slice := s.Endpoints[i].Slice; slice != nil && slice.Weight != nil {
			return true
		}
	}
	return false
}

// WeightOf returns the weight of one of the Service's endpoints: what the first rule says
// that is for it, or else its slice.
func (s *Service) WeightOf(e *Endpoint) Weight {
	for i := range s.Weights {
		if s.Weights[i].isFor(e) {
			return s.Weights[i].Weight
		}
	}
	return e.sliceWeight()
}

func (e *Endpoint) sliceWeight() Weight {
	if e.Slice == nil || e.Slice.Weight == nil {
		return DefaultWeight
	}
	return *e.Slice.Weight
}
