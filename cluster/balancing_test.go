package cluster

import (
	"net/netip"
	"testing"
)

func weighted(e Endpoint, w Weight) Endpoint {
	slice := *e.Slice
	slice.Weight = &w
	e.Slice = &slice
	return e
}

func TestWeightOf(t *testing.T) {
	inEast := weighted(endpoint(3, "rs"), 5)
	inEast.Topology = &Topology{Zone: "east"}
	s := New(Service{Weights: []WeightRule{
		{Range: netip.MustParsePrefix("10.0.0.1/32"), Weight: 3},
		{Range: netip.MustParsePrefix("10.0.0.0/30"), Weight: 2},
		{Zone: "east", Weight: 0},
	}}, []Endpoint{endpoint(1, "rs"), weighted(endpoint(2, "rs"), 9), inEast, weighted(endpoint(4, "rs"), 7), endpoint(5, "rs")})
	for i, want := range []Weight{3, 2, 2, 7, 1} {
		if got := s.WeightOf(&s.Endpoints[i]); got != want {
			t.Errorf("%s weighs %d, want %d", s.Endpoints[i].Addr, got, want)
		}
	}
	s.Weights = s.Weights[2:]
	for i, want := range []Weight{1, 9, 0, 7, 1} {
		if got := s.WeightOf(&s.Endpoints[i]); got != want {
			t.Errorf("by zone: %s weighs %d, want %d", s.Endpoints[i].Addr, got, want)
		}
	}
	var nothing Endpoint
	if got := s.WeightOf(&nothing); got != 1 {
		t.Errorf("the zero Endpoint weighs %d", got)
	}
	for _, test := range []struct {
		s    *Service
		want bool
	}{
		{s, true},
		{New(Service{}), false},
		{New(Service{}, []Endpoint{endpoint(1, "rs"), {}}), false},
		{New(Service{}, []Endpoint{endpoint(1, "rs"), weighted(endpoint(2, "rs"), 1)}), true},
	} {
		if got := test.s.HasWeights(); got != test.want {
			t.Errorf("%+v: %t", test.s, got)
		}
	}
}

// An endpoint on its way from one slice to another is one, and weighs what is more.
func TestWeightsMerge(t *testing.T) {
	for _, lists := range [][][]Endpoint{
		{{weighted(endpoint(1, "rs"), 2)}, {weighted(endpoint(1, "rs"), 3)}},
		{{weighted(endpoint(1, "rs"), 3)}, {weighted(endpoint(1, "rs"), 2)}},
	} {
		if s := New(Service{}, lists...); len(s.Endpoints) != 1 || s.WeightOf(&s.Endpoints[0]) != 3 {
			t.Errorf("%+v", s.Endpoints)
		}
	}
}

func TestParsePolicy(t *testing.T) {
	for _, p := range []Policy{Random, RoundRobin, SourceHash} {
		if got, err := ParsePolicy(p.String()); got != p || err != nil {
			t.Errorf("%s: %v, %v", p, got, err)
		}
	}
	if _, err := ParsePolicy("Random"); err == nil {
		t.Error("capitals are taken")
	}
}
