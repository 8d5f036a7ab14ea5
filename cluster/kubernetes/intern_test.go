package kubernetes

import (
	"strings"
	"testing"
	"unsafe"

	"github.com/clusterip/clusterip/cluster"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What EndpointSlices have in common is there once, and what differs stays apart.
func TestShares(t *testing.T) {
	read := sliceReader(Options{})
	endpoints := func(edit func(*discoveryv1.EndpointSlice)) []cluster.Endpoint {
		s := largeSlice(0)
		for i := range s.Endpoints {
			s.Endpoints[i].Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: *s.Endpoints[i].Zone}}}
		}
		edit(s)
		out, err := read(s)
		if err != nil {
			t.Fatal(err)
		}
		return out.local.endpoints
	}
	one := endpoints(func(*discoveryv1.EndpointSlice) {})
	another := endpoints(func(s *discoveryv1.EndpointSlice) {
		s.Name = "another"
		s.Endpoints[1].NodeName = new("other")
		s.Endpoints[2].Zone = new("other")
		s.Endpoints[3].Hints.ForNodes = []discoveryv1.ForNode{{Name: "other"}}
	})
	for i := range one {
		a, b := one[i], another[i]
		if a.Slice != b.Slice || (a.Topology == b.Topology) != (i != 1 && i != 2) || (a.Hints == b.Hints) != (i != 3) {
			t.Errorf("endpoint %d: %+v and %+v", i, a, b)
		}
	}
	if a, b := another[1], another[2]; a.NodeName() != "other" || b.Zone() != "other" || another[3].NodeHints()[0] != "other" {
		t.Errorf("%+v, %+v, hints %+v", *a.Topology, *b.Topology, *another[3].Hints)
	}
	port := endpoints(func(s *discoveryv1.EndpointSlice) { s.Ports[0].Port = new(int32(8081)) })
	if got := port[0].Ports(); port[0].Slice == one[0].Slice || got[0].Port != 8081 {
		t.Errorf("ports %+v", got)
	}
	headless := endpoints(func(s *discoveryv1.EndpointSlice) { s.Labels[corev1.IsHeadlessService] = "" })
	if headless[0].Slice == one[0].Slice || !headless[0].NamesOnly() || one[0].NamesOnly() {
		t.Errorf("a slice with the label of headless Services: %+v; one without: %+v", *headless[0].Slice, *one[0].Slice)
	}
}

// Annotations are read and not kept, and slices of one weight share what they have in common.
func TestWeights(t *testing.T) {
	read := sliceReader(Options{})
	slice := func(weight string) *cluster.EndpointSlice {
		s := largeSlice(0)
		if weight != "" {
			s.Annotations = map[string]string{"clusterip.io/weight": weight}
		}
		out, err := read(s)
		if (err != nil) != (weight == "heavy") {
			t.Fatal(err)
		}
		return out.local.endpoints[0].Slice
	}
	none, two, again, three, bad := slice(""), slice("2"), slice("2"), slice("3"), slice("heavy")
	if two != again || two == none || two == three || none.Weight != nil || *two.Weight != 2 || *three.Weight != 3 || bad != none {
		t.Errorf("%+v, %+v, %+v, %+v, %+v", none, two, again, three, bad)
	}
	s, err := readService(&corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", Annotations: map[string]string{"clusterip.io/load-balancing": "source_hash", "clusterip.io/weights": "10.42.0.1"}},
		Spec:       corev1.ServiceSpec{ClusterIP: "10.43.0.1", Ports: []corev1.ServicePort{{Port: 80}}},
	})
	if err == nil || !strings.Contains(err.Error(), "annotation clusterip.io/weights: ") || s == nil || *s.Policy != cluster.SourceHash || s.Weights != nil {
		t.Errorf("%+v, %v", s, err)
	}
}

// Names of pods are many long strings, and few ask for them.
func TestPodNames(t *testing.T) {
	for _, wanted := range []bool{false, true} {
		out, err := sliceReader(Options{PodNames: wanted})(largeSlice(0))
		if err != nil {
			t.Fatal(err)
		}
		if got := out.local.endpoints[0].PodName; (got != "") != wanted {
			t.Errorf("wanted %t: the endpoint has pod name %q", wanted, got)
		}
	}
}

func TestSharesNamespaces(t *testing.T) {
	slices := newLoader(Options{}).slices
	namespace := func() *byte {
		s := largeSlice(0)
		s.Namespace = strings.Clone(s.Namespace)
		o, err := slices.object(s)
		if err != nil {
			t.Fatal(err)
		}
		if owner := o.model.local.owner.Namespace; unsafe.StringData(owner) != unsafe.StringData(o.key.Namespace) {
			t.Error("the owner's namespace is a copy")
		}
		return unsafe.StringData(o.key.Namespace)
	}
	if one, another := namespace(), namespace(); one != another {
		t.Error("the namespaces of two objects are copies")
	}
}

// What is interned is bounded, and a full interner goes on.
func TestInternerIsBounded(t *testing.T) {
	n := make(interner[int, int])
	for i := range 2 * maxInterned {
		if got := n.intern(i, i); got != i || len(n) > maxInterned {
			t.Fatalf("%d becomes %d among %d", i, got, len(n))
		}
	}
}
