package differential

import (
	"fmt"
	"math/rand/v2"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// features are what generated Services use besides a ClusterIP and
// internalTrafficPolicy.
type features struct {
	dualStack             bool
	nodePorts             bool
	loadBalancers         bool
	externalIPs           bool
	sessionAffinity       bool
	externalTrafficPolicy bool
	hints                 bool
	once                  bool // one Service of each kind, and not two
}

// served is what kernelnat serves: switch on here what it learns.
var served = features{
	dualStack: true, nodePorts: true, loadBalancers: true, externalIPs: true, sessionAffinity: true, externalTrafficPolicy: true,
	hints: true,
}

// few is served with fewer Services, which fewSeed makes most different ones of.
var few = func() features { f := served; f.once = true; return f }()

const fewSeed = 13

// generator makes objects, the same for the same seed.
type generator struct {
	features
	random *rand.Rand
	made   objects
}

func generate(seed uint64, f features) objects {
	g := generator{features: f, random: rand.New(rand.NewPCG(seed, 0))}
	for _, policy := range []corev1.ServiceInternalTrafficPolicy{corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal} {
		for _, shape := range shapes {
			g.add(policy, shape)
			if !f.once {
				g.add(policy, shape)
			}
		}
	}
	return g.made
}

// portSets are the ports that Services have; they take turns.
var portSets = [][]corev1.ServicePort{
	{port("", "TCP", 80, 5678)},
	{port("http", "TCP", 80, 5678)},
	{port("dns", "UDP", 53, 5678), port("dns-tcp", "TCP", 53, 5678)},
	{port("", "SCTP", 3868, 5678)},
	{port("a", "TCP", 80, 5678), port("b", "TCP", 443, 5679), port("c", "UDP", 80, 5679), port("d", "SCTP", 80, 5678)},
	{port("", "UDP", 53, 5679)},
	{port("long-name-of-a-p", "TCP", 65535, 5678), port("x", "TCP", 1, 5679)},
}

func port(name string, protocol corev1.Protocol, number int32, target int) corev1.ServicePort {
	return corev1.ServicePort{Name: name, Protocol: protocol, Port: number, TargetPort: intstr.FromInt(target)}
}

// The conditions of an endpoint.
var (
	ready       = discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)}
	unknown     = discoveryv1.EndpointConditions{}
	terminating = discoveryv1.EndpointConditions{Ready: new(false), Serving: new(true), Terminating: new(true)}
	ended       = discoveryv1.EndpointConditions{Ready: new(false), Serving: new(false), Terminating: new(true)}
	notReady    = discoveryv1.EndpointConditions{Ready: new(false), Serving: new(false), Terminating: new(false)}
	notRestored = discoveryv1.EndpointConditions{Ready: new(false), Serving: new(true), Terminating: new(false)}
)

// shape says which pods are endpoints of a Service, and in which condition: one
// map for each EndpointSlice of a family.
type shape func(g *generator) []map[string]discoveryv1.EndpointConditions

type conditions = map[string]discoveryv1.EndpointConditions

var shapes = []shape{
	fixed(),
	fixed(conditions{}),
	fixed(conditions{"local-0": ready}),
	fixed(conditions{"remote-0": unknown}),
	fixed(conditions{"local-0": ready, "local-1": ready, "remote-0": ready}),
	fixed(conditions{"remote-0": ready, "remote-1": ready, "remote-2": ready, "local-2": notReady}),
	fixed(conditions{"local-0": terminating, "remote-0": terminating}),
	fixed(conditions{"local-0": terminating, "local-1": ended, "remote-0": ready}),
	fixed(conditions{"local-0": ready, "local-1": terminating, "remote-0": terminating}),
	fixed(conditions{"local-0": notReady, "remote-0": ended, "remote-1": notRestored}),
	fixed(conditions{"local-0": ready, "remote-1": ready}, conditions{"local-1": ready, "remote-1": ready}),
	anyConditions, anyConditions, anyConditions,
}

func fixed(slices ...conditions) shape { return func(*generator) []conditions { return slices } }

func anyConditions(g *generator) []conditions {
	out := conditions{}
	all := []discoveryv1.EndpointConditions{ready, unknown, terminating, ended, notReady, notRestored}
	for _, p := range pods {
		if g.random.IntN(3) > 0 {
			out[p.name] = all[g.random.IntN(len(all))]
		}
	}
	return []conditions{out}
}

// add makes a Service and its EndpointSlices.
func (g *generator) add(policy corev1.ServiceInternalTrafficPolicy, endpoints shape) {
	i := len(g.made.services)
	s := corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("svc-%d", i)},
		Spec: corev1.ServiceSpec{
			Ports:                 portSets[g.random.IntN(len(portSets))],
			InternalTrafficPolicy: &policy,
		},
	}
	// No controller runs that would allocate it later.
	families := g.chooseFamilies(&s)
	g.expose(&s)
	g.made.services = append(g.made.services, s)
	hint := g.hinting()
	for n, slice := range endpoints(g) {
		for _, family := range families {
			made := endpointSlice(&s, n, family, slice)
			for i := range made.Endpoints {
				hint(&made.Endpoints[i])
			}
			g.made.slices = append(g.made.slices, made)
		}
	}
}

