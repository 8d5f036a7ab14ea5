// Package convert turns Kubernetes API objects into the cluster model. Both
// sources use it, so that an object means the same whether it comes from a
// folder or from an API server.
//
// Conversion validates: a returned error lists every fault of the object, each
// with the field, the value and the mend. It does not name the object or its
// file; the source that knows them does.
package convert

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// serviceProxyName is the label of core/v1 that asks for another proxy.
const serviceProxyName = "service.kubernetes.io/service-proxy-name"

// Service converts a Service, without endpoints (see cluster.New). A Service of
// type ClusterIP may come out without ClusterIPs: they are not allocated yet.
func Service(s *corev1.Service) (cluster.Service, error) {
	out := cluster.Service{Name: cluster.ServiceName{Namespace: s.Namespace, Name: s.Name}, Created: s.CreationTimestamp.Time}
	errs := checkName("metadata.name", s.Name)
	errs = append(errs, checkName("metadata.namespace", s.Namespace)...)

	switch s.Spec.Type {
	case "", corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer:
	case corev1.ServiceTypeExternalName:
		out.Kind = cluster.KindExternalName
		out.ExternalName = strings.TrimSuffix(s.Spec.ExternalName, ".")
		if s.Spec.ExternalName == "" {
			errs = append(errs, errors.New("spec.externalName is missing: give the name that this Service stands for"))
		} else if msgs := validation.IsDNS1123Subdomain(strings.ToLower(out.ExternalName)); len(msgs) > 0 {
			errs = append(errs, fmt.Errorf("spec.externalName %q: %s", s.Spec.ExternalName, msgs[0]))
		}
		return out, errors.Join(errs...)
	default:
		errs = append(errs, fmt.Errorf("spec.type %q is none of ClusterIP, NodePort, LoadBalancer, ExternalName", s.Spec.Type))
	}

	ips, headless, err := clusterIPs(s)
	if err != nil {
		errs = append(errs, err)
	}
	out.Kind, out.ClusterIPs = cluster.KindClusterIP, ips
	if headless {
		out.Kind = cluster.KindHeadless
	}
	out.ProxyName = s.Labels[serviceProxyName]
	var affinityErr, externalErr, policyErr error
	if p := s.Spec.InternalTrafficPolicy; p != nil {
		out.InternalLocal, policyErr = isLocal("spec.internalTrafficPolicy", string(*p))
	}
	out.AffinitySeconds, affinityErr = affinity(&s.Spec)
	if out.Kind == cluster.KindClusterIP {
		out.External, externalErr = external(s)
	}
	errs = append(errs, policyErr, affinityErr, externalErr)
	ports, portErrs := servicePorts(&s.Spec)
	out.Ports = ports
	errs = append(errs, portErrs...)
	if len(s.Spec.Ports) == 0 && !headless {
		errs = append(errs, errors.New("spec.ports is empty: name at least one port (only a headless Service, clusterIP: None, needs none)"))
	}
	return out, errors.Join(errs...)
}

// maxLabel is the length of a label, RFC 1035 section 2.3.4. Validation of names in
// Kubernetes bounds the whole alone.
const maxLabel = 63

// LongLabels are faults of a Service that is sound but for a name that DNS cannot
// hold: a source takes the Service and tells them, and the name gets no record.
func LongLabels(s *corev1.Service) []error {
	switch s.Spec.Type {
	case corev1.ServiceTypeExternalName:
		return longLabel("spec.externalName", s.Spec.ExternalName)
	case corev1.ServiceTypeLoadBalancer:
		var errs []error
		for i, ingress := range s.Status.LoadBalancer.Ingress {
			errs = append(errs, longLabel(fmt.Sprintf("status.loadBalancer.ingress[%d].hostname", i), ingress.Hostname)...)
		}
		return errs
	}
	return nil
}

func longLabel(field, name string) []error {
	for label := range strings.SplitSeq(name, ".") {
		if len(label) > maxLabel {
			return []error{fmt.Errorf("%s %q has a part of %d characters, and DNS has at most %d between dots, so there is no record of it: give a name that DNS can hold",
				field, name, len(label), maxLabel)}
		}
	}
	return nil
}

