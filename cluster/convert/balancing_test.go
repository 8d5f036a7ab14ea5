package convert

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func annotated(annotations map[string]string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "testing", Annotations: annotations},
		Spec:       corev1.ServiceSpec{ClusterIP: "10.43.0.1", Ports: []corev1.ServicePort{{Port: 80}}},
	}
}

func TestPolicy(t *testing.T) {
	for _, p := range []cluster.Policy{cluster.Random, cluster.RoundRobin, cluster.SourceHash} {
		given := annotated(map[string]string{policyAnnotation: p.String()})
		if s, err := Service(given); err != nil || s.Policy == nil || *s.Policy != p || Balancing(given) != nil {
			t.Errorf("%s: %v, %v, %v", p, s.Policy, err, Balancing(given))
		}
	}
	if s, err := Service(annotated(nil)); err != nil || s.Policy != nil || s.Weights != nil {
		t.Errorf("nothing said: %+v, %v", s, err)
	}
}

func TestWeights(t *testing.T) {
	given := annotated(map[string]string{weightsAnnotation: "10.42.1.7=3, 10.42.2.5/24=2 ,fd00::/64=65535, ::ffff:10.42.1.8 = 4,zone/us-east-1a=0"})
	want := []cluster.WeightRule{
		{Range: netip.MustParsePrefix("10.42.1.7/32"), Weight: 3},
		{Range: netip.MustParsePrefix("10.42.2.0/24"), Weight: 2},
		{Range: netip.MustParsePrefix("fd00::/64"), Weight: 65535},
		{Range: netip.MustParsePrefix("10.42.1.8/32"), Weight: 4},
		{Zone: "us-east-1a"},
	}
	s, err := Service(given)
	if d := cmp.Diff(want, s.Weights, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" || err != nil || Balancing(given) != nil {
		t.Errorf("%v, %v: %s", err, Balancing(given), d)
	}
}

// Who mistypes an annotation is told what and how to mend it, and keeps the Service.
func TestBadBalancing(t *testing.T) {
	for _, test := range []struct{ annotation, value, want string }{
		{policyAnnotation, "fastest", `annotation clusterip.io/load-balancing "fastest" is none of random, round_robin, source_hash, nor a scheduler of IPVS: rr, wrr, lc, wlc, sh, mh, dh, sed, nq, fo, ovf, lblc, lblcr, twos; it is ignored`},
		{policyAnnotation, "", `annotation clusterip.io/load-balancing "" is none of`},
		{"clusterip.io/loadbalancing", "random", `annotation clusterip.io/loadbalancing "random" is unknown: for Service there is clusterip.io/load-balancing and clusterip.io/weights; it is ignored`},
		{weightAnnotation, "3", `annotation clusterip.io/weight "3" is unknown: for Service there is`},
		{weightsAnnotation, "", `annotation clusterip.io/weights: "" is not of the form 10.42.1.7=3, 10.42.2.0/24=3 or zone/east=3; the whole annotation is ignored`},
		{weightsAnnotation, "10.42.1.7=3,", `"" is not of the form`},
		{weightsAnnotation, "10.42.1.7:3", `"10.42.1.7:3" is not of the form`},
		{weightsAnnotation, "10.42.1.7=65536", `"10.42.1.7=65536": "65536" is not a weight: give a whole number from 0 to 65535`},
		{weightsAnnotation, "10.42.1.7=-1", `"-1" is not a weight`},
		{weightsAnnotation, "10.42.1.7=0.5", `"0.5" is not a weight`},
		{weightsAnnotation, "10.42.1.300=1", `"10.42.1.300" is no address, no range such as 10.42.2.0/24, and no zone such as zone/east`},
		{weightsAnnotation, "fe80::1%eth0=1", `"fe80::1%eth0" is no address`},
		{weightsAnnotation, "::ffff:10.0.0.0/104=1", `is no address`},
		{weightsAnnotation, "east=1", `"east" is no address`},
		{weightsAnnotation, "zone/=1", `"" is no name of a zone: give the value of the label topology.kubernetes.io/zone`},
		{weightsAnnotation, "zone/a b=1", `"a b" is no name of a zone`},
		{weightsAnnotation, strings.Repeat("10.42.1.7=3,", 256) + "10.42.1.7=3", "has 257 entries, and may have 256"},
	} {
		given := annotated(map[string]string{test.annotation: test.value})
		if faults := Balancing(given); len(faults) != 1 || !strings.Contains(faults[0].Error(), test.want) {
			t.Errorf("%s %q: %v, want %q", test.annotation, test.value, faults, test.want)
		}
		if s, err := Service(given); err != nil || s.Policy != nil || s.Weights != nil || s.Kind != cluster.KindClusterIP || len(s.Ports) != 1 {
			t.Errorf("%s %q: %+v, %v; want the Service as if it said nothing", test.annotation, test.value, s, err)
		}
	}
	many := annotated(map[string]string{policyAnnotation: "x", weightsAnnotation: strings.Repeat("x,", 200)})
	if faults := Balancing(many); len(faults) != maxFaults+1 {
		t.Errorf("%d faults are told", len(faults))
	}
}

func TestSliceWeight(t *testing.T) {
	slice := func(weight string) *discoveryv1.EndpointSlice {
		return &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{
				Name: "web-1", Namespace: "testing", Labels: map[string]string{discoveryv1.LabelServiceName: "web"},
				Annotations: map[string]string{weightAnnotation: weight},
			},
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.42.0.1"}}},
		}
	}
	older := func(weight string) *corev1.Endpoints {
		return &corev1.Endpoints{ObjectMeta: slice(weight).ObjectMeta, Subsets: []corev1.EndpointSubset{{Addresses: []corev1.EndpointAddress{{IP: "10.42.0.1"}}}}}
	}
	for i, read := range []func(string) ([]cluster.Endpoint, error){
		func(weight string) ([]cluster.Endpoint, error) {
			_, list, err := EndpointSlice(slice(weight))
			return list, err
		},
		func(weight string) ([]cluster.Endpoint, error) {
			_, list, err := Endpoints(older(weight))
			return list, err
		},
	} {
		if list, err := read(" 7 "); err != nil || *list[0].Slice.Weight != 7 {
			t.Errorf("%d: %+v, %v", i, list, err)
		}
		list, err := read("heavy")
		if want := `annotation clusterip.io/weight: "heavy" is not a weight: give a whole number from 0 to 65535; it is ignored`; fmt.Sprint(err) != want {
			t.Errorf("%d: %v, want %s", i, err, want)
		}
		if len(list) != 1 || list[0].Slice.Weight != nil {
			t.Errorf("%d: %+v: want the endpoint as if nothing was said", i, list)
		}
	}
}
