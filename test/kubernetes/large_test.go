package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/test/kubetest"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// large is a Service of so many ports and external addresses.
func large(name string, ports, externalIPs int) *corev1.Service {
	s := service(name, "")
	s.Spec.Ports = nil
	for i := range ports {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: fmt.Sprintf("p%d", i), Port: int32(i + 1)})
	}
	for i := range externalIPs {
		s.Spec.ExternalIPs = append(s.Spec.ExternalIPs, fmt.Sprintf("198.18.%d.%d", i/250, i%250+1))
	}
	return s
}

// largeSlice is one of the slices of a large Service, with up to 1,000 endpoints.
func largeSlice(service string, n, ports, endpoints int) *discoveryv1.EndpointSlice {
	s := slice(fmt.Sprintf("%s-%d", service, n), service)
	s.Ports = nil
	for i := range ports {
		s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: new(fmt.Sprintf("p%d", i)), Port: new(int32(i + 1)), Protocol: new(corev1.ProtocolTCP)})
	}
	for i := range endpoints {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.%d.%d.%d", 100+n, i/250, i%250+1)}})
	}
	return s
}

// flipper has one Service change, and measures how long that takes to reach packets.
type flipper struct {
	*program
	a      *apiServer
	client *netlab.Host
	n      int
	worst  time.Duration
}

// flip has the Service web lead to its other pod.
func (f *flipper) flip() {
	f.t.Helper()
	f.n++
	want := fmt.Sprintf("pod-%d", f.n%2)
	start := time.Now()
	f.a.put(slice("web-1", "web", fmt.Sprintf("10.42.0.1%d", f.n%2)))
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		reply, err := f.client.Ask(ctx, "tcp", netip.MustParseAddrPort("10.43.0.7:80"))
		cancel()
		took := time.Since(start)
		if err == nil && reply.Host == want {
			f.worst = max(f.worst, took)
			return
		}
		// Before large Services were written in parts, it was two minutes.
		if took > patience {
			f.t.Fatalf("a change of another Service takes more than %v (%s, %v)", patience, reply.Host, err)
		}
	}
}

// during flips as long as something lasts.
func (f *flipper) during(what string, lasts func() bool) {
	f.t.Helper()
	f.worst = 0
	start := time.Now()
	for n := 1; ; n++ {
		f.flip()
		if !lasts() && n > 3 {
			f.t.Logf("%s, %v: %d changes of another Service reached packets meanwhile, the slowest after %v",
				what, time.Since(start).Round(time.Millisecond), n, f.worst.Round(time.Millisecond))
			return
		}
		if time.Since(start) > 4*time.Minute {
			f.t.Fatalf("%s is not over after %v", what, time.Since(start))
		}
	}
}

// No object of somebody who may create Services holds up others' changes, when it
// comes and when it goes.
func TestLargeObjects(t *testing.T) {
	a, n, client := startNode(t, "pod-0", "pod-1")
	a.AddNode(inZone("zone-0"))
	a.create(service("web", "10.43.0.7"))
	f := &flipper{program: startNAT(t, n, a.KubeconfigOn(n.Host), "iptables"), a: a, client: client}
	f.flip()

	// has reports whether the node has a rule with these parts.
	has := func(parts ...string) bool {
		for rule := range strings.Lines(kubetest.Output(t, n.Host, "iptables-save")) {
			if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(rule, p) }) {
				return true
			}
		}
		return false
	}
	for _, c := range []struct {
		what    string
		service *corev1.Service
		slices  []*discoveryv1.EndpointSlice
		last    string // of the rules that the ClusterIP has at the end
		bounded bool   // not all that is asked for is served
	}{
		{what: "20,000 ports without endpoints", service: large("ports", 20_000, 0), last: "--dport 20000 -j REJECT"},
		{what: "4,000 external addresses and 250 ports", service: large("external", 250, 4000), slices: []*discoveryv1.EndpointSlice{largeSlice("external", 0, 100, 100)},
			last: "--dport 100 -j KUBE-SVC-", bounded: true},
		{what: "50 external addresses and 100 ports of 10 endpoints", service: large("fifty", 100, 50), slices: []*discoveryv1.EndpointSlice{largeSlice("fifty", 1, 100, 10)}, last: "--dport 100 -j KUBE-SVC-"},
		{what: "10 ports and 10,000 endpoints", service: large("endpoints", 10, 0), slices: tenSlices("endpoints"), last: "--dport 10 -j KUBE-SVC-", bounded: true},
	} {
		a.create(c.service)
		var created *corev1.Service
		a.do(func(ctx context.Context, k *kubernetes.Clientset) (err error) {
			created, err = k.CoreV1().Services("shop").Get(ctx, c.service.Name, metav1.GetOptions{})
			return err
		})
		for _, s := range c.slices {
			a.put(s)
		}
		at := fmt.Sprintf("-d %s/32 ", created.Spec.ClusterIP)
		f.during(c.what+" come", func() bool { return !has(at, c.last) })
		if c.bounded {
			f.eventually("an Event that tells the bound", func() error {
				return a.hasEvent(c.service.Name, "several Services")
			})
		}
		a.delete(c.service.Name)
		f.during(c.what+" go", func() bool { return has(at) })
	}
}

func tenSlices(service string) (all []*discoveryv1.EndpointSlice) {
	for i := range 10 {
		all = append(all, largeSlice(service, i, 10, 1000))
	}
	return all
}

func (a *apiServer) hasEvent(service, says string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	events, err := a.Client.EventsV1().Events("shop").List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, e := range events.Items {
		if e.Regarding.Name == service && strings.Contains(e.Note, says) {
			return nil
		}
	}
	return errors.New("there is none")
}
