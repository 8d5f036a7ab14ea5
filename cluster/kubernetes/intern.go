package kubernetes

import (
	"strings"

	"github.com/clusterip/clusterip/cluster"
)

// maxInterned is more than the nodes, or the namespaces, of nearly any cluster. Beyond
// it less is shared.
const maxInterned = 1 << 14

// interner has equal values share their memory: every object comes with copies of
// its own. To compare them is then mostly to compare pointers. The key says which are
// equal.
type interner[K comparable, V any] map[K]V

// intern returns the first value that came with the key.
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

// endpointInterner is for what endpoints of several EndpointSlices have in common:
// a node, and mostly ports and hints too.
type endpointInterner struct {
	topologies interner[cluster.Topology, *cluster.Topology]
	slices     interner[string, *cluster.EndpointSlice]
	hints      interner[string, *cluster.Hints]
}

func newEndpointInterner() endpointInterner {
	return endpointInterner{
		topologies: make(interner[cluster.Topology, *cluster.Topology]),
		slices:     make(interner[string, *cluster.EndpointSlice]),
		hints:      make(interner[string, *cluster.Hints]),
	}
}

// intern changes the endpoints of one EndpointSlice.
func (n endpointInterner) intern(endpoints []cluster.Endpoint) {
	var slice *cluster.EndpointSlice
	for i := range endpoints {
		e := &endpoints[i]
		if slice == nil {
			slice = n.slices.intern(sliceKey(e.Slice), e.Slice)
		}
		e.Slice = slice
		if e.Topology != nil {
			e.Topology = n.topologies.intern(*e.Topology, e.Topology)
		}
		if e.Hints != nil {
			e.Hints = n.hints.intern(hintsKey(e.Hints), e.Hints)
		}
	}
}

// sliceKey returns the same text for equal values, and for those alone: the API server
// takes no NUL in names.
func sliceKey(s *cluster.EndpointSlice) string {
	key := []byte("forwarded")
	if s.NamesOnly {
		key = []byte("names only")
	}
	if s.Weight != nil {
		key = append(key, 1, byte(*s.Weight>>8), byte(*s.Weight))
	}
	for _, p := range s.Ports {
		key = append(append(key, p.Name...), 0, byte(p.Protocol), byte(p.Port>>8), byte(p.Port))
	}
	return string(append(append(key, 0), s.Cluster...))
}

// hintsKey is sliceKey for hints.
func hintsKey(h *cluster.Hints) string {
	return strings.Join(h.Zones, "\x00") + "\x00\x00" + strings.Join(h.Nodes, "\x00")
}
