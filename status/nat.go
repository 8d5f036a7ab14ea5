package status

import (
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// NAT is how the NAT of one IP family stood at the end of a sync.
type NAT struct {
	Family cluster.Family
	// Updated is when the kernel last held all that was asked for, but for what is
	// Waiting; zero: never yet.
	Updated time.Time
	// Audited is when all that the kernel holds was last written or compared with the plans.
	Audited time.Time
	// Services and Ports are how many are asked for.
	Services, Ports int
	// Waiting are the Services that may not have the rules yet that are asked for.
	Waiting []Waiting
	// Short are the Services that do not get all that they ask for, sorted by name.
	Short []plan.Shortfall
	// Error is why the last sync failed, "" if it did not, and Failed when one last did.
	Error  string
	Failed time.Time
	// Repairs are how many chains and rules of ours others had changed since the start.
	// Repaired are some of the last, in words, and RepairedAt is when they were found.
	// RepairedBy is who had changed them, "" if that is not known.
	Repairs    int
	Repaired   []string
	RepairedAt time.Time
	RepairedBy string
	// Node is what plans took this node for, and Ranges are those of ClusterIPs in which what
	// is nobody's is refused. Neither may be written to.
	Node   plan.Node
	Ranges []plan.Range
}

// Waiting is a Service whose rules are on their way.
type Waiting struct {
	Service cluster.ServiceName
	// Why is what was wrong when it was last tried; "" if it is large and not done.
	Why string
	// Again is when it is tried again, if that is not now.
	Again time.Time
}