// hinting says which clients the endpoints of a Service are meant for: those of their
// zone, of their node, of another, or anybody. Where one has no hint none counts; it
// has none in any slice, since kube-proxy's choice among several is chance.
func (g *generator) hinting() func(*discoveryv1.Endpoint) {
	if !g.hints {
		return func(*discoveryv1.Endpoint) {}
	}
	kind, bare := g.random.IntN(5), g.random.IntN(2*len(pods))
	return func(e *discoveryv1.Endpoint) {
		if bare < len(pods) && (e.Addresses[0] == pods[bare].v4 || e.Addresses[0] == pods[bare].v6) {
			return
		}
		zones := []discoveryv1.ForZone{{Name: *e.Zone}}
		switch kind {
		case 0:
			e.Hints = &discoveryv1.EndpointHints{ForZones: zones}
		case 1:
			e.Hints = &discoveryv1.EndpointHints{ForZones: zones, ForNodes: []discoveryv1.ForNode{{Name: *e.NodeName}}}
		case 2:
			e.Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "zone-c"}}}
		}
	}
}

func (g *generator) chooseFamilies(s *corev1.Service) []corev1.IPFamily {
	families := []corev1.IPFamily{corev1.IPv4Protocol}
	policy := corev1.IPFamilyPolicySingleStack
	if g.dualStack {
		switch g.random.IntN(4) {
		case 0:
			families = []corev1.IPFamily{corev1.IPv6Protocol}
		case 1:
			policy = corev1.IPFamilyPolicyRequireDualStack
			families = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
		}
	}
	s.Spec.IPFamilies, s.Spec.IPFamilyPolicy = families, &policy
	return families
}

// expose has the Service use what is switched on, each by chance.
func (g *generator) expose(s *corev1.Service) {
	i := len(g.made.services) + 1
	chance := func(on bool) bool { return on && g.random.IntN(2) == 0 }
	if chance(g.sessionAffinity) {
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: new(int32(600 + i))}}
	}
	external := false
	if chance(g.externalIPs) {
		external = true
		s.Spec.ExternalIPs = []string{g.external(s, "203.0.113.%d", "2001:db8:113::%d", i)}
	}
	switch {
	case chance(g.loadBalancers):
		external = true
		s.Spec.Type = corev1.ServiceTypeLoadBalancer
		vip := g.external(s, "198.51.100.%d", "2001:db8:100::%d", i)
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: vip, IPMode: new(corev1.LoadBalancerIPModeVIP)}}
		if chance(true) {
			s.Spec.LoadBalancerSourceRanges = []string{g.external(s, "192.0.2.0/25", "2001:db8::/65", 0)}
		}
	case chance(g.nodePorts):
		external = true
		s.Spec.Type = corev1.ServiceTypeNodePort
	}
	if external && chance(g.externalTrafficPolicy) {
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
}

// external returns one of two texts by the Service's first family, with a number
// in its place for one.
func (g *generator) external(s *corev1.Service, v4, v6 string, number int) string {
	text := v4
	if s.Spec.IPFamilies[0] == corev1.IPv6Protocol {
		text = v6
	}
	if number == 0 {
		return text
	}
	return fmt.Sprintf(text, number)
}

func endpointSlice(s *corev1.Service, n int, family corev1.IPFamily, endpoints conditions) discoveryv1.EndpointSlice {
	out := discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: s.Namespace,
			Name:      fmt.Sprintf("%s-%d-%s", s.Name, n, map[corev1.IPFamily]string{corev1.IPv4Protocol: "v4", corev1.IPv6Protocol: "v6"}[family]),
			Labels:    map[string]string{discoveryv1.LabelServiceName: s.Name},
		},
		AddressType: discoveryv1.AddressType(family),
	}
	for i, p := range s.Spec.Ports {
		// Slices of one Service may differ in their ports: the second one
		// lacks the last where there are several.
		if n == 0 || i == 0 || i < len(s.Spec.Ports)-1 {
			out.Ports = append(out.Ports, discoveryv1.EndpointPort{Name: &p.Name, Protocol: &p.Protocol, Port: &p.TargetPort.IntVal})
		}
	}
	for _, p := range pods {
		if c, ok := endpoints[p.name]; ok {
			address := map[corev1.IPFamily]string{corev1.IPv4Protocol: p.v4, corev1.IPv6Protocol: p.v6}[family]
			out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{Addresses: []string{address}, Conditions: c, NodeName: &p.node, Zone: &p.zone})
		}
	}
	return out
}