func isLocal(field, policy string) (bool, error) {
	switch policy {
	case "", "Cluster":
		return false, nil
	case "Local":
		return true, nil
	}
	return false, fmt.Errorf("%s %q is neither Cluster nor Local", field, policy)
}

func checkName(field, name string) []error {
	if msgs := validation.IsDNS1123Label(name); len(msgs) > 0 {
		return []error{fmt.Errorf("%s %q is no DNS label: %s", field, name, msgs[0])}
	}
	return nil
}

// clusterIPs reads spec.clusterIPs, which wins over the older spec.clusterIP.
func clusterIPs(s *corev1.Service) (ips []netip.Addr, headless bool, err error) {
	given, field := s.Spec.ClusterIPs, "spec.clusterIPs"
	if len(given) == 0 && s.Spec.ClusterIP != "" {
		given, field = []string{s.Spec.ClusterIP}, "spec.clusterIP"
	}
	if ip := s.Spec.ClusterIP; ip != "" && ip != given[0] {
		return nil, false, fmt.Errorf("spec.clusterIP %q and spec.clusterIPs[0] %q differ: make them the same, or leave one out", ip, given[0])
	}
	if len(given) == 1 && given[0] == corev1.ClusterIPNone {
		return nil, true, nil
	}
	if len(given) > 2 {
		return nil, false, fmt.Errorf("%s has %d addresses: at most one IPv4 and one IPv6 address are allowed", field, len(given))
	}
	for _, text := range given {
		if strings.EqualFold(text, corev1.ClusterIPNone) {
			return nil, false, fmt.Errorf("%s %q: for a headless Service write None, with a capital N and alone", field, text)
		}
		ip, err := netip.ParseAddr(text)
		if err != nil || ip.Zone() != "" || ip.Is4In6() {
			return nil, false, fmt.Errorf("%s %q is not an IP address: give an address, None, or leave the field out", field, text)
		}
		ips = append(ips, ip)
	}
	if len(ips) == 2 && cluster.FamilyOf(ips[0]) == cluster.FamilyOf(ips[1]) {
		return nil, false, fmt.Errorf("%s %v: the two addresses must be one IPv4 and one IPv6 address", field, ips)
	}
	return ips, false, nil
}

func servicePorts(spec *corev1.ServiceSpec) ([]cluster.Port, []error) {
	given := spec.Ports
	onNodes := spec.Type == corev1.ServiceTypeNodePort || spec.Type == corev1.ServiceTypeLoadBalancer
	var errs []error
	ports := make([]cluster.Port, 0, len(given))
	type number struct {
		protocol cluster.Protocol
		port     int32
	}
	names, numbers := map[string]bool{}, map[number]bool{}
	for i, p := range given {
		at := fmt.Sprintf("spec.ports[%d]", i)
		if p.Name == "" && len(given) > 1 {
			errs = append(errs, fmt.Errorf("%s has no name: every port needs one when there are several", at))
		}
		if p.Name != "" {
			if msgs := validation.IsDNS1123Label(p.Name); len(msgs) > 0 {
				errs = append(errs, fmt.Errorf("%s.name %q is no DNS label: %s", at, p.Name, msgs[0]))
			} else if names[p.Name] {
				errs = append(errs, fmt.Errorf("%s.name %q is given twice: rename one", at, p.Name))
			}
			names[p.Name] = true
		}
		protocol, err := cluster.ParseProtocol(string(p.Protocol))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s.%w", at, err))
		}
		if p.Port < 1 || p.Port > 65535 {
			errs = append(errs, fmt.Errorf("%s.port %d is outside 1-65535", at, p.Port))
		} else if key := (number{protocol, p.Port}); numbers[key] {
			errs = append(errs, fmt.Errorf("%s: %s port %d is given twice", at, protocol, p.Port))
		} else {
			numbers[key] = true
		}
		port := cluster.Port{Name: p.Name, Protocol: protocol, Port: uint16(p.Port)}
		if p.NodePort < 0 || p.NodePort > 65535 {
			errs = append(errs, fmt.Errorf("%s.nodePort %d is outside 1-65535", at, p.NodePort))
		} else if onNodes {
			port.NodePort = uint16(p.NodePort)
		}
		ports = append(ports, port)
	}
	return ports, errs
}
