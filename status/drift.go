package status

import "github.com/clusterip/clusterip/cluster"

// Drift is one thing that the kernel holds otherwise than a start of NAT would leave it: a rule,
// an element, a chain, a table.
type Drift struct {
	Change DriftChange `json:"change"`
	// Service is whose it is, as NAMESPACE/NAME; "" is what all need, or nobody's.
	Service string `json:"service,omitempty"`
	// Text says what it is in the words of nft or iptables, as it would be. Was is what it is
	// today, if it would be another.
	Text string `json:"text"`
	Was  string `json:"was,omitempty"`
	// Of says whose it is that would go, if it is none of ours or may not be.
	Of string `json:"of,omitempty"`
}

// DriftChange is what a start would do.
type DriftChange string

// What a start would do with a thing.
const (
	DriftAdd     DriftChange = "add"
	DriftRemove  DriftChange = "remove"
	DriftChanged DriftChange = "change"
)

// DriftOwner is the Service of a Drift.
func DriftOwner(n cluster.ServiceName) string {
	if n == (cluster.ServiceName{}) {
		return ""
	}
	return n.String()
}
