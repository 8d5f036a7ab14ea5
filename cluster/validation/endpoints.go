package validation

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/ptr"
)

// How much an EndpointSlice holds, in discovery/v1.
const (
	maxEndpoints = 1000
	maxPorts     = 20000
	maxAddresses = 100
	maxHints     = 8
)

const inAnotherSlice = "put the rest into another EndpointSlice"

// EndpointSlice returns what is wrong with an EndpointSlice.
func EndpointSlice(s *discoveryv1.EndpointSlice) []error {
	f := metadata(&s.ObjectMeta)
	switch s.AddressType {
	case discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6, discoveryv1.AddressTypeFQDN:
	case "":
		f.add("addressType is missing: write IPv4 or IPv6")
	default:
		f.add("addressType %q is none of IPv4, IPv6, FQDN", s.AddressType)
	}
	f.atMost("ports", len(s.Ports), maxPorts, inAnotherSlice)
	f.slicePorts(s.Ports)
	f.atMost("endpoints", len(s.Endpoints), maxEndpoints, inAnotherSlice)
	for i := range s.Endpoints {
		f.endpoint(fmt.Sprintf("endpoints[%d]", i), &s.Endpoints[i], s.AddressType)
	}
	return f
}

func (f *faults) slicePorts(ports []discoveryv1.EndpointPort) {
	names := make(map[string]bool, len(ports))
	for i, p := range ports {
		name := ptr.Deref(p.Name, "")
		if name != "" {
			f.label(fmt.Sprintf("ports[%d].name", i), name)
		}
		if names[name] {
			f.add("ports[%d].name %q is given twice: rename one", i, name)
		}
		names[name] = true
		if p.Protocol != nil && *p.Protocol == "" {
			f.add("ports[%d].protocol is empty: write TCP, UDP or SCTP, or leave it out", i)
		}
	}
}

func (f *faults) endpoint(where string, e *discoveryv1.Endpoint, addressType discoveryv1.AddressType) {
	if len(e.Addresses) == 0 {
		f.add("%s.addresses is empty: give one address, or remove the endpoint", where)
	}
	f.atMost(where+".addresses", len(e.Addresses), maxAddresses, "give each address an endpoint of its own")
	if addressType == discoveryv1.AddressTypeIPv6 {
		for _, text := range e.Addresses {
			if ip, err := netip.ParseAddr(text); err == nil && ip.Is6() && !ip.Is4In6() && ip.Zone() == "" && ip.String() != text {
				f.add("%s: address %q is not in the canonical form (RFC 5952): write %s", where, text, ip)
			}
		}
	}
	if e.NodeName != nil {
		f.nodeName(where+".nodeName", *e.NodeName)
	}
	if e.Hostname != nil && *e.Hostname == "" { // convert judges others
		f.add("%s.hostname is empty: give a DNS label, or leave it out", where)
	}
	if e.Hints != nil {
		f.hints(where+".hints", e.Hints)
	}
}

func (f *faults) hints(where string, hints *discoveryv1.EndpointHints) {
	var zones, nodes []string
	for _, z := range hints.ForZones {
		zones = append(zones, z.Name)
	}
	for _, n := range hints.ForNodes {
		nodes = append(nodes, n.Name)
	}
	for i, name := range f.hinted(where+".forZones", zones) {
		for _, msg := range validation.IsValidLabelValue(name) {
			f.add("%s.forZones[%d].name %q is no name of a zone: %s", where, i, name, msg)
		}
	}
	for i, name := range f.hinted(where+".forNodes", nodes) {
		f.nodeName(fmt.Sprintf("%s.forNodes[%d].name", where, i), name)
	}
}

// hinted judges a list of names as a whole, and returns those that are to be judged one by
// one.
func (f *faults) hinted(where string, names []string) []string {
	f.atMost(where, len(names), maxHints, "remove some")
	names = names[:min(len(names), maxHints)]
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			f.add("%s[%d].name %q is given twice: remove one", where, i, name)
		}
	}
	return names
}

// Endpoints returns what is wrong with an Endpoints.
//
//lint:ignore SA1019 deprecated, and still found in manifests
func Endpoints(e *corev1.Endpoints) []error {
	f := metadata(&e.ObjectMeta)
	for i, subset := range e.Subsets {
		where := fmt.Sprintf("subsets[%d]", i)
		if len(subset.Addresses)+len(subset.NotReadyAddresses) == 0 {
			f.add("%s has neither addresses nor notReadyAddresses: give one, or remove it", where)
		}
		for j, p := range subset.Ports {
			switch {
			case p.Name != "":
				f.label(fmt.Sprintf("%s.ports[%d].name", where, j), p.Name)
			case len(subset.Ports) > 1:
				f.add("%s.ports[%d] has no name: every port needs one when there are several", where, j)
			}
		}
		f.addresses(where+".addresses", subset.Addresses)
		f.addresses(where+".notReadyAddresses", subset.NotReadyAddresses)
	}
	return f
}

func (f *faults) addresses(where string, addresses []corev1.EndpointAddress) {
	for i, a := range addresses {
		if a.NodeName != nil {
			f.nodeName(fmt.Sprintf("%s[%d].nodeName", where, i), *a.NodeName)
		}
	}
}
