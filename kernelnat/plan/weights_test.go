package plan_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

func weighing(e cluster.Endpoint, w cluster.Weight) cluster.Endpoint {
	slice := *e.Slice
	slice.Weight = &w
	e.Slice = &slice
	return e
}

func TestWeights(t *testing.T) {
	type want struct {
		endpoints, local      string
		weights, localWeights []cluster.Weight
		draining              string
	}
	for _, test := range []struct {
		name      string
		endpoints []cluster.Endpoint
		want      want
	}{
		{
			"nothing said", []cluster.Endpoint{endpoint("10.42.0.1", ready, here), endpoint("10.42.0.2", ready, there)},
			want{"[10.42.0.1:5678 10.42.0.2:5678]", "[10.42.0.1:5678]", nil, nil, "[]"},
		},
		{
			"all the same", []cluster.Endpoint{weighing(endpoint("10.42.0.1", ready, here), 7), weighing(endpoint("10.42.0.2", ready, there), 7)},
			want{"[10.42.0.1:5678 10.42.0.2:5678]", "[10.42.0.1:5678]", nil, nil, "[]"},
		},
		{
			"two slices, and one that says nothing",
			[]cluster.Endpoint{weighing(endpoint("10.42.0.3", ready, here), 5), weighing(endpoint("10.42.0.2", ready, here), 2), endpoint("10.42.0.1", ready, there)},
			want{"[10.42.0.1:5678 10.42.0.2:5678 10.42.0.3:5678]", "[10.42.0.2:5678 10.42.0.3:5678]", []cluster.Weight{1, 2, 5}, []cluster.Weight{2, 5}, "[]"},
		},
		{
			"who weighs nothing keeps the connections it has",
			[]cluster.Endpoint{weighing(endpoint("10.42.0.1", ready, here), 0), weighing(endpoint("10.42.0.2", ready, there), 2), endpoint("10.42.0.3", ready, there)},
			// Nobody else is on this node.
			want{"[10.42.0.2:5678 10.42.0.3:5678]", "[10.42.0.1:5678]", []cluster.Weight{2, 1}, nil, "[]"},
		},
		{
			"nobody weighs anything", []cluster.Endpoint{weighing(endpoint("10.42.0.1", ready, there), 0), weighing(endpoint("10.42.0.2", ready, there), 0)},
			want{"[10.42.0.1:5678 10.42.0.2:5678]", "[]", nil, nil, "[]"},
		},
		{
			"who weighs something is not ready",
			[]cluster.Endpoint{weighing(endpoint("10.42.0.1", ready, there), 0), endpoint("10.42.0.2", notReady, there), endpoint("10.42.0.3", terminating, there)},
			want{"[10.42.0.1:5678]", "[]", nil, nil, "[10.42.0.3:5678]"},
		},
		{
			"one drains", []cluster.Endpoint{weighing(endpoint("10.42.0.1", ready, there), 0), endpoint("10.42.0.2", ready, there)},
			want{"[10.42.0.2:5678]", "[]", nil, nil, "[10.42.0.1:5678]"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			given := *service(false, test.endpoints...)
			given.External = cluster.External{IPs: addrs("203.0.113.7"), Local: true}
			p := plan.Compute(&given, cluster.IPv4, self, plan.Options{}).Pools[0]
			got := want{fmt.Sprint(p.Endpoints), fmt.Sprint(p.Local), p.Weights, p.LocalWeights, fmt.Sprint(p.Draining)}
			if fmt.Sprint(got) != fmt.Sprint(test.want) || (got.weights == nil) != (test.want.weights == nil) {
				t.Errorf("got  %v\nwant %v", got, test.want)
			}
		})
	}
}

// Of two slices that lead to one address and port the heavier counts.
func TestWeightsOfOneTarget(t *testing.T) {
	other := cluster.EndpointPort{Name: "other", Protocol: cluster.TCP, Port: 1}
	s := service(false, weighing(endpoint("10.42.0.1", ready, there), 2), weighing(endpoint("10.42.0.1", ready, there, http, other), 3), endpoint("10.42.0.2", ready, there))
	if p := plan.Compute(s, cluster.IPv4, self, plan.Options{}).Pools[0]; !slices.Equal(p.Weights, []cluster.Weight{3, 1}) || len(p.Endpoints) != 2 {
		t.Errorf("%v weigh %v", p.Endpoints, p.Weights)
	}
}

