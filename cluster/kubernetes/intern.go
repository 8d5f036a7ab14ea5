package kubernetes

import "github.com/clusterip/clusterip/cluster"

// maxInterned is more than the nodes, zones and port names of any cluster.
const maxInterned = 1 << 16

// interner makes equal strings share their memory: every endpoint comes with its
// own copy of the names of its node, zone and cluster.
type interner map[string]string

func (n interner) intern(s *string) {
	if *s == "" {
		return
	}
	if known, ok := n[*s]; ok {
		*s = known
		return
	}
	if len(n) >= maxInterned {
		clear(n)
	}
	n[*s] = *s
}

func (n interner) internEndpoint(e *cluster.Endpoint) {
	n.intern(&e.NodeName)
	n.intern(&e.Zone)
	n.intern(&e.Cluster)
	for _, hints := range [][]string{e.ZoneHints(), e.NodeHints()} {
		for i := range hints {
			n.intern(&hints[i])
		}
	}
}
