package names

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	mcsv1alpha1 "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"
)

// namespaces of the world, with the labels that they have. Nothing is in the last.
var namespaces = []struct{ name, team string }{{"shop", "a"}, {"media", "a"}, {"lab", "b"}, {"void", "b"}}

// world makes objects of every shape, the same for the same seed. Names and
// addresses are reused by objects that come later, as clusters reuse them.
type world struct {
	*rand.Rand
	services map[string]*corev1.Service // by namespace/name
	imports  map[string]*mcsv1alpha1.ServiceImport
	slices   map[string]*discoveryv1.EndpointSlice
	pods     map[string]*corev1.Pod
	made     int // Services with a ClusterIP, ever
}

func newWorld(seed uint64) *world {
	return &world{
		Rand: rand.New(rand.NewPCG(seed, 0)), services: make(map[string]*corev1.Service),
		imports: make(map[string]*mcsv1alpha1.ServiceImport),
		slices:  make(map[string]*discoveryv1.EndpointSlice), pods: make(map[string]*corev1.Pod),
	}
}

// Names that Services have, more than there are Services at a time.
const serviceNames = 60

func (w *world) namespace() string { return namespaces[w.IntN(len(namespaces)-1)].name }

func serviceName(i int) string {
	if i%7 == 0 {
		return fmt.Sprintf("svc-%d-with-a-name-of-63-characters-%s", i, strings.Repeat("x", 63))[:63]
	}
	return fmt.Sprintf("svc-%d", i)
}

func chance(r *rand.Rand, one, in int) bool { return r.IntN(in) < one }

// service makes a Service. Its ClusterIPs are its own: they are made of a number.
func (w *world) service(namespace string, i int) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: serviceName(i)}}
	if chance(w.Rand, 1, 3) {
		s.Labels = map[string]string{"app": "web"}
	}
	if chance(w.Rand, 1, 5) {
		s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, w.externalName()
		return s
	}
	s.Spec.Ports = w.ports()
	s.Spec.PublishNotReadyAddresses = chance(w.Rand, 1, 8)
	policy := corev1.IPFamilyPolicyRequireDualStack
	switch w.IntN(3) {
	case 0:
		s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	case 1:
		s.Spec.IPFamilies, policy = []corev1.IPFamily{corev1.IPv6Protocol}, corev1.IPFamilyPolicySingleStack
	default:
		s.Spec.IPFamilies, policy = []corev1.IPFamily{corev1.IPv4Protocol}, corev1.IPFamilyPolicySingleStack
	}
	s.Spec.IPFamilyPolicy = &policy
	// The API server would choose others each time.
	w.made++
	for _, family := range s.Spec.IPFamilies {
		ip := fmt.Sprintf("10.43.%d.%d", 1+w.made/200, 1+w.made%200)
		if family == corev1.IPv6Protocol {
			ip = fmt.Sprintf("fd00:10:43::%x", 0x1000+w.made)
		}
		s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, ip)
	}
	s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
	if chance(w.Rand, 1, 2) {
		s.Spec.ClusterIP = corev1.ClusterIPNone
		s.Spec.ClusterIPs = []string{corev1.ClusterIPNone}
		s.Spec.Selector = map[string]string{"app": "none"}
	} else if chance(w.Rand, 1, 3) {
		s.Spec.Type = corev1.ServiceTypeLoadBalancer
		s.Status.LoadBalancer.Ingress = w.ingress()
	}
	return s
}

// ingress is what load balancers write, addresses of use only elsewhere included.
func (w *world) ingress() []corev1.LoadBalancerIngress {
	all := []corev1.LoadBalancerIngress{
		{IP: "192.0.2.77"}, {IP: "127.0.0.1"}, {IP: "0.0.0.0"}, {IP: "169.254.1.1"}, {IP: "fe80::1"}, {Hostname: "lb.example.com"},
	}
	w.Shuffle(len(all), func(i, k int) { all[i], all[k] = all[k], all[i] })
	return all[:w.IntN(3)]
}

// externalName is a target in the zone or outside, there or not, or not a name.
func (w *world) externalName() string {
	switch w.IntN(8) {
	case 0:
		return "www.example.com"
	case 1:
		return "www.example.com."
	case 2:
		return "refused.invalid"
	case 3:
		return "198.51.100.9"
	case 4:
		return "nobody.shop.svc.cluster.local"
	}
	return serviceName(w.IntN(serviceNames)) + "." + w.namespace() + ".svc.cluster.local"
}

