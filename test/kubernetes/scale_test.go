package kubernetes

import (
	"flag"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	discoveryv1 "k8s.io/api/discovery/v1"
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
	last := fmt.Sprintf("svc-%d.shop.svc.cluster.local", *services-1)
	p.answers("10-42-0-1."+last, "A", "NOERROR 10.42.0.1")
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
				name := fmt.Sprintf("svc-%d", i)
				a.create(service(name, ""))
				var addresses []string
				for e := range 10 {
					addresses = append(addresses, fmt.Sprintf("10.42.0.%d", e+1))
				}
				a.backing(slice(name+"-1", name, addresses...))
			}
		})
	}
}

// backing makes an EndpointSlice as the controller of Kubernetes would: every
// endpoint has a Pod, a node and a zone.
func (a *apiServer) backing(s *discoveryv1.EndpointSlice) {
	a.t.Helper()
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		e.NodeName, e.Zone = new(fmt.Sprintf("node-%d", i)), new(fmt.Sprintf("zone-%d", i%3))
		e.TargetRef = podReference(fmt.Sprintf("%s-7d4b9c6f58-%d", s.Name, i))
	}
	a.put(s)
}
