package kubernetes

import (
	"fmt"

	"github.com/clusterip/clusterip/cluster"
)

// maxInterned is more than the nodes or the namespaces of any cluster.
const maxInterned = 1 << 16

// interner has equal values share their memory: every object comes with its own
// copies. The key says which are equal.
type interner[K comparable, V any] map[K]V

// intern returns the first of the equal values, and for its key no more is kept than
// that value.
func (n interner[K, V]) intern(key K, value V) V {
	if known, ok := n[key]; ok {
		return known
	}
	if len(n) >= maxInterned {
		clear(n)
	}
	n[key] = value
	return value
}

// endpointInterner is for what endpoints of several slices have in common.
type endpointInterner struct {
	topologies interner[cluster.Topology, *cluster.Topology]
	hints      interner[string, *cluster.Hints]
}

func newEndpointInterner() endpointInterner {
	return endpointInterner{
		topologies: make(interner[cluster.Topology, *cluster.Topology]),
		hints:      make(interner[string, *cluster.Hints]),
	}
}

func (n endpointInterner) intern(e *cluster.Endpoint) {
	if e.Topology != nil {
		e.Topology = n.topologies.intern(*e.Topology, e.Topology)
	}
	if e.Hints != nil {
		e.Hints = n.hints.intern(fmt.Sprintf("%q", *e.Hints), e.Hints)
	}
}

