package kubernetes

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/test/clustertest"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// BenchmarkLoad reads 10,000 Services of 10 endpoints each, on 500 nodes in 3 zones,
// and reports what of them is held.
func BenchmarkLoad(b *testing.B) {
	for _, o := range []Options{{}, {PodNames: true}} {
		b.Run(fmt.Sprintf("podNames=%t", o.PodNames), func(b *testing.B) {
			var before, after runtime.MemStats
			for b.Loop() {
				runtime.GC()
				runtime.ReadMemStats(&before)
				l := newLoader(o)
				for i := range 10_000 {
					l.load(b, largeService(i))
					l.load(b, largeSlice(i))
				}
				store := cluster.NewStore()
				store.Apply(l.joiner.take())
				runtime.GC()
				runtime.ReadMemStats(&after)
				runtime.KeepAlive(l)
				runtime.KeepAlive(store)
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MB")
			}
		})
	}
}

// What is held for a Service of 10 endpoints. The endpoints are 900 bytes of it.
func TestHeap(t *testing.T) {
	const services, bound = 4000, 2400
	held := clustertest.Heap(func() any {
		l, store := newLoader(Options{}), cluster.NewStore()
		for i := range services {
			l.load(t, largeService(i))
			l.load(t, largeSlice(i))
		}
		store.Apply(l.joiner.take())
		return []any{l, store}
	})
	t.Logf("%d bytes a Service", held/services)
	if held/services > bound {
		t.Errorf("%d bytes are held for a Service, want %d at most", held/services, bound)
	}
}

// loader has objects converted and joined as Source.Run does.
type loader struct {
	joiner   *joiner
	queue    *queue
	services *followed[cluster.Service]
	slices   *followed[slice]
}

func newLoader(o Options) *loader {
	s := &Source{options: o, queue: newQueue(), watches: &watches{all: make(map[string]Watch)}, troubles: troubles{present: make(map[string]string)}}
	l := &loader{joiner: newJoiner(cluster.Update{}, false, quiet), queue: s.queue}
	for _, f := range s.followers() {
		switch f := f.(type) {
		case *followed[cluster.Service]:
			l.services = f
		case *followed[slice]:
			l.slices = f
		}
	}
	return l
}

// load decodes an object, as it comes from an API server, so that no memory of it is
// shared with another.
func (l *loader) load(b testing.TB, given interface{ Marshal() ([]byte, error) }) {
	b.Helper()
	raw, err := given.Marshal()
	if err != nil {
		b.Fatal(err)
	}
	switch given.(type) {
	case *corev1.Service:
		var s corev1.Service
		if err = s.Unmarshal(raw); err == nil {
			err = l.services.Add(&s)
		}
	case *discoveryv1.EndpointSlice:
		var s discoveryv1.EndpointSlice
		if err = s.Unmarshal(raw); err == nil {
			err = l.slices.Add(&s)
		}
	}
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range l.queue.take() {
		c.apply(l.joiner)
	}
}

func largeMeta(i int, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: fmt.Sprintf("team-%d-production", i%100), Name: name, UID: types.UID(fmt.Sprintf("%036d", i)), ResourceVersion: fmt.Sprint(1_000_000 + i),
		Labels: map[string]string{discoveryv1.LabelServiceName: fmt.Sprintf("service-%d", i)},
	}
}

func largeService(i int) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: largeMeta(i, fmt.Sprintf("service-%d", i)),
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: fmt.Sprintf("10.96.%d.%d", i>>8, i&255),
			Ports: []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}},
		},
	}
}

func largeSlice(i int) *discoveryv1.EndpointSlice {
	out := &discoveryv1.EndpointSlice{
		ObjectMeta:  largeMeta(i, fmt.Sprintf("service-%d-x7k2p", i)),
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Protocol: new(corev1.ProtocolTCP), Port: new(int32(8080))}},
	}
	for j := range 10 {
		n := i*10 + j
		out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{fmt.Sprintf("10.%d.%d.%d", 128+n>>16, n>>8&255, n&255)},
			NodeName:  new(fmt.Sprintf("node-%d.example.com", n%500)),
			Zone:      new(fmt.Sprintf("zone-%d", n%500%3)),
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: fmt.Sprintf("service-%d-6b7f9c5d4d-%05d", i, j)},
		})
	}
	return out
}
