// Package plan says in plain data what the kernel must do for a Service: which
// frontends go to which endpoints, and what happens when there are none.
//
// Compute is pure: no I/O, no clock, no map order. The same input gives the same
// value, so backends may compare plans to find out whether anything changed.
// How a plan becomes rules is the business of the backends.
package plan

import (
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
)

// Service is the plan for one Service in one IP family. A Service without a
// ClusterIP of the family has a plan without ports.
type Service struct {
	Name  cluster.ServiceName
	Ports []Port // in the Service's order
	// HealthCheckNodePort is a TCP port of this node that must not be filtered;
	// 0 for none.
	HealthCheckNodePort uint16
	// Excess says, in words, what the Service asks for and does not get since it is
	// more than one Service may have; "" for nothing.
	Excess string
}

// Port is the plan for one port of a Service.
type Port struct {
	// Name is the port's name, "" if it has none.
	Name     string
	Protocol cluster.Protocol
	// Frontend is where clients in the cluster connect to: the ClusterIP and
	// the port.
	Frontend netip.AddrPort
	Verdict  Verdict // on connections to Frontend
	// Local has connections to Frontend go to LocalEndpoints, not to Endpoints
	// (internalTrafficPolicy).
	Local bool
	// Masquerade says which clients of Frontend get this node's address as
	// their source, besides an endpoint that reaches itself, which always does.
	Masquerade Masquerade
	// External are the other frontends.
	External External
	// AffinitySeconds is how long a client that connects again gets the same
	// endpoint; 0: it does not.
	AffinitySeconds uint32
	// Endpoints get new connections under the policy Cluster. Empty where
	// nothing uses them. Sorted, as are those below.
	Endpoints []netip.AddrPort
	// LocalEndpoints are on this node and get those under the policy Local.
	LocalEndpoints []netip.AddrPort
	// Draining endpoints are all others that serve: they get no new
	// connections and keep those they have.
	Draining []netip.AddrPort
	// Terminating are those of Draining that are about to go.
	Terminating []netip.AddrPort
}

// External are the frontends that clients outside the cluster use. The zero
// value: there are none.
type External struct {
	// NodePort is the port on this node's own addresses, or 0.
	NodePort uint16
	// IPs and LoadBalancers are addresses with the port of Frontend.
	IPs, LoadBalancers []netip.Addr
	// SourceRanges are the only clients of LoadBalancers; none: everybody is.
	SourceRanges []netip.Prefix
	// FromNode says that this node is in SourceRanges. When it asks for a
	// LoadBalancer that is its own address too, that is the packet's source.
	FromNode bool
	Verdict  Verdict // on connections to any of them
	// Local has them go to LocalEndpoints, and keeps the client's address, but
	// for clients on this node: those in Pods and the node itself go to
	// Endpoints, as if they had gone out and come in through a load balancer.
	// Otherwise all go to Endpoints, masqueraded.
	Local bool
	Pods  Clients // this node's pods, or all of the cluster's; nobody if not known
}

// Any reports whether there is any frontend.
func (e *External) Any() bool {
	return e.NodePort != 0 || len(e.IPs) > 0 || len(e.LoadBalancers) > 0
}

// Change is one Service's plan as it was applied before and as it is to be. A
// plan without ports stands for a Service that needs nothing of the kernel.
type Change struct {
	Old, New Service
}

// Equal reports whether two plans say the same.
func (s Service) Equal(o Service) bool {
	return s.Name == o.Name && s.HealthCheckNodePort == o.HealthCheckNodePort && s.Excess == o.Excess &&
		slices.EqualFunc(s.Ports, o.Ports, Port.equal)
}

func (p Port) equal(o Port) bool {
	return p.Name == o.Name && p.Protocol == o.Protocol && p.Frontend == o.Frontend &&
		p.Verdict == o.Verdict && p.Local == o.Local && p.Masquerade == o.Masquerade &&
		p.External.equal(&o.External) && p.AffinitySeconds == o.AffinitySeconds &&
		slices.Equal(p.Endpoints, o.Endpoints) && slices.Equal(p.LocalEndpoints, o.LocalEndpoints) &&
		slices.Equal(p.Draining, o.Draining) && slices.Equal(p.Terminating, o.Terminating)
}

func (e *External) equal(o *External) bool {
	return e.NodePort == o.NodePort && slices.Equal(e.IPs, o.IPs) && slices.Equal(e.LoadBalancers, o.LoadBalancers) &&
		slices.Equal(e.SourceRanges, o.SourceRanges) && e.FromNode == o.FromNode &&
		e.Verdict == o.Verdict && e.Local == o.Local && e.Pods == o.Pods
}

// Verdict is what happens to a new connection. The zero value is invalid.
type Verdict uint8

const (
	// Forward sends it to one of the endpoints, each with the same chance.
	Forward Verdict = iota + 1
	// Reject refuses it: the Service has no endpoints.
	Reject
	// Drop lets it time out: the policy is Local, and the endpoints are on
	// other nodes.
	Drop
)

// Masquerade says whose source address is replaced. The zero value: nobody's.
type Masquerade struct {
	All     bool    // everybody's
	Outside Clients // that of everybody but these, if it is known who they are
}

// Clients are told by their address or by where their packets come in. The zero
// value: it is not known who they are.
type Clients struct {
	Range netip.Prefix
	// Interface is the name of a network interface or, with "+" at its end, of
	// all whose names begin so.
	Interface string
}

// Known reports whether it is known who they are.
func (c Clients) Known() bool { return c.Range.IsValid() || c.Interface != "" }
