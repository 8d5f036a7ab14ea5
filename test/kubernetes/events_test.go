package kubernetes

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/test/kubetest"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The owner of a Service gets one Event for each fault, however many nodes see it, however
// often the Service changes, and though the programs start anew.
func TestFaultsAreEvents(t *testing.T) {
	a, n, _ := startNode(t)
	a.AddNode(kubetest.Node())
	faulty(a)
	nodes := []*netlab.Node{n, kubetest.NewNode(t)}
	run := func() (all []*program) {
		for _, node := range nodes {
			all = append(all, startNAT(t, node, a.KubeconfigOn(node.Host), "iptables"))
		}
		return all
	}
	want := []string{"hints HintsIgnored", "policy PolicyWithoutNodes", "port PortWithoutEndpoints", "second FrontendRefused"}
	programs := run()
	settle(a, programs, "first-round", &want)

	t.Log("the Services change; faults stay, or come and go")
	for i := range 20 {
		for _, name := range []string{"hints", "policy", "port", "second"} {
			a.change(name, func(s *corev1.Service) { s.Labels = map[string]string{"change": fmt.Sprint(i)} })
		}
		a.put(slice("policy-1", "policy", "10.42.0.20", fmt.Sprintf("10.42.1.%d", i)))
		a.put(partlyHinted("10.42.0.30", fmt.Sprintf("10.42.2.%d", i)))
		a.put(portNamed("port-1", "port", []string{"http", "web"}[i%2], "10.42.0.10"))
	}
	settle(a, programs, "changed", &want)

	t.Log("the programs start anew")
	for _, p := range programs {
		p.Stop(syscall.SIGTERM)
	}
	settle(a, run(), "anew", &want)
}

// faulty makes a Service with each fault, and one that is well.
func faulty(a *apiServer) {
	a.create(service("port", ""))
	a.put(portNamed("port-1", "port", "web", "10.42.0.10"))
	policy := service("policy", "")
	policy.Spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyLocal)
	a.create(policy)
	a.put(slice("policy-1", "policy", "10.42.0.20"))
	a.create(service("hints", ""))
	a.put(partlyHinted("10.42.0.30", "10.42.0.31"))
	a.create(service("well", ""))
	a.put(hinted(slice("well-1", "well", "10.42.0.40", "10.42.0.41")))
	for _, name := range []string{"first", "second"} {
		s := service(name, "")
		s.Spec.ExternalIPs = []string{"198.51.100.7"}
		a.create(s)
	}
}

// portNamed is an EndpointSlice whose port has a name.
func portNamed(name, service, port string, addresses ...string) *discoveryv1.EndpointSlice {
	s := slice(name, service, addresses...)
	s.Ports[0].Name = &port
	return s
}

// partlyHinted is an EndpointSlice of the Service hints whose last endpoint has none.
func partlyHinted(addresses ...string) *discoveryv1.EndpointSlice {
	s := hinted(slice("hints-1", "hints", addresses...))
	s.Endpoints[len(addresses)-1].Hints = nil
	return s
}

// settle waits until all programs have told of one more fault, which comes after all that they
// have to tell, and then wants the Events to be those, and the one of that fault.
func settle(a *apiServer, programs []*program, sentinel string, want *[]string) {
	a.t.Helper()
	a.create(service(sentinel, ""))
	a.put(portNamed(sentinel+"-1", sentinel, "web", "10.42.0.50"))
	*want = append(*want, sentinel+" PortWithoutEndpoints")
	slices.Sort(*want)
	for _, p := range programs {
		p.logs("Service shop/" + sentinel + ": no endpoint has the port http 80/TCP")
	}
	programs[0].eventually("one Event for each fault", func() error {
		if got := events(a); !slices.Equal(got, *want) {
			return fmt.Errorf("there are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(*want, "\n"))
		}
		return nil
	})
}

// events are those in the namespace shop, as Service and reason, sorted.
func events(a *apiServer) (all []string) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	list, err := a.Client.EventsV1().Events("shop").List(ctx, metav1.ListOptions{})
	if err != nil {
		a.t.Fatal(err)
	}
	for _, e := range list.Items {
		all = append(all, e.Regarding.Name+" "+e.Reason)
		if e.Regarding.Kind != "Service" || e.Regarding.UID == "" || e.Type != corev1.EventTypeWarning {
			a.t.Errorf("an Event is about %+v, of type %s", e.Regarding, e.Type)
		}
	}
	slices.Sort(all)
	return all
}
