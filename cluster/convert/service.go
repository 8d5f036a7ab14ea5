// Package convert turns Kubernetes API objects into the cluster model. Both
// sources use it, so that an object means the same whether it comes from a
// folder or from an API server.
//
// Conversion validates. It returns what is sound of an object, together with an error
// that lists every fault, each with the field, the value and the mend. The error does
// not name the object or its file; the source that knows them does.
//
// The API server takes what is of no use here: a load balancer's address 127.0.0.1, a
// name that DNS cannot hold. Its source serves what is sound and reports the rest, since
// nobody may be able to mend the object. The folder takes nothing of a faulty object but
// sound endpoints, since its author can mend it.
package convert

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/ptr"
)

// Service converts a Service, without endpoints (see cluster.New). A Service of
// type ClusterIP may come out without ClusterIPs: they are not allocated yet.
//
// On an error it comes out without the parts at fault. Its Kind is 0 if what is left is
// too little to serve it.
func Service(s *corev1.Service) (cluster.Service, error) {
	out := cluster.Service{Name: cluster.ServiceName{Namespace: s.Namespace, Name: s.Name}, Created: s.CreationTimestamp.Time}
	var kindErr, ipsErr, spelling error
	out.Kind, kindErr = kind(s)
	switch out.Kind {
	case cluster.KindExternalName:
		out.ExternalName = strings.TrimSuffix(s.Spec.ExternalName, ".")
	case cluster.KindClusterIP:
		out.ClusterIPs, spelling, ipsErr = clusterIPs(s)
	}
	errs := []error{CheckLabel("metadata.name", s.Name), CheckLabel("metadata.namespace", s.Namespace), kindErr, ipsErr}
	if errors.Join(errs...) != nil {
		out.Kind = 0
	}
	errs = append(errs, spelling)
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return out, join(errs)
	}

	out.Proxy = proxy(s.Labels)
	out.Policy, _ = policy(s.Annotations) // Balancing says what is wrong with these
	out.Weights, _ = weights(s.Annotations)
	var affinityErr, externalErr, policyErr error
	out.InternalLocal, policyErr = isLocal("spec.internalTrafficPolicy", string(ptr.Deref(s.Spec.InternalTrafficPolicy, "")))
	out.AffinitySeconds, affinityErr = affinity(&s.Spec)
	if out.Kind != cluster.KindHeadless {
		out.External, externalErr = external(s)
	}
	errs = append(errs, policyErr, affinityErr, externalErr)
	ports, portErrs := servicePorts(&s.Spec)
	out.Ports = ports
	errs = append(errs, portErrs...)
	if len(s.Spec.Ports) == 0 && out.Kind != cluster.KindHeadless {
		errs = append(errs, errors.New("spec.ports is empty: name at least one port (only a headless Service, clusterIP: None, needs none)"))
	}
	return out, join(errs)
}

// kind says how a Service is reached.
func kind(s *corev1.Service) (cluster.Kind, error) {
	switch s.Spec.Type {
	case "", corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer:
		if given, _ := givenIPs(s); len(given) == 1 && given[0] == corev1.ClusterIPNone {
			return cluster.KindHeadless, nil
		}
		return cluster.KindClusterIP, nil
	case corev1.ServiceTypeExternalName:
		name := strings.ToLower(strings.TrimSuffix(s.Spec.ExternalName, "."))
		if s.Spec.ExternalName == "" {
			return 0, errors.New("spec.externalName is missing: give the name that this Service stands for")
		}
		if msgs := validation.IsDNS1123Subdomain(name); len(msgs) > 0 {
			return 0, fmt.Errorf("spec.externalName %q: %s", s.Spec.ExternalName, msgs[0])
		}
		return cluster.KindExternalName, nil
	}
	return 0, fmt.Errorf("spec.type %q is none of ClusterIP, NodePort, LoadBalancer, ExternalName", s.Spec.Type)
}

// maxHostnames of a load balancer are told. A name has one alias in DNS; a load balancer
// has one hostname, or few.
const maxHostnames = 16

// maxLabel is the length of a label, RFC 1035 section 2.3.4. Validation of names in
// Kubernetes bounds the whole alone.
const maxLabel = 63

