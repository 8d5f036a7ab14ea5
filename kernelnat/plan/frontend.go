// Package plan says in plain data what the kernel must do for Services: which
// frontends go to which endpoints, and what happens where there are none.
//
// Compute makes the plan of one Service. A Table holds those of all Services of one
// IP family, and settles who has a frontend that several ask for. Both are pure: no
// I/O, no clock, no map order. The same input gives the same value, so backends may
// compare plans to find out whether anything changed. How a plan becomes rules is the
// business of the backends.
package plan

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
)

// Service is the plan for one Service in one IP family. One without a ClusterIP of the
// family has neither frontends nor pools.
type Service struct {
	Name cluster.ServiceName
	// Frontends are where packets to the Service go, each Key once, those of one Pool
	// together and in the order of the pools.
	Frontends []Frontend
	// Pools are one for each port of the Service, in its order.
	Pools []Pool
	// HealthCheckNodePort is a TCP port of this node at which load balancers are answered,
	// and which must not be filtered; 0 for none. In a Table no two Services have the same,
	// and none that is a NodePort of TCP.
	HealthCheckNodePort uint16
	// Excess says, in words, what the Service asks for beyond the bounds, or twice, and
	// does not get; "" for nothing.
	Excess string
}

// Key is what packets to a frontend have in common. In a Table no two frontends have
// the same.
type Key struct {
	// At is an address and port. A NodePort is at the unspecified address of its
	// family, which stands for this node's own.
	At       netip.AddrPort
	Protocol cluster.Protocol
}

// NodePortKey is that of a NodePort.
func NodePortKey(family cluster.Family, port uint16, protocol cluster.Protocol) Key {
	unspecified := netip.IPv6Unspecified()
	if family == cluster.IPv4 {
		unspecified = netip.IPv4Unspecified()
	}
	return Key{netip.AddrPortFrom(unspecified, port), protocol}
}

// String returns "203.0.113.7:80/TCP", or "NodePort 30080/TCP".
func (k Key) String() string {
	if k.At.Addr().IsUnspecified() {
		return fmt.Sprintf("NodePort %d/%s", k.At.Port(), k.Protocol)
	}
	return fmt.Sprintf("%s/%s", k.At, k.Protocol)
}

// Frontend is where clients connect to.
type Frontend struct {
	Key
	Kind    Kind
	Verdict Verdict // on new connections
	Pool    int     // where they go: the index in Service.Pools
	// Treatment is shared by the frontends of one kind; it is never nil.
	*Treatment
}

// Kind is what a frontend's address is of. The zero value is invalid.
type Kind uint8

const (
	ClusterIP Kind = iota + 1
	ExternalIP
	LoadBalancer
	NodePort
)

// Verdict is what happens to a new connection. The zero value is invalid.
type Verdict uint8

const (
	// Forward sends it to one of the endpoints, by the pool's policy and weights.
	Forward Verdict = iota + 1
	// Reject refuses it: the Service has no endpoints.
	Reject
	// Drop lets it time out: the policy is Local, and the endpoints are on
	// other nodes.
	Drop
)

// Treatment is what frontends of one kind have in common: which of the pool's endpoints
// are for which clients, and whose address these see.
type Treatment struct {
	// Local has connections go to Pool.Local, not to Pool.Endpoints
	// (internalTrafficPolicy, externalTrafficPolicy).
	Local bool
	// Masquerade says which clients get this node's address as their source, besides
	// an endpoint that reaches itself, which always does.
	Masquerade Masquerade
	// Inside are the cluster's pods, where clients outside it are Local. Pods go to
	// Pool.Endpoints, as if they had gone out and come in through a load balancer. So
	// do clients on this node itself, masqueraded.
	Inside Clients
	// Sources are the only clients; none: everybody is (loadBalancerSourceRanges).
	Sources []netip.Prefix
	// FromNode says that this node is in Sources. When it asks for an address that is
	// its own too, that is the packet's source.
	FromNode bool
}

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

// Change is one Service's plan as it was applied before and as it is to be. A
// plan without frontends stands for a Service that needs nothing of the kernel.
type Change struct {
	Old, New Service
}

// Of returns the frontends that lead to a pool.
func (s *Service) Of(pool int) []Frontend {
	first, _ := slices.BinarySearchFunc(s.Frontends, pool, func(f Frontend, pool int) int { return f.Pool - pool })
	after, _ := slices.BinarySearchFunc(s.Frontends, pool+1, func(f Frontend, pool int) int { return f.Pool - pool })
	return s.Frontends[first:after]
}

// Equal reports whether two plans say the same.
func (s Service) Equal(o Service) bool {
	return s.Name == o.Name && s.HealthCheckNodePort == o.HealthCheckNodePort && s.Excess == o.Excess &&
		slices.EqualFunc(s.Frontends, o.Frontends, Frontend.equal) && slices.EqualFunc(s.Pools, o.Pools, Pool.equal)
}

func (f Frontend) equal(o Frontend) bool {
	return f.Key == o.Key && f.Kind == o.Kind && f.Verdict == o.Verdict && f.Pool == o.Pool &&
		(f.Treatment == o.Treatment || f.Treatment.equal(o.Treatment))
}

func (t *Treatment) equal(o *Treatment) bool {
	return t.Local == o.Local && t.Masquerade == o.Masquerade && t.Inside == o.Inside &&
		t.FromNode == o.FromNode && slices.Equal(t.Sources, o.Sources)
}
