// Package cluster is the model that both halves of clusterip share: what a
// Service is, and the Store that carries changed Services from a source (a
// folder of manifests, an API server) to DNS and NAT.
//
// Every value handed out by this package is immutable: a change makes a new
// *Service. Readers therefore need no locks and may keep what they were given.
// The package knows nothing of DNS messages or of the kernel.
//
// Start with Service, then Store; Usable says which endpoints count.
package cluster

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// ServiceName identifies a Service. It is comparable, so it serves as map key.
type ServiceName struct {
	Namespace, Name string
}

// String returns "namespace/name", as Kubernetes prints it.
func (n ServiceName) String() string { return n.Namespace + "/" + n.Name }

// Compare orders names by namespace, then by name.
func (n ServiceName) Compare(o ServiceName) int {
	if c := strings.Compare(n.Namespace, o.Namespace); c != 0 {
		return c
	}
	return strings.Compare(n.Name, o.Name)
}

// SortedNames returns the names that a map has. Of ten thousand it makes one slice, where
// slices.SortedFunc would leave five times as much to the garbage collector.
func SortedNames[V any](of map[ServiceName]V) []ServiceName {
	all := slices.AppendSeq(make([]ServiceName, 0, len(of)), maps.Keys(of))
	slices.SortFunc(all, ServiceName.Compare)
	return all
}

// Kind says how a Service is reached. The zero value is invalid.
type Kind uint8

const (
	// KindClusterIP has virtual addresses that the kernel translates.
	KindClusterIP Kind = iota + 1
	// KindHeadless (clusterIP: None) is known by its endpoints' addresses only.
	KindHeadless
	// KindExternalName is an alias for a DNS name outside.
	KindExternalName
)

// Service is the unit of change: one Service merged with the endpoints of all
// its slices. It is immutable; build one with New.
type Service struct {
	Name ServiceName
	Kind Kind
	// Created decides between Services that ask for one frontend: the older has
	// it. Zero if it is not known.
	Created time.Time
	// Remembered says that nothing but the addresses is known, from an earlier
	// run: what the Service is stands somewhere that cannot be read.
	Remembered bool
	// ClusterIPs holds at most one address of each family, the primary first.
	// It is empty for the other kinds, and for a Service whose address could
	// not be allocated.
	ClusterIPs []netip.Addr
	// ExternalName is the target of KindExternalName, without a trailing dot.
	ExternalName string
	// InternalLocal is internalTrafficPolicy: Local.
	InternalLocal bool
	// External is how KindClusterIP is reached besides its ClusterIPs.
	External External
	// AffinitySeconds is how long a client stays with its endpoint after its
	// last connection (sessionAffinity: ClientIP); 0 means not at all.
	AffinitySeconds uint32
	// Policy is how endpoints take turns; nil is for the proxy to say.
	Policy *Policy
	// Weights are those of endpoints; see WeightOf.
	Weights []WeightRule
	// Proxy is who is to translate packets to its addresses. Names do not depend on it.
	Proxy Proxy
	// Ports are in the order of the manifest.
	Ports []Port
	// Endpoints are sorted by address and have no duplicates; see New.
	Endpoints []Endpoint
}

// External is how a Service is reached from outside the cluster, besides the
// NodePorts of its ports. The zero value: not at all.
type External struct {
	// IPs are spec.externalIPs: addresses of somebody else that lead here.
	IPs []netip.Addr
	// LoadBalancerIPs are those of status.loadBalancer.ingress with ipMode VIP,
	// the default: packets arrive with the address of the load balancer.
	LoadBalancerIPs []netip.Addr
	// Published is what DNS tells clients outside: IPs, then each ingress of
	// status.loadBalancer by its address or host name, whatever its ipMode.
	Published []string
	// SourceRanges are the clients that LoadBalancerIPs are for; none means
	// everybody.
	SourceRanges []netip.Prefix
	// Local is externalTrafficPolicy: Local.
	Local bool
	// HealthCheckNodePort tells load balancers whether this node has endpoints;
	// 0 for none.
	HealthCheckNodePort uint16
}

// Port is a port of a Service, as clients of its ClusterIP see it.
type Port struct {
	Name     string // a DNS label, or "" for the only port
	Protocol Protocol
	Port     uint16
	NodePort uint16 // the port on every node's addresses, or 0
}