// BeyondDNS are faults of a Service that is sound: it has names that DNS cannot hold, or
// more host names than get records. A source takes the Service and tells them.
func BeyondDNS(s *corev1.Service) []error {
	switch s.Spec.Type {
	case corev1.ServiceTypeExternalName:
		return longLabel("spec.externalName", s.Spec.ExternalName)
	case corev1.ServiceTypeLoadBalancer:
		var errs []error
		hostnames := 0
		for i, ingress := range s.Status.LoadBalancer.Ingress {
			errs = append(errs, longLabel(fmt.Sprintf("status.loadBalancer.ingress[%d].hostname", i), ingress.Hostname)...)
			if ingress.Hostname != "" && ingress.IP == "" {
				hostnames++
			}
		}
		if hostnames > maxHostnames {
			errs = append(errs, fmt.Errorf("status.loadBalancer.ingress has %d hostnames, and each is looked up for every question: the first %d get records", hostnames, maxHostnames))
		}
		return bounded(errs)
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

// CheckLabel says why the name in a field is no DNS label, if it is none.
func CheckLabel(field, name string) error {
	if msgs := validation.IsDNS1123Label(name); len(msgs) > 0 {
		return fmt.Errorf("%s %q is no DNS label: %s", field, name, msgs[0])
	}
	return nil
}

// givenIPs returns spec.clusterIPs, which wins over the older spec.clusterIP, and
// which of the two it is.
func givenIPs(s *corev1.Service) (given []string, field string) {
	if len(s.Spec.ClusterIPs) == 0 && s.Spec.ClusterIP != "" {
		return []string{s.Spec.ClusterIP}, "spec.clusterIP"
	}
	return s.Spec.ClusterIPs, "spec.clusterIPs"
}

// clusterIPs returns the addresses, what is wrong with how they are written, and why
// there are none.
func clusterIPs(s *corev1.Service) (ips []netip.Addr, spelling, err error) {
	given, field := givenIPs(s)
	if ip := s.Spec.ClusterIP; ip != "" && ip != given[0] {
		return nil, nil, fmt.Errorf("spec.clusterIP %q and spec.clusterIPs[0] %q differ: make them the same, or leave one out", ip, given[0])
	}
	if len(given) > 2 {
		return nil, nil, fmt.Errorf("%s has %d addresses: at most one IPv4 and one IPv6 address are allowed", field, len(given))
	}
	for _, text := range given {
		if strings.EqualFold(text, corev1.ClusterIPNone) {
			return nil, nil, fmt.Errorf("%s %q: for a headless Service write None, with a capital N and alone", field, text)
		}
		ip, err := readAddr(text)
		if !ip.IsValid() {
			return nil, nil, fmt.Errorf("%s %w: give an address, None, or leave the field out", field, err)
		}
		// A link-local one may be meant: it is nobody's but who chooses it.
		if isShared(ip) && !ip.IsLinkLocalUnicast() {
			return nil, nil, fmt.Errorf("%s %s is unspecified, loopback, multicast or broadcast: give an address of its own, or leave the field out", field, ip)
		}
		if err != nil {
			spelling = errors.Join(spelling, fmt.Errorf("%s %w", field, err))
		}
		ips = append(ips, ip)
	}
	if len(ips) == 2 && cluster.FamilyOf(ips[0]) == cluster.FamilyOf(ips[1]) {
		return nil, nil, fmt.Errorf("%s %v: the two addresses must be one IPv4 and one IPv6 address", field, ips)
	}
	return ips, spelling, nil
}

// servicePorts returns the ports that are sound.
func servicePorts(spec *corev1.ServiceSpec) ([]cluster.Port, []error) {
	var errs []error
	ports := make([]cluster.Port, 0, len(spec.Ports))
	taken := takenPorts{make(map[string]bool, len(spec.Ports)), make(map[cluster.Port]bool, len(spec.Ports))}
	for i, p := range spec.Ports {
		port, faults := servicePort(spec, &p, taken)
		if len(faults) == 0 {
			taken.add(port)
			ports = append(ports, port)
		}
		for _, fault := range faults {
			errs = append(errs, fmt.Errorf("spec.ports[%d]%w", i, fault))
		}
	}
	return ports, errs
}

// takenPorts are the names and the numbers, with their protocols, that the ports so
// far have.
type takenPorts struct {
	names   map[string]bool
	numbers map[cluster.Port]bool
}

func number(p cluster.Port) cluster.Port { return cluster.Port{Protocol: p.Protocol, Port: p.Port} }

func (t takenPorts) add(p cluster.Port) { t.names[p.Name], t.numbers[number(p)] = true, true }

// servicePort converts a port that comes after others. Its faults begin with what
// follows the port's own place.
func servicePort(spec *corev1.ServiceSpec, p *corev1.ServicePort, taken takenPorts) (cluster.Port, []error) {
	var faults []error
	if p.Name == "" && len(spec.Ports) > 1 {
		faults = append(faults, errors.New(" has no name: every port needs one when there are several"))
	}
	if p.Name != "" {
		if err := CheckLabel(".name", p.Name); err != nil {
			faults = append(faults, err)
		} else if taken.names[p.Name] {
			faults = append(faults, fmt.Errorf(".name %q is given twice: rename one", p.Name))
		}
	}
	protocol, err := cluster.ParseProtocol(string(p.Protocol))
	if err != nil {
		faults = append(faults, fmt.Errorf(".%w", err))
	}
	port := cluster.Port{Name: p.Name, Protocol: protocol, Port: uint16(p.Port)}
	if p.Port < 1 || p.Port > 65535 {
		faults = append(faults, fmt.Errorf(".port %d is outside 1-65535", p.Port))
	} else if taken.numbers[number(port)] {
		faults = append(faults, fmt.Errorf(": %s port %d is given twice", protocol, p.Port))
	}
	if p.NodePort < 0 || p.NodePort > 65535 {
		faults = append(faults, fmt.Errorf(".nodePort %d is outside 1-65535", p.NodePort))
	} else if spec.Type == corev1.ServiceTypeNodePort || spec.Type == corev1.ServiceTypeLoadBalancer {
		port.NodePort = uint16(p.NodePort)
	}
	return port, faults
}
