package differential

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/clusterip/clusterip/test/commits"
	"github.com/clusterip/clusterip/test/performance"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	largeName   = "large"
	largePorts  = 10
	largeLimit  = 3 * time.Minute // for each of the three things that happen to it
	largeRest   = 5 * time.Second // after each
	sliceLength = 1000            // endpoints, as many as the API server takes
)

// large has one Service of many ports and endpoints come, change and go, while another
// Service changes again and again, and measures how long the other waits.
func (r *running) large() {
	r.t.Helper()
	endpoints := *natLarge
	if r.ours && r.variant == "iptables" {
		endpoints = min(endpoints, plan.DefaultBounds.Endpoints) // others would be left out, and never seen
	}
	given := r.largeService(endpoints)
	o, small := r.observe(r.given.slices[0].Name), r.given.slices[0].DeepCopy()
	result := &performance.Large{Ports: largePorts, Endpoints: endpoints, Usual: r.usual(o, small)}
	r.result.Large = result
	defer func() { result.RSS = r.process.RSS() }()

	longest := commits.Wait(r.t, r.Namespace)
	defer func() { result.LongestWait = longest() }()
	// The first endpoint of each EndpointSlice is one that is seen to come.
	var marks []int
	for i := range given.slices {
		marks = append(marks, r.mindFirst(&given.slices[i]))
	}
	result.Comes = r.meanwhile(o, small, marks, func() { given.create(r.t, r.c, manyWriters) })
	marks = []int{r.mindFirst(&given.slices[0])}
	if !result.Comes.Over {
		result.Changes = r.meanwhile(o, small, marks, func() { r.must(updateSlice(o.client, &given.slices[0])) })
	}
	if !result.Comes.Over && !result.Changes.Over {
		result.Goes = r.meanwhile(o, small, nil, func() { r.deleteLarge(&given) })
	}
}

// usual is how long changes take when nothing else is going on.
func (r *running) usual(o *observer, small *discoveryv1.EndpointSlice) performance.Quantiles {
	r.t.Helper()
	var took []time.Duration
	for range 50 {
		took = append(took, o.mustReplace(small, r.nextMark()))
	}
	return performance.QuantilesOf(took)
}

// mindFirst puts a mark in place of the first endpoint.
func (r *running) mindFirst(slice *discoveryv1.EndpointSlice) (mark int) {
	mark = r.nextMark()
	slice.Endpoints[0].Addresses[0] = commits.Mark(mark).String()
	return mark
}

func (r *running) largeService(endpoints int) objects {
	s := corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: largeName}, Spec: corev1.ServiceSpec{ClusterIP: "10.43.1.1"}}
	for i := range largePorts {
		s.Spec.Ports = append(s.Spec.Ports, port(fmt.Sprint("port-", i), "TCP", int32(1000+i), 1000+i))
	}
	out := objects{services: []corev1.Service{s}}
	var addrs []netip.Addr
	for i := range endpoints {
		addrs = append(addrs, netip.AddrFrom4([4]byte{10, 48, byte(i >> 8), byte(i)}))
	}
	for part := range slices.Chunk(addrs, sliceLength) {
		out.slices = append(out.slices, sliceOf(largeName, len(out.slices), s.Spec.Ports, part))
	}
	return out
}

func (r *running) deleteLarge(given *objects) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r.must(r.c.Client.CoreV1().Services(namespace).Delete(ctx, largeName, metav1.DeleteOptions{}))
	for i := range given.slices {
		r.must(r.c.Client.DiscoveryV1().EndpointSlices(namespace).Delete(ctx, given.slices[i].Name, metav1.DeleteOptions{}))
	}
}

// meanwhile does something while one EndpointSlice is changed again and again, until the
// kernel has held all marks for some time.
func (r *running) meanwhile(o *observer, small *discoveryv1.EndpointSlice, marks []int, do func()) performance.Phase {
	r.t.Helper()
	done, result := make(chan struct{}), make(chan performance.Phase, 1)
	start := time.Now()
	go func() {
		var took []time.Duration
		for {
			one, ok := o.replace(small, r.nextMark(), largeLimit)
			took = append(took, one)
			if !ok || isClosed(done) {
				result <- performance.Phase{Small: performance.QuantilesOf(took), Over: !ok}
				return
			}
		}
	}()
	do()
	last, held := time.Now(), true
	for _, m := range marks {
		at, ok := o.held.Await(m, largeLimit)
		held = held && ok
		if at.After(last) {
			last = at
		}
	}
	time.Sleep(largeRest)
	close(done)
	phase := <-result
	phase.Over = phase.Over || !held
	phase.Took = last.Sub(start)
	return phase
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
