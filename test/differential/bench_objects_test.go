package differential

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/test/kubetest"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// answered is how many of many Services have endpoints that answer. They are spread over
// all of them, since rules of iptables are looked at one after the other.
const answered = 32

// answers reports whether Service i of n has endpoints that answer. The last has.
func answers(i, n int) bool { return (n-1-i)%max(1, n/answered) == 0 }

// many makes Services with so many endpoints each.
func many(n, endpoints int) objects {
	var out objects
	for i := range n {
		name := fmt.Sprintf("svc-%05d", i)
		s := corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
			Spec: corev1.ServiceSpec{ClusterIP: clusterIP(i).String(), Ports: []corev1.ServicePort{port("", "TCP", 80, benchPort)}}}
		var addrs []netip.Addr
		for e := range endpoints {
			addr := netip.AddrFrom4([4]byte{10, 42, byte(16 + i>>8&15<<4 | e), byte(i)})
			if answers(i, n) {
				addr = benchPod(e)
			}
			addrs = append(addrs, addr)
		}
		out.services, out.slices = append(out.services, s), append(out.slices, sliceOf(name, 0, []corev1.ServicePort{{TargetPort: s.Spec.Ports[0].TargetPort}}, addrs))
	}
	return out
}

// sliceOf makes EndpointSlice i of a Service, all ready.
func sliceOf(service string, i int, ports []corev1.ServicePort, addrs []netip.Addr) discoveryv1.EndpointSlice {
	out := discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("%s-%d", service, i),
		Labels: map[string]string{discoveryv1.LabelServiceName: service}}, AddressType: discoveryv1.AddressTypeIPv4}
	protocol, ready := corev1.ProtocolTCP, true
	for _, p := range ports {
		number := p.TargetPort.IntVal
		out.Ports = append(out.Ports, discoveryv1.EndpointPort{Name: &p.Name, Port: &number, Protocol: &protocol})
	}
	for _, a := range addrs {
		out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{Addresses: []string{a.String()}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}})
	}
	return out
}

// clusterIP spreads Services over the range, each at an address of its own: an odd
// factor permutes the numbers modulo a power of two.
func clusterIP(i int) netip.Addr {
	h := uint16(i*40503) & 0x3fff
	return netip.AddrFrom4([4]byte{10, 43, byte(h>>8) | 0x40, byte(h)})
}

// benchPort is where the pods answer.
const benchPort = 5678

// benchPods is how many pods there are.
const benchPods = 10

func benchPod(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 42, 0, byte(10 + i%benchPods)}) }

// benchNode is a node with pods that take connections, and two that make them.
type benchNode struct {
	*netlab.Node
	t             *testing.T
	early, client *netlab.Host
}

func newBenchNode(t *testing.T) *benchNode {
	t.Helper()
	n := &benchNode{Node: kubetest.NewNode(t), t: t}
	for i := range benchPods {
		pod, err := n.AddPod(fmt.Sprint("pod-", i), benchPod(i))
		n.must(err)
		n.must(acceptAll(t, pod, benchPort))
	}
	var err error
	n.early, err = n.AddPod("early", netip.MustParseAddr("10.42.0.3"))
	n.must(err)
	n.client, err = n.AddPod("client", netip.MustParseAddr("10.42.0.2"))
	n.must(err)
	return n
}

func (n *benchNode) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}
