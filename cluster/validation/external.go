package validation

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	netutils "k8s.io/utils/net"
)

// externalTraffic judges what a Service says of clients outside the cluster.
func (f *faults) externalTraffic(spec *corev1.ServiceSpec) {
	onNodes := spec.Type == corev1.ServiceTypeNodePort || spec.Type == corev1.ServiceTypeLoadBalancer
	if spec.ExternalTrafficPolicy != "" && !onNodes && (!isClusterIP(spec) || len(spec.ExternalIPs) == 0) {
		f.add("spec.externalTrafficPolicy may not be set for a Service that has no NodePorts, load balancer or externalIPs: remove it")
	}
	port := spec.HealthCheckNodePort
	if port == 0 {
		return
	}
	everywhere := spec.ExternalTrafficPolicy == "" || spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyCluster
	if spec.Type != corev1.ServiceTypeLoadBalancer || everywhere {
		f.add("spec.healthCheckNodePort %d may only be set with type LoadBalancer and externalTrafficPolicy Local: remove it", port)
		return
	}
	for i, p := range spec.Ports {
		// Of any protocol: the API server hands both out of one set of numbers.
		if p.NodePort == port {
			f.add("spec.healthCheckNodePort %d is spec.ports[%d].nodePort too: give one of them another", port, i)
		}
	}
}

// sourceRanges judges for which Services clients can be restricted, and how ranges are written.
func (f *faults) sourceRanges(spec *corev1.ServiceSpec) {
	if len(spec.LoadBalancerSourceRanges) > 0 && spec.Type != corev1.ServiceTypeLoadBalancer {
		f.add("spec.loadBalancerSourceRanges may only be set with type LoadBalancer, and restricts nobody here: remove it, or change spec.type")
	}
	for i, text := range spec.LoadBalancerSourceRanges {
		f.hostBits(fmt.Sprintf("spec.loadBalancerSourceRanges[%d]", i), strings.TrimSpace(text))
	}
}

// hostBits judges a range that is also read as one address in it.
func (f *faults) hostBits(where, text string) {
	if r, err := netip.ParsePrefix(text); err == nil && r != r.Masked() {
		f.add("%s %q has bits set beyond its length: write %s, or %s for this address alone", where, text, r.Masked(), netip.PrefixFrom(r.Addr(), r.Addr().BitLen()))
	}
}

// ingress judges what a load balancer has been given.
func (f *faults) ingress(s *corev1.Service) {
	given := s.Status.LoadBalancer.Ingress
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		if len(given) > 0 {
			f.add("status.loadBalancer.ingress may only be set with type LoadBalancer: remove it, or change spec.type")
		}
		return
	}
	for i, ingress := range given {
		where := fmt.Sprintf("status.loadBalancer.ingress[%d]", i)
		if mode := ingress.IPMode; mode != nil {
			switch {
			case ingress.IP == "":
				f.add("%s.ipMode may not be set without ip: remove it", where)
			case *mode != corev1.LoadBalancerIPModeVIP && *mode != corev1.LoadBalancerIPModeProxy:
				f.add("%s.ipMode %q is neither VIP nor Proxy", where, *mode)
			}
		}
		switch {
		case ingress.Hostname == "":
		case netutils.ParseIPSloppy(ingress.Hostname) != nil:
			f.add("%s.hostname %q is an address: write it as ip", where, ingress.Hostname)
		case ingress.IP != "": // convert reads the address alone
			for _, msg := range validation.IsDNS1123Subdomain(ingress.Hostname) {
				f.add("%s.hostname %q: %s", where, ingress.Hostname, msg)
			}
		default:
			f.spelling(where+".hostname", ingress.Hostname)
		}
	}
}

// spelling judges how a name is written, which convert reads in any spelling.
func (f *faults) spelling(where, name string) {
	plain := strings.ToLower(strings.TrimSuffix(name, "."))
	if name != plain && len(validation.IsDNS1123Subdomain(plain)) == 0 {
		f.add("%s %q has upper case letters or a dot at its end: write %s", where, name, plain)
	}
}
