package convert

import (
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
		if ip, _ := readAddr(text); ip.IsValid() {
			out.Published = append(out.Published, ip.String())
		}
		ip, err := vip(fmt.Sprintf("spec.externalIPs[%d]", i), text)
		errs = append(errs, err)
		if ip.IsValid() {
			out.IPs = append(out.IPs, ip)
		}
	}
	var err error
	out.Local, err = isLocal("spec.externalTrafficPolicy", string(s.Spec.ExternalTrafficPolicy))
	errs = append(errs, err)
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return out, join(errs)
	}
	errs = append(errs, loadBalancer(s.Status.LoadBalancer.Ingress, &out)...)
	if port := s.Spec.HealthCheckNodePort; port < 0 || port > 65535 {
		errs = append(errs, fmt.Errorf("spec.healthCheckNodePort %d is outside 1-65535", port))
	} else if out.Local {
		out.HealthCheckNodePort = uint16(port)
	}
	ranges, unreadable, err := sourceRanges(s.Spec.LoadBalancerSourceRanges)
	out.SourceRanges = ranges
	if unreadable { // and no range for a family would mean everybody
		v4 := slices.ContainsFunc(ranges, func(r netip.Prefix) bool { return r.Addr().Is4() })
		v6 := slices.ContainsFunc(ranges, func(r netip.Prefix) bool { return r.Addr().Is6() })
		out.LoadBalancerIPs = slices.DeleteFunc(out.LoadBalancerIPs, func(ip netip.Addr) bool { return ip.Is4() && !v4 || ip.Is6() && !v6 })
	}
	return out, join(append(errs, err))
}

// loadBalancer adds what a load balancer has been given.
func loadBalancer(given []corev1.LoadBalancerIngress, out *cluster.External) (errs []error) {
	hostnames := 0
	for i, ingress := range given {
		host, err := published(i, &ingress)
		switch {
		case err != nil:
			errs = append(errs, err)
			continue
		case ingress.IP == "" && host != "":
			hostnames++
		}
		if host != "" && (ingress.IP != "" || hostnames <= maxHostnames) {
			out.Published = append(out.Published, host)
		}
		if ingress.IP == "" || ingress.IPMode != nil && *ingress.IPMode != corev1.LoadBalancerIPModeVIP {
			continue
		}
		ip, err := vip(fmt.Sprintf("status.loadBalancer.ingress[%d].ip", i), ingress.IP)
		errs = append(errs, err)
		if ip.IsValid() {
			out.LoadBalancerIPs = append(out.LoadBalancerIPs, ip)
		}
	}
	return errs
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
	ip, err := readAddr(ingress.IP)
	if !ip.IsValid() {
		return "", fmt.Errorf("status.loadBalancer.ingress[%d].ip %w", i, err)
	}
	return ip.String(), nil
}

// vip reads an address that packets are translated from. One that every machine
// has, or that stands for many, would take somebody else's packets. An address that is
// oddly written comes with an error.
func vip(field, text string) (netip.Addr, error) {
	ip, err := readAddr(text)
	switch {
	case ip == broadcast:
		return netip.Addr{}, fmt.Errorf("%s %s is the broadcast address of every network: give an address of its own", field, ip)
	case isShared(ip):
		return netip.Addr{}, fmt.Errorf("%s %s is unspecified, loopback, link-local or multicast: give an address of its own", field, ip)
	}
	if err != nil {
		return ip, fmt.Errorf("%s %w", field, err)
	}
	return ip, nil
}

// sourceRanges reads spec.loadBalancerSourceRanges, and says whether there is one that
// cannot be read.
func sourceRanges(given []string) (ranges []netip.Prefix, unreadable bool, err error) {
	var errs []error
	for i, text := range given {
		r, err := readPrefix(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("spec.loadBalancerSourceRanges[%d] %w", i, err))
		}
		if !r.IsValid() {
			unreadable = true
			continue
		}
		ranges = append(ranges, r)
	}
	slices.SortFunc(ranges, netip.Prefix.Compare)
	return slices.Compact(ranges), unreadable, join(errs)
}
