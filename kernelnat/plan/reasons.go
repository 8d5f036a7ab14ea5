package plan

import "github.com/clusterip/clusterip/cluster"

// Reason says why an endpoint gets no new connections. The zero value is invalid.
type Reason uint8

// The reasons, in the order in which endpoints are looked at.
const (
	// OtherFamily: its address is of the other IP family.
	OtherFamily Reason = iota + 1
	// NamesOnly: its EndpointSlice is for names alone.
	NamesOnly
	// BeyondBounds: a Service may not have as many.
	BeyondBounds
	// NoSuchPort: its EndpointSlice has no port of that name and protocol.
	NoSuchPort
	// OtherNode: it is not on this node, or meant for clients on another.
	OtherNode
	// OtherZone: it is meant for clients in another zone.
	OtherZone
	// NotReady: its pod is not ready.
	NotReady
	// Leaving: its pod terminates.
	Leaving
	// Weightless: it has the weight 0, and others have more.
	Weightless
)

// String says it in words: "not ready".
func (r Reason) String() string {
	return [...]string{
		OtherFamily: "of the other IP family", NamesOnly: "for names alone", BeyondBounds: "more than a Service may have",
		NoSuchPort: "without that port", OtherNode: "for another node", OtherZone: "for another zone",
		NotReady: "not ready", Leaving: "terminating", Weightless: "of weight 0",
	}[r]
}

// Dropped is an endpoint that a step has left out.
type Dropped struct {
	Pool     int  // -1: of all pools
	Local    bool // under the policy Local alone; otherwise under Cluster or, before it is asked, both
	Endpoint cluster.Endpoint
	Why      Reason
}

// maxDropped is how many Explain tells of. Beyond that, each step tells of the first alwaysTold of
// a pool: a Service with a thousand ports and endpoints drops millions, which take more memory
// than all names.
const (
	maxDropped = 50_000
	alwaysTold = 3
)

// Explain is Compute that also says which endpoints get no new connections, and why: of a Service
// that drops very many, of some.
func Explain(service *cluster.Service, family cluster.Family, node Node, options Options) (Service, []Dropped) {
	var all []Dropped
	return compute(service, &choice{family: family, node: node, dropped: &all}, options), all
}