// Weights stay with their endpoints where there are more of these than there may be.
func TestWeightsOfMany(t *testing.T) {
	var all []cluster.Endpoint
	for i, e := range neighbours(plan.DefaultBounds.Endpoints + 100) {
		all = append(all, weighing(endpoint(e.Addr().String(), ready, there), cluster.Weight(1+i%7)))
	}
	p := plan.Compute(service(false, all...), cluster.IPv4, self, plan.Options{}).Pools[0]
	if len(p.Weights) != plan.DefaultBounds.Endpoints {
		t.Fatalf("%d weights", len(p.Weights))
	}
	for i, e := range p.Endpoints {
		addr := e.Addr().As4()
		if want := cluster.Weight(1 + (int(addr[2])<<8+int(addr[3]))%7); p.Weights[i] != want {
			t.Fatalf("%s weighs %d, want %d", e, p.Weights[i], want)
		}
	}
}

func TestWeightlessIsToldApart(t *testing.T) {
	s := service(false, weighing(endpoint("10.42.0.1", ready, there), 0), endpoint("10.42.0.2", ready, there))
	_, dropped := plan.Explain(s, cluster.IPv4, self, plan.Options{})
	if len(dropped) != 1 || dropped[0].Why != plan.Weightless || dropped[0].Endpoint.Addr.String() != "10.42.0.1" || dropped[0].Why.String() != "of weight 0" {
		t.Errorf("%+v", dropped)
	}
}

func TestPolicy(t *testing.T) {
	lacks := []cluster.Policy{cluster.SourceHash}
	missing := func(p cluster.Policy) error {
		if p == cluster.TwoS {
			return errors.New("this kernel has no twos")
		}
		return nil
	}
	for _, test := range []struct {
		own     *cluster.Policy
		options plan.Options
		want    cluster.Policy
		told    string
	}{
		{nil, plan.Options{}, cluster.Random, ""},
		{nil, plan.Options{Policy: cluster.RoundRobin}, cluster.RoundRobin, ""},
		{new(cluster.Random), plan.Options{Policy: cluster.RoundRobin}, cluster.Random, ""},
		{new(cluster.SourceHash), plan.Options{}, cluster.SourceHash, ""},
		{new(cluster.SourceHash), plan.Options{Policy: cluster.RoundRobin, Lacks: lacks}, cluster.Random, "this backend has no source_hash, so"},
		{new(cluster.RoundRobin), plan.Options{Lacks: lacks}, cluster.RoundRobin, ""},
		{new(cluster.TwoS), plan.Options{Missing: missing}, cluster.Random, "this kernel has no twos, so"},
		{new(cluster.LC), plan.Options{Missing: missing}, cluster.LC, ""},
		{nil, plan.Options{Policy: cluster.TwoS, Missing: missing}, cluster.Random, ""},
	} {
		s := *service(false, endpoint("10.42.0.1", ready, there))
		s.Policy = test.own
		p := plan.Compute(&s, cluster.IPv4, self, test.options)
		if p.Pools[0].Policy != test.want || !strings.Contains(p.Excess, test.told) || test.told == "" && p.Excess != "" {
			t.Errorf("%v, %s: %s, told %q", test.own, test.options.Policy, p.Pools[0].Policy, p.Excess)
		}
	}
}

// Where a policy means nothing since clients keep their endpoint, that is told once.
func TestStickyAtRandom(t *testing.T) {
	for _, test := range []struct {
		own      cluster.Policy
		affinity uint32
		atRandom bool
		told     bool
	}{
		{cluster.RoundRobin, 60, true, true},
		{cluster.SourceHash, 60, true, true},
		{cluster.Random, 60, true, false},
		{cluster.RoundRobin, 0, true, false},
		{cluster.RoundRobin, 60, false, false},
	} {
		s := *service(false, endpoint("10.42.0.1", ready, there))
		s.Policy, s.AffinitySeconds = &test.own, test.affinity
		excess := plan.Compute(&s, cluster.IPv4, self, plan.Options{StickyAtRandom: test.atRandom}).Excess
		if told := strings.Contains(excess, fmt.Sprintf("clusterip.io/load-balancing %q: with sessionAffinity ClientIP", test.own)); told != test.told || !told && excess != "" {
			t.Errorf("%+v: told %q", test, excess)
		}
	}
}

func TestPoolsDifferInBalancing(t *testing.T) {
	base := plan.Service{Name: name, Pools: []plan.Pool{{Endpoints: neighbours(2)}}}
	for _, edit := range []func(*plan.Pool){
		func(p *plan.Pool) { p.Policy = cluster.RoundRobin },
		func(p *plan.Pool) { p.Weights = []cluster.Weight{1, 2} },
		func(p *plan.Pool) { p.LocalWeights = []cluster.Weight{1, 2} },
	} {
		other := base
		other.Pools = slices.Clone(base.Pools)
		if edit(&other.Pools[0]); other.Equal(base) {
			t.Errorf("%+v equals %+v", other.Pools[0], base.Pools[0])
		}
	}
}
