package validation

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Service returns what is wrong with a Service.
func Service(s *corev1.Service) []error {
	f := metadata(&s.ObjectMeta)
	f.topology(s)
	f.labels("spec.selector", s.Spec.Selector)
	if policy := s.Spec.InternalTrafficPolicy; policy != nil && *policy == "" {
		f.add("spec.internalTrafficPolicy is empty: write Cluster or Local, or leave it out")
	}
	f.nodePorts(&s.Spec)
	f.externalTraffic(&s.Spec)
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		f.alias(&s.Spec)
	} else {
		f.headless(&s.Spec)
	}
	f.sourceRanges(&s.Spec)
	f.ingress(s)
	return f
}

// topology judges what a Service says of clients and endpoints in one zone.
func (f *faults) topology(s *corev1.Service) {
	hints, old := s.Annotations[corev1.DeprecatedAnnotationTopologyAwareHints]
	mode, given := s.Annotations[corev1.AnnotationTopologyMode]
	if old && given && hints != mode {
		f.add("annotations %s %q and %s %q differ: remove the first, which is the older",
			corev1.DeprecatedAnnotationTopologyAwareHints, hints, corev1.AnnotationTopologyMode, mode)
	}
	known := []string{corev1.ServiceTrafficDistributionPreferSameZone, corev1.ServiceTrafficDistributionPreferSameNode, corev1.ServiceTrafficDistributionPreferClose}
	if d := s.Spec.TrafficDistribution; d != nil && !slices.Contains(known, *d) {
		f.add("spec.trafficDistribution %q is none of %s: write one of them, or leave it out", *d, strings.Join(known, ", "))
	}
}

// alias judges an ExternalName Service, which has no addresses.
func (f *faults) alias(spec *corev1.ServiceSpec) {
	forbid := func(is bool, name string) {
		if is {
			f.add("spec.%s may not be set with type ExternalName, which has no addresses: remove it, or choose another type", name)
		}
	}
	forbid(spec.ClusterIP != "" || len(spec.ClusterIPs) > 0, "clusterIP")
	forbid(len(spec.IPFamilies) > 0, "ipFamilies")
	forbid(spec.IPFamilyPolicy != nil, "ipFamilyPolicy")
	f.spelling("spec.externalName", strings.TrimSuffix(spec.ExternalName, "."))
}

// headless judges clusterIP None. It hides the NodePorts and load balancers of other types.
func (f *faults) headless(spec *corev1.ServiceSpec) {
	if spec.ClusterIP != "" && spec.ClusterIP != corev1.ClusterIPNone && len(spec.ClusterIPs) == 1 && spec.ClusterIPs[0] == corev1.ClusterIPNone {
		f.add("spec.clusterIP %q and spec.clusterIPs[0] None differ: make them the same, or leave one out", spec.ClusterIP)
	}
	none := spec.ClusterIP == corev1.ClusterIPNone || slices.Contains(spec.ClusterIPs, corev1.ClusterIPNone)
	if none && (spec.Type == corev1.ServiceTypeNodePort || spec.Type == corev1.ServiceTypeLoadBalancer) {
		f.add("spec.clusterIP may not be None with type %s: remove clusterIP for a Service with an address, or type for a headless one", spec.Type)
	}
}

// nodePorts judges NodePorts within one Service.
func (f *faults) nodePorts(spec *corev1.ServiceSpec) {
	type nodePort struct {
		protocol corev1.Protocol
		port     int32
	}
	taken := make(map[nodePort]int)
	for i, p := range spec.Ports {
		if p.NodePort == 0 {
			continue
		}
		if isClusterIP(spec) {
			f.add("spec.ports[%d].nodePort %d may not be set with type ClusterIP: remove it, or write type: NodePort", i, p.NodePort)
		}
		key := nodePort{p.Protocol, p.NodePort}
		if key.protocol == "" {
			key.protocol = corev1.ProtocolTCP
		}
		if first, twice := taken[key]; twice {
			f.add("spec.ports[%d].nodePort %d is that of spec.ports[%d] too: give one of them another", i, p.NodePort, first)
		} else {
			taken[key] = i
		}
	}
}

func isClusterIP(spec *corev1.ServiceSpec) bool {
	return spec.Type == "" || spec.Type == corev1.ServiceTypeClusterIP
}
