package convert

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"
)

// EndpointSlice converts a slice and returns the Service it belongs to (label
// kubernetes.io/service-name). On an error the endpoints that are sound are
// returned all the same; without that label there is nothing to return.
func EndpointSlice(s *discoveryv1.EndpointSlice) (cluster.ServiceName, []cluster.Endpoint, error) {
	owner := cluster.ServiceName{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]}
	if owner.Name == "" {
		return owner, nil, fmt.Errorf("label %s is missing: set it to the name of the Service", discoveryv1.LabelServiceName)
	}
	endpoints, err := sliceEndpoints(s, "")
	return owner, endpoints, err
}

// sliceEndpoints converts the endpoints of a slice that are in a cluster; "" is this
// one.
func sliceEndpoints(s *discoveryv1.EndpointSlice, in string) ([]cluster.Endpoint, error) {
	if s.AddressType == discoveryv1.AddressTypeFQDN {
		return nil, errors.New("addressType FQDN is not supported: use IPv4 or IPv6, or an ExternalName Service")
	}
	ports, errs := slicePorts(s.Ports)
	weight, wrong := sliceWeight("EndpointSlice", s.Annotations)
	errs = append(errs, wrong...)
	shared := &cluster.EndpointSlice{Ports: ports, Cluster: in, NamesOnly: namesOnly(s.Labels), Weight: weight}
	endpoints := slices.Grow([]cluster.Endpoint(nil), len(s.Endpoints)) // mostly each has one address
	for i, e := range s.Endpoints {
		out := cluster.Endpoint{
			Hostname: ptr.Deref(e.Hostname, ""),
			PodName:  podName(e.TargetRef),
			Slice:    shared,
			Topology: topology(ptr.Deref(e.NodeName, ""), ptr.Deref(e.Zone, "")),
			Hints:    hints(e.Hints),
			// The defaults of discovery/v1: an unknown condition means ready.
			Ready:       ptr.Deref(e.Conditions.Ready, true),
			Serving:     ptr.Deref(cmp.Or(e.Conditions.Serving, e.Conditions.Ready), true),
			Terminating: ptr.Deref(e.Conditions.Terminating, false),
		}
		if err := checkHostname(out.Hostname); err != nil {
			errs = append(errs, fmt.Errorf("endpoints[%d]: %w", i, err))
			out.Hostname = ""
		}
		for _, text := range e.Addresses {
			addr, err := EndpointAddr(text)
			if addr.IsValid() && s.AddressType != "" && cluster.FamilyOf(addr).String() != string(s.AddressType) {
				addr, err = netip.Addr{}, fmt.Errorf("address %q does not fit addressType %s", text, s.AddressType)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("endpoints[%d]: %w", i, err))
			}
			if addr.IsValid() {
				out.Addr = addr
				endpoints = append(endpoints, out)
			}
		}
	}
	return endpoints, join(errs)
}

// Endpoints converts the older core/v1 Endpoints, which belong to the Service of
// the same name. On an error the endpoints that are sound are returned.
func Endpoints(e *corev1.Endpoints) (cluster.ServiceName, []cluster.Endpoint, error) {
	owner := cluster.ServiceName{Namespace: e.Namespace, Name: e.Name}
	var endpoints []cluster.Endpoint
	weight, errs := sliceWeight("Endpoints", e.Annotations)
	for i, subset := range e.Subsets {
		slice := discoveryv1.EndpointSlice{}
		for _, p := range subset.Ports {
			slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &p.Name, Protocol: &p.Protocol, Port: &p.Port})
		}
		ports, portErrs := slicePorts(slice.Ports)
		errs = append(errs, portErrs...)
		shared := &cluster.EndpointSlice{Ports: ports, NamesOnly: namesOnly(e.Labels), Weight: weight}
		for list, addresses := range [][]corev1.EndpointAddress{subset.Addresses, subset.NotReadyAddresses} {
			ready := list == 0
			field := [...]string{"addresses", "notReadyAddresses"}[list]
			for k, a := range addresses {
				addr, err := EndpointAddr(a.IP)
				if err == nil {
					if err = checkHostname(a.Hostname); err != nil {
						err = fmt.Errorf("address %s: %w", addr, err)
					}
				}
				if err != nil {
					errs = append(errs, fmt.Errorf("subsets[%d].%s[%d]: %w", i, field, k, err))
					continue
				}
				endpoints = append(endpoints, cluster.Endpoint{
					Addr: addr, Hostname: a.Hostname, PodName: podName(a.TargetRef),
					Slice: shared, Topology: topology(ptr.Deref(a.NodeName, ""), ""), Ready: ready, Serving: ready,
				})
			}
		}
	}
	return owner, endpoints, join(errs)
}

func slicePorts(given []discoveryv1.EndpointPort) ([]cluster.EndpointPort, []error) {
	var errs []error
	ports := make([]cluster.EndpointPort, 0, len(given))
	for i, p := range given {
		protocol, err := cluster.ParseProtocol(string(ptr.Deref(p.Protocol, "")))
		if err != nil {
			errs = append(errs, fmt.Errorf("ports[%d].%w", i, err))
			continue
		}
		if p.Port == nil {
			continue // any port, which discovery/v1 leaves to consumers of their own
		}
		if *p.Port < 1 || *p.Port > 65535 {
			errs = append(errs, fmt.Errorf("ports[%d].port %d is outside 1-65535", i, *p.Port))
			continue
		}
		ports = append(ports, cluster.EndpointPort{Name: ptr.Deref(p.Name, ""), Protocol: protocol, Port: uint16(*p.Port)})
	}
	SortPorts(ports)
	return slices.Clip(ports), errs
}

// SortPorts puts ports in the order that cluster.EndpointSlice promises.
func SortPorts(ports []cluster.EndpointPort) {
	slices.SortFunc(ports, cluster.EndpointPort.Compare)
}

// EndpointAddr parses the address of an endpoint. It refuses what the API server
// refuses (and what would loop or leak when it became the target of NAT). An address
// that is oddly written comes with an error.
func EndpointAddr(text string) (netip.Addr, error) {
	addr, err := readAddr(text)
	if isShared(addr) {
		return netip.Addr{}, fmt.Errorf("address %s cannot be an endpoint, being unspecified, loopback, link-local, multicast or broadcast: give one of an interface, for a process on this machine one that hostname -I lists", text)
	}
	if err != nil {
		return addr, fmt.Errorf("address %w", err)
	}
	return addr, nil
}

func checkHostname(hostname string) error {
	if hostname == "" {
		return nil
	}
	return CheckLabel("hostname", hostname)
}

func topology(nodeName, zone string) *cluster.Topology {
	if nodeName == "" && zone == "" {
		return nil
	}
	return &cluster.Topology{NodeName: nodeName, Zone: zone}
}

func hints(given *discoveryv1.EndpointHints) *cluster.Hints {
	if given == nil || len(given.ForZones)+len(given.ForNodes) == 0 {
		return nil
	}
	var out cluster.Hints
	for _, z := range given.ForZones {
		out.Zones = append(out.Zones, z.Name)
	}
	for _, n := range given.ForNodes {
		out.Nodes = append(out.Nodes, n.Name)
	}
	return &out
}

// podName takes whatever stands in the place of a pod, such as a virtual machine.
func podName(ref *corev1.ObjectReference) string {
	if ref == nil {
		return ""
	}
	return ref.Name
}
