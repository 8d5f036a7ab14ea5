package names

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/clusterip/clusterip/test/kubetest"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A crowd is many Services that are all alike: every fifth is headless, and every
// endpoint has an address, a pod, a node and a zone, as Kubernetes' own controller
// writes them.
const (
	endpointsEach   = 10
	headlessEvery   = 5
	crowdNamespaces = 100
	crowdNodes      = 500
)

// crowd is one that an API server has.
type crowd struct {
	*kubetest.ControlPlane
	size int
	// moved counts the endpoints that were given another address.
	moved int
}

func crowdNamespace(i int) string { return fmt.Sprintf("ns-%d", i%crowdNamespaces) }

func crowdName(i int) string { return fmt.Sprintf("svc-%d", i) }

// crowdFQDN is the name of a Service of the crowd, and a label before it.
func crowdFQDN(below string, i int) string {
	return fmt.Sprintf("%s%s.%s.svc.cluster.local.", below, crowdName(i), crowdNamespace(i))
}

func crowdClusterIP(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 43, byte(8 + i>>8), byte(i)})
}

// crowdEndpoint is the address of the n-th endpoint of all.
func crowdEndpoint(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(64 + n>>16), byte(n >> 8), byte(n)})
}

func crowdService(i int) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: crowdNamespace(i), Name: crowdName(i), Labels: map[string]string{"app": crowdName(i)}}}
	s.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: 80}}
	s.Spec.Selector = map[string]string{"app": crowdName(i)}
	s.Spec.ClusterIP = crowdClusterIP(i).String()
	if i%headlessEvery == 0 {
		s.Spec.ClusterIP = corev1.ClusterIPNone
	}
	return s
}

func crowdSlice(i int) *discoveryv1.EndpointSlice {
	out := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: crowdNamespace(i), Name: crowdName(i) + "-x7k2p",
			Labels: map[string]string{discoveryv1.LabelServiceName: crowdName(i), discoveryv1.LabelManagedBy: "endpointslice-controller.k8s.io"},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080))}},
	}
	for e := range endpointsEach {
		n := i*endpointsEach + e
		out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{crowdEndpoint(n).String()},
			Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)},
			NodeName:   new(fmt.Sprintf("node-%d", n%crowdNodes)),
			Zone:       new(fmt.Sprintf("zone-%d", n%3)),
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: crowdNamespace(i), Name: fmt.Sprintf("%s-7d4b9c6f58-%05d", crowdName(i), n)},
		})
	}
	return out
}

// fillCrowd has an API server take a crowd.
func fillCrowd(t *testing.T, c *kubetest.ControlPlane, size int) *crowd {
	t.Helper()
	for i := range min(size, crowdNamespaces) {
		object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: crowdNamespace(i)}}
		if _, err := c.Client.CoreV1().Namespaces().Create(background, object, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	var writing sync.WaitGroup
	const writers = 16
	for w := range writers {
		writing.Go(func() {
			for i := w; i < size && !t.Failed(); i += writers {
				_, err := c.Client.CoreV1().Services(crowdNamespace(i)).Create(background, crowdService(i), metav1.CreateOptions{})
				if err == nil {
					_, err = c.Client.DiscoveryV1().EndpointSlices(crowdNamespace(i)).Create(background, crowdSlice(i), metav1.CreateOptions{})
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	if writing.Wait(); t.Failed() {
		t.FailNow()
	}
	return &crowd{ControlPlane: c, size: size}
}

// lastVirtual is the last Service with a ClusterIP.
func (c *crowd) lastVirtual() int {
	if last := c.size - 1; last%headlessEvery != 0 {
		return last
	}
	return c.size - 2
}

// move gives the first endpoint of a headless Service an address that nobody has
// had, and returns the Service's name and that address.
func (c *crowd) move(t *testing.T) (name string, to netip.Addr) {
	t.Helper()
	i := c.moved * headlessEvery % (c.size / headlessEvery * headlessEvery)
	slice := crowdSlice(i)
	to = netip.AddrFrom4([4]byte{10, 44, byte(c.moved >> 8), byte(c.moved)})
	slice.Endpoints[0].Addresses[0] = to.String()
	c.moved++
	if _, err := c.Client.DiscoveryV1().EndpointSlices(slice.Namespace).Update(background, slice, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	return crowdFQDN("", i), to
}
