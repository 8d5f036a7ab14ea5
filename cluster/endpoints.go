package cluster

import (
	"cmp"
	"slices"
)

// New merges a Service with the endpoints of its slices. It takes ownership of
// service and never keeps the slices. Endpoints come out sorted by address; where
// slices repeat an endpoint (same address, ports and names, in one cluster: it is
// moving from one slice to another) the one in the better condition counts. One
// address can be there with several names, which are several endpoints.
func New(service Service, endpointSlices ...[]Endpoint) *Service {
	all := slices.Concat(endpointSlices...)
	slices.SortFunc(all, compareEndpoints)
	service.Endpoints = slices.Clip(slices.CompactFunc(all, sameEndpoint))
	return &service
}

func sameEndpoint(a, b Endpoint) bool {
	return a.Addr == b.Addr && a.Hostname == b.Hostname && a.PodName == b.PodName && compareSlices(&a, &b) == 0
}

// compareEndpoints sorts by address, ports and names, and for one endpoint puts the
// better condition first, then the one that says more. The rest makes the order
// total, so that the result does not depend on the order of the slices.
func compareEndpoints(a, b Endpoint) int {
	if c := a.Addr.Compare(b.Addr); c != 0 {
		return c // as nearly always
	}
	return cmp.Or(
		compareSlices(&a, &b),
		cmp.Compare(b.Hostname, a.Hostname),
		cmp.Compare(b.PodName, a.PodName),
		CompareBool(b.Ready, a.Ready),
		CompareBool(b.Serving, a.Serving),
		CompareBool(a.Terminating, b.Terminating),
		cmp.Compare(b.sliceWeight(), a.sliceWeight()),
		cmp.Compare(b.NodeName(), a.NodeName()),
		cmp.Compare(b.Zone(), a.Zone()),
		slices.Compare(b.ZoneHints(), a.ZoneHints()),
		slices.Compare(b.NodeHints(), a.NodeHints()),
	)
}

func compareSlices(a, b *Endpoint) int {
	if a.Slice == b.Slice {
		return 0
	}
	return cmp.Or(
		cmp.Compare(a.Cluster(), b.Cluster()),
		slices.CompareFunc(a.Ports(), b.Ports(), EndpointPort.Compare),
		CompareBool(a.NamesOnly(), b.NamesOnly()),
	)
}

// Compare orders ports by number, then by protocol, then by name.
func (p EndpointPort) Compare(o EndpointPort) int {
	return cmp.Or(cmp.Compare(p.Port, o.Port), cmp.Compare(p.Protocol, o.Protocol), cmp.Compare(p.Name, o.Name))
}

// Usable returns the endpoints that count, in the same order: those that are
// ready, or, when none is, those that still serve while they terminate
// (KEP-1669). DNS and NAT both ask here, so that a name never disappears while
// the ClusterIP still forwards. Callers narrow the list (to a port, a family, a
// node) first: the fallback is taken per list. The result may share memory with
// the argument; neither may be written to.
func Usable(endpoints []Endpoint) []Endpoint {
	keep := Counting(endpoints)
	kept := 0
	for i := range endpoints {
		if keep(&endpoints[i]) {
			kept++
		}
	}
	if kept == len(endpoints) { // as mostly: every endpoint is ready
		return endpoints
	}
	out := make([]Endpoint, 0, kept)
	for i := range endpoints {
		if keep(&endpoints[i]) {
			out = append(out, endpoints[i])
		}
	}
	return out
}

// Counting returns what Usable decides by, for one of these endpoints.
func Counting(endpoints []Endpoint) func(*Endpoint) bool {
	if slices.ContainsFunc(endpoints, func(e Endpoint) bool { return e.Ready }) {
		return func(e *Endpoint) bool { return e.Ready }
	}
	return func(e *Endpoint) bool { return e.Serving && e.Terminating }
}

// CompareBool is cmp.Compare for booleans: false is before true.
func CompareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
