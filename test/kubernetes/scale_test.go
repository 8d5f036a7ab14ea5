package kubernetes

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

var services = flag.Int("kubernetes.services", 0, "measure with so many Services of 10 endpoints each; 0 does not")

// How much memory the names of a large cluster take, and how long it takes from a
// write at the API server until dig sees it. The program is built as it is shipped,
// so this is no race test.
func TestScale(t *testing.T) {
	if *services == 0 {
		t.Skip("a measurement: give -kubernetes.services 10000")
	}
	a := startAPIServer(t)
	a.namespace("shop")
	a.fill(*services)
	began := time.Now()
	p := start(t, "kubeconfig "+a.Kubeconfig())
	address := endpointAddress(*services-1, 0)
	p.answers(fmt.Sprintf("%s.svc-%d.shop.svc.cluster.local", strings.ReplaceAll(address, ".", "-"), *services-1), "A", "NOERROR "+address)
	t.Logf("%d Services: first answer after %v, %d MiB resident", *services, time.Since(began).Round(time.Millisecond), p.RSS())

	var took []time.Duration
	client := dns.Client{Timeout: time.Second}
	for i := range 300 {
		changed := slice(fmt.Sprintf("svc-%d-1", i), fmt.Sprintf("svc-%d", i), fmt.Sprintf("10.44.%d.%d", i/250, i%250+1))
		name := dns.Fqdn(fmt.Sprintf("10-44-%d-%d.svc-%d.shop.svc.cluster.local", i/250, i%250+1, i))
		a.put(changed)
		written := time.Now()
		for {
			reply, _, err := client.Exchange(new(dns.Msg).SetQuestion(name, dns.TypeA), "127.0.0.1:"+p.dns)
			if err == nil && len(reply.Answer) == 1 {
				break
			}
		}
		took = append(took, time.Since(written))
	}
	slices.Sort(took)
	t.Logf("a write shows after %v (p50), %v (p99), counted from the API server's reply; %d MiB resident, %v of processor time",
		took[len(took)/2], took[len(took)*99/100], p.RSS(), p.CPU())
}

// fill creates Services, each with an EndpointSlice of 10 endpoints.
func (a *apiServer) fill(n int) {
	a.t.Helper()
	var running sync.WaitGroup
	defer running.Wait()
	const writers = 16
	for w := range writers {
		running.Go(func() {
			for i := w; i < n; i += writers {
				a.create(service(fmt.Sprintf("svc-%d", i), ""))
				a.do(func(ctx context.Context, c *kubernetes.Clientset) error {
					_, err := c.DiscoveryV1().EndpointSlices("shop").Create(ctx, backing(i), metav1.CreateOptions{})
					return err
				})
			}
		})
	}
}

// endpointAddress is one that no other endpoint has.
func endpointAddress(service, endpoint int) string {
	n := service*10 + endpoint
	return netip.AddrFrom4([4]byte{10, byte(64 + n>>16), byte(n >> 8), byte(n)}).String()
}

// backing is an EndpointSlice as the controller of Kubernetes would make it: every
// endpoint has a Pod, a node and a zone.
func backing(service int) *discoveryv1.EndpointSlice {
	name := fmt.Sprintf("svc-%d", service)
	s := slice(name+"-1", name)
	for i := range 10 {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{endpointAddress(service, i)},
			NodeName:  new(fmt.Sprintf("node-%d", i)), Zone: new(fmt.Sprintf("zone-%d", i%3)),
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "shop", Name: fmt.Sprintf("%s-7d4b9c6f58-%d", name, i)},
		})
	}
	return s
}
