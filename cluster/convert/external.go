package convert

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// The bounds and the default of sessionAffinityConfig.clientIP.timeoutSeconds in
// core/v1.
const (
	defaultAffinitySeconds = 3 * 60 * 60
	maxAffinitySeconds     = 24 * 60 * 60
)

// affinity returns for how many seconds a client keeps its endpoint.
func affinity(spec *corev1.ServiceSpec) (uint32, error) {
	switch spec.SessionAffinity {
	case "", corev1.ServiceAffinityNone:
		return 0, nil
	case corev1.ServiceAffinityClientIP:
	default:
		return 0, fmt.Errorf("spec.sessionAffinity %q is neither None nor ClientIP", spec.SessionAffinity)
	}
	config := spec.SessionAffinityConfig
	if config == nil || config.ClientIP == nil || config.ClientIP.TimeoutSeconds == nil {
		return defaultAffinitySeconds, nil
	}
	seconds := *config.ClientIP.TimeoutSeconds
	if seconds < 1 || seconds > maxAffinitySeconds {
		return defaultAffinitySeconds, fmt.Errorf("spec.sessionAffinityConfig.clientIP.timeoutSeconds %d is outside 1-%d", seconds, maxAffinitySeconds)
	}
	return uint32(seconds), nil
}

// external reads how a Service is reached besides its ClusterIPs. What the type
// of the Service has no use for is left out, as the API server would refuse it.
// What packets cannot be translated for is left out too, and is an error; DNS
// speaks of it all the same.
func external(s *corev1.Service) (cluster.External, error) {
	var out cluster.External
	var errs []error
	for i, text := range s.Spec.ExternalIPs {
		if ip, err := netip.ParseAddr(text); err == nil {
			out.Published = append(out.Published, ip.Unmap().String())
		}
		ip, err := vip(fmt.Sprintf("spec.externalIPs[%d]", i), text)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out.IPs = append(out.IPs, ip)
	}
	var err error
	if out.Local, err = isLocal("spec.externalTrafficPolicy", string(s.Spec.ExternalTrafficPolicy)); err != nil {
		errs = append(errs, err)
	}
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return out, errors.Join(errs...)
	}
	for i, ingress := range s.Status.LoadBalancer.Ingress {
		if host, err := published(i, &ingress); err != nil {
			errs = append(errs, err)
		} else if host != "" {
			out.Published = append(out.Published, host)
		}
		if ingress.IP == "" || ingress.IPMode != nil && *ingress.IPMode != corev1.LoadBalancerIPModeVIP {
			continue
		}
		ip, err := vip(fmt.Sprintf("status.loadBalancer.ingress[%d].ip", i), ingress.IP)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out.LoadBalancerIPs = append(out.LoadBalancerIPs, ip)
	}
	if port := s.Spec.HealthCheckNodePort; port < 0 || port > 65535 {
		errs = append(errs, fmt.Errorf("spec.healthCheckNodePort %d is outside 1-65535", port))
	} else if out.Local {
		out.HealthCheckNodePort = uint16(port)
	}
	ranges, err := sourceRanges(s.Spec.LoadBalancerSourceRanges)
	if out.SourceRanges = ranges; err != nil && len(ranges) == 0 {
		out.LoadBalancerIPs = nil // no ranges would mean everybody
	}
	return out, errors.Join(append(errs, err)...)
}

// published returns how DNS speaks of an ingress: by its address, else by its host
// name, "" for neither.
func published(i int, ingress *corev1.LoadBalancerIngress) (string, error) {
	if ingress.IP == "" {
		host := strings.TrimSuffix(ingress.Hostname, ".")
		if msgs := validation.IsDNS1123Subdomain(strings.ToLower(host)); host != "" && len(msgs) > 0 {
			return "", fmt.Errorf("status.loadBalancer.ingress[%d].hostname %q: %s", i, ingress.Hostname, msgs[0])
		}
		return host, nil
	}
	ip, err := netip.ParseAddr(ingress.IP)
	if err != nil {
		return "", nil // reported as a VIP
	}
	return ip.Unmap().String(), nil
}

// vip reads an address that packets are translated from. One that every machine
// has, or that stands for many, would take somebody else's packets.
func vip(field, text string) (netip.Addr, error) {
	ip, err := netip.ParseAddr(text)
	switch {
	case err != nil || ip.Zone() != "" || ip.Is4In6():
		return netip.Addr{}, fmt.Errorf("%s %q is not an IP address", field, text)
	case ip.IsUnspecified(), ip.IsLoopback(), ip.IsMulticast(), ip.IsLinkLocalUnicast():
		return netip.Addr{}, fmt.Errorf("%s %s is unspecified, loopback, link-local or multicast: give an address of its own", field, ip)
	}
	return ip, nil
}

// sourceRanges reads spec.loadBalancerSourceRanges, around which core/v1 allows
// spaces.
func sourceRanges(given []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	var errs []error
	for i, text := range given {
		r, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil || r.Addr().Is4In6() {
			errs = append(errs, fmt.Errorf("spec.loadBalancerSourceRanges[%d] %q is not a CIDR such as 192.0.2.0/24", i, text))
			continue
		}
		out = append(out, r.Masked())
	}
	slices.SortFunc(out, comparePrefixes)
	return slices.Compact(out), errors.Join(errs...)
}

func comparePrefixes(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}
