package cluster

import (
	"fmt"
	"net/netip"
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
)

var policies = [...]string{Random: "random", RoundRobin: "round_robin", SourceHash: "source_hash"}

// ParsePolicy reads what String writes.
func ParsePolicy(text string) (Policy, error) {
	for p, name := range policies {
		if text == name {
			return Policy(p), nil
		}
	}
	return 0, fmt.Errorf("%q is none of random, round_robin, source_hash", text)
}

// String returns "random", "round_robin" or "source_hash".
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
