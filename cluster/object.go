package cluster

import "net/netip"

// PodName identifies a Pod.
type PodName struct {
	Namespace, Name string
}

// String returns "namespace/name".
func (n PodName) String() string { return n.Namespace + "/" + n.Name }

// Compare orders names by namespace, then by name.
func (n PodName) Compare(o PodName) int { return ServiceName(n).Compare(ServiceName(o)) }

// Pod is what DNS needs of a Pod: its addresses, of both families
// (status.podIPs), and its labels. Immutable.
type Pod struct {
	Name PodName
	IPs  []netip.Addr
	// Labels are for the metadata of queries; a source that nobody asks for them
	// may leave them out.
	Labels map[string]string
}

// Node is what NAT needs of a Node. Immutable.
type Node struct {
	Name      string
	Addresses []netip.Addr   // status.addresses that are IP addresses
	PodCIDRs  []netip.Prefix // spec.podCIDRs
	Zone      string         // label topology.kubernetes.io/zone
	// Leaving says that the Node is being deleted, or is to be: it has the taint
	// ToBeDeletedByClusterAutoscaler (KEP-3836).
	Leaving bool
}
