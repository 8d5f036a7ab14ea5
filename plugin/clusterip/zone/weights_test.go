package zone

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/miekg/dns"
)

// SRV records have the weights that are given, and where none is, or all are the same,
// CoreDNS's.
func TestWeights(t *testing.T) {
	for _, test := range []struct {
		name   string
		rules  []cluster.WeightRule
		slices []cluster.Weight // of each endpoint; none: nothing is said
		ready  int              // how many are
		want   string
	}{
		{name: "nothing said", ready: 3, want: "[33 33 33]"},
		{name: "slices", slices: []cluster.Weight{9, 9, 1}, ready: 3, want: "[9 9 1]"},
		{name: "all the same", slices: []cluster.Weight{9, 9, 9}, ready: 3, want: "[33 33 33]"},
		{name: "the other is not ready", slices: []cluster.Weight{9, 9, 1}, ready: 2, want: "[50 50]"},
		{name: "none for one", slices: []cluster.Weight{0, 1, 1}, ready: 3, want: "[0 1 1]"},
		{name: "a rule", rules: []cluster.WeightRule{{Range: netip.MustParsePrefix("10.64.0.1/32"), Weight: 65535}}, ready: 3, want: "[1 65535 1]"},
	} {
		s := headlessOf(3)
		s.Weights = test.rules
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			if test.slices != nil {
				e.Slice = &cluster.EndpointSlice{Ports: e.Slice.Ports, Weight: &test.slices[i]}
			}
			e.Ready = i < test.ready
		}
		x := New([]string{"cluster.local."}, Options{TTL: 5})
		x.Apply(cluster.Update{Services: []cluster.ServiceUpdate{{Name: s.Name, Service: s}}})
		for _, name := range []string{"db.shop.svc.cluster.local.", "_http._tcp.db.shop.svc.cluster.local.", "http.tcp.db.shop.svc.cluster.local."} {
			var got []uint16
			for _, rr := range x.zones[0].Lookup(name, dns.TypeSRV, 1).Answer {
				got = append(got, rr.(*dns.SRV).Weight)
			}
			if fmt.Sprint(got) != test.want {
				t.Errorf("%s: %s has weights %v, want %s", test.name, name, got, test.want)
			}
		}
	}
}

// Of one target that several endpoints have, as with both IP families, there is one record.
func TestWeightOfOneTarget(t *testing.T) {
	s := headlessOf(3)
	for i, w := range []cluster.Weight{2, 5, 3} {
		s.Endpoints[i].Slice = &cluster.EndpointSlice{Ports: s.Endpoints[i].Slice.Ports, Weight: &w}
		s.Endpoints[i].Hostname = []string{"a", "a", "b"}[i]
	}
	x := New([]string{"cluster.local."}, Options{TTL: 5})
	x.Apply(cluster.Update{Services: []cluster.ServiceUpdate{{Name: s.Name, Service: s}}})
	var got []string
	for _, rr := range x.zones[0].Lookup("db.shop.svc.cluster.local.", dns.TypeSRV, 1).Answer {
		got = append(got, fmt.Sprint(rr.(*dns.SRV).Target, rr.(*dns.SRV).Weight))
	}
	if want := []string{"a.db.shop.svc.cluster.local.5", "b.db.shop.svc.cluster.local.3"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