// EndpointPort is a port of an endpoint. Name and Protocol tie it to the Port
// of the same name; Port is the number inside the pod (the targetPort).
type EndpointPort struct {
	Name     string
	Protocol Protocol
	Port     uint16
}

// ClusterIP returns that of one family; the zero Addr if there is none. The Service may
// be nil.
func (s *Service) ClusterIP(family Family) netip.Addr {
	if s != nil {
		for _, ip := range s.ClusterIPs {
			if FamilyOf(ip) == family {
				return ip
			}
		}
	}
	return netip.Addr{}
}

// Endpoint is one address that backs a Service. There are ten times as many of them as
// of Services, and they are half of what a source holds. So what several have in common
// is behind pointers that they share, and an Endpoint is 88 bytes; methods read what is
// behind the pointers, also where there is nothing. 10,000 Services of 10 endpoints
// take 19 MB, with PodNames 22.
type Endpoint struct {
	Addr     netip.Addr
	Hostname string // the DNS label set by the pod (StatefulSets), or ""
	// PodName is the pod behind the address, or "". It is longer than all the rest, and
	// only the options endpoint_pod_names and "ptr first" of DNS ask for it, so a source
	// may leave it out. Pods that share an address (hostNetwork) and have no hostnames
	// are one endpoint then, as they have one name in DNS.
	PodName  string
	Slice    *EndpointSlice // nil for the zero value
	Topology *Topology      // nil if it is not known
	// Hints say whose clients are to use the endpoint; nil: nobody's in
	// particular.
	Hints *Hints
	// The conditions of discovery/v1: Ready already includes
	// publishNotReadyAddresses.
	Ready, Serving, Terminating bool
}

// EndpointSlice is what all endpoints of one slice have in common.
type EndpointSlice struct {
	Ports   []EndpointPort // sorted
	Cluster string         // which one the endpoints are in, if their Service is imported, or ""
	// NamesOnly is the label service.kubernetes.io/headless: names lead to the
	// endpoints, and a ClusterIP does not.
	NamesOnly bool
	// Weight is that of each endpoint, or nil; see Service.WeightOf.
	Weight *Weight
}

// Topology is what all endpoints on one node have in common.
type Topology struct {
	NodeName string // or ""
	Zone     string // topology.kubernetes.io/zone of the node, or ""
}

// Hints are the zones and nodes whose clients are to use an endpoint (hints of
// discovery/v1).
type Hints struct {
	Zones, Nodes []string
}

// They are read where an endpoint has none.
var (
	noSlice    EndpointSlice
	noTopology Topology
	noHints    Hints
)

// Ports returns the ports of the endpoint's slice.
func (e *Endpoint) Ports() []EndpointPort { return cmp.Or(e.Slice, &noSlice).Ports }

// Cluster returns which one the endpoint is in, if its Service is imported, or "".
func (e *Endpoint) Cluster() string { return cmp.Or(e.Slice, &noSlice).Cluster }

// NamesOnly reports whether packets to a ClusterIP do not go to the endpoint.
func (e *Endpoint) NamesOnly() bool { return cmp.Or(e.Slice, &noSlice).NamesOnly }

// NodeName returns the node the pod runs on, or "".
func (e *Endpoint) NodeName() string { return cmp.Or(e.Topology, &noTopology).NodeName }

// Zone returns the topology.kubernetes.io/zone of the node, or "".
func (e *Endpoint) Zone() string { return cmp.Or(e.Topology, &noTopology).Zone }

// ZoneHints returns the zones whose clients are to use the endpoint.
func (e *Endpoint) ZoneHints() []string { return cmp.Or(e.Hints, &noHints).Zones }

// NodeHints returns the nodes whose clients are to use the endpoint.
func (e *Endpoint) NodeHints() []string { return cmp.Or(e.Hints, &noHints).Nodes }

// PortFor returns the endpoint's port number for a port of its Service.
func (e *Endpoint) PortFor(p Port) (uint16, bool) {
	for _, ep := range e.Ports() {
		if ep.Name == p.Name && ep.Protocol == p.Protocol {
			return ep.Port, true
		}
	}
	return 0, false
}