func (w *world) ports() []corev1.ServicePort {
	port := func(name string, protocol corev1.Protocol, number int32) corev1.ServicePort {
		return corev1.ServicePort{Name: name, Protocol: protocol, Port: number, TargetPort: intstr.FromInt32(number + 8000)}
	}
	switch w.IntN(5) {
	case 0:
		return []corev1.ServicePort{port("", corev1.ProtocolTCP, 80)}
	case 1:
		return []corev1.ServicePort{port("http", corev1.ProtocolTCP, 80), port("https", corev1.ProtocolTCP, 443)}
	case 2:
		return []corev1.ServicePort{port("dns", corev1.ProtocolUDP, 53), port("dns-tcp", corev1.ProtocolTCP, 53)}
	case 3:
		return []corev1.ServicePort{port("sigtran", corev1.ProtocolSCTP, 2905)}
	}
	return []corev1.ServicePort{port("http", corev1.ProtocolTCP, 80)}
}

// The conditions that endpoints have: ready counts double.
var conditions = []discoveryv1.EndpointConditions{
	{Ready: new(true), Serving: new(true)}, {Ready: new(true), Serving: new(true)}, {},
	{Ready: new(false), Serving: new(true), Terminating: new(true)},
	{Ready: new(false), Serving: new(false), Terminating: new(true)},
	{Ready: new(false), Serving: new(false)},
}

// slicesOf makes the EndpointSlices of a Service, or none.
func (w *world) slicesOf(s *corev1.Service) []*discoveryv1.EndpointSlice {
	var out []*discoveryv1.EndpointSlice
	for n := range w.IntN(3) {
		kind := discoveryv1.AddressTypeIPv4
		if chance(w.Rand, 1, 2) {
			kind = discoveryv1.AddressTypeIPv6
		}
		slice := &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: s.Namespace, Name: fmt.Sprintf("%s-%d", s.Name, n),
				Labels: map[string]string{discoveryv1.LabelServiceName: s.Name},
			},
			AddressType: kind,
		}
		maps.Copy(slice.Labels, s.Labels)
		for _, p := range s.Spec.Ports {
			slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &p.Name, Protocol: &p.Protocol, Port: &p.TargetPort.IntVal})
		}
		// Most Services have all endpoints in one condition.
		common := conditions[w.IntN(len(conditions))]
		for range w.IntN(5) {
			e := w.endpoint(kind, s.Namespace)
			if e.Conditions = common; chance(w.Rand, 1, 4) {
				e.Conditions = conditions[w.IntN(len(conditions))]
			}
			slice.Endpoints = append(slice.Endpoints, e)
		}
		if strings.HasSuffix(s.Name, "3") && len(slice.Endpoints) > 0 {
			slice.Endpoints = append(slice.Endpoints, slice.Endpoints[0]) // it is there twice
		}
		out = append(out, slice)
	}
	return out
}

// endpoint has one of few addresses, so that Services share some.
func (w *world) endpoint(kind discoveryv1.AddressType, namespace string) discoveryv1.Endpoint {
	i := w.IntN(40)
	e := discoveryv1.Endpoint{Addresses: []string{podAddress(i, kind == discoveryv1.AddressTypeIPv6)}}
	switch w.IntN(4) {
	case 0:
		hostname := fmt.Sprintf("web-%d", w.IntN(4))
		e.Hostname = &hostname
	case 1:
		e.TargetRef = &corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: podName(i)}
	case 2:
		name := strings.Repeat("p", 62+w.IntN(3))
		e.TargetRef = &corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: name}
	}
	switch i % 4 { // an address is in one zone, whoever has it
	case 0:
		e.Zone = new("zone-a")
	case 1:
		e.Zone = new("corp.example.com")
	}
	return e
}

func podAddress(i int, v6 bool) string {
	if v6 {
		return fmt.Sprintf("fd00:10:42::%x", 10+i)
	}
	return fmt.Sprintf("10.42.%d.%d", i/16, 10+i)
}

func podName(i int) string { return fmt.Sprintf("pod-%d", i) }

// pod has the addresses of its number, in one family or both.
func (w *world) pod(namespace string, i int) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: podName(i), Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}
	p.Status.Phase = []corev1.PodPhase{corev1.PodRunning, corev1.PodRunning, corev1.PodSucceeded, corev1.PodPending, corev1.PodFailed, corev1.PodUnknown}[w.IntN(6)]
	if p.Status.Phase == corev1.PodPending {
		return p
	}
	p.Status.PodIP = podAddress(i, false)
	p.Status.PodIPs = []corev1.PodIP{{IP: p.Status.PodIP}}
	if chance(w.Rand, 1, 2) {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: podAddress(i, true)})
	}
	return p
}
