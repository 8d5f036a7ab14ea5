package status

import (
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// Facts are what is known of a target. None of them may be written to.
type Facts struct {
	Target    Target
	Here      bool   // the target is an address of this machine, or a NodePort
	Namespace string // that short names are looked up from
	From      *Client
	Source    Source
	Names     []Name // that were looked up
	DNS       DNS
	// Service is the one that the target is of, nil for none, and All are those that there
	// are. Hints are what the source says of it.
	Service *cluster.Service
	Hints   []Hint
	// Faults are what keeps the source from reading objects.
	Faults     []Fault
	All        []*cluster.Service
	Namespaces []string
	// Families are NAT's of each family that the Service has a ClusterIP of; NoNAT says why
	// there are none here, "" if there are.
	Families []FamilyFacts
	NoNAT    string
	Flows    *Flows
}

// Hint is what a source says of a Service.
type Hint struct {
	Text string
	// Lacks, if not "", is why the Service has no endpoint that counts, and NoEndpoint mends that.
	Lacks, NoEndpoint string
}

// Fault is why a source cannot read something.
type Fault struct {
	Service cluster.ServiceName // the zero one if it is not known what it is about
	Text    string              // with its place
	Option  string              // of clusterip, if not a manifest but that is to be mended; else ""
}

// DNS is how names are answered.
type DNS struct {
	Zones       []string // the forward ones with the Services of this cluster
	Namespaces  []string // the only ones that have names; none: all have
	IgnoreEmpty bool     // a ClusterIP without usable endpoints has no names
	Serial      uint32   // of the zones
}

// FamilyFacts are those of NAT in one IP family.
type FamilyFacts struct {
	Family  cluster.Family
	Backend string
	NAT     NAT
	Plan    Planned
	Kernel  *Kernel // nil: it was not looked at, and WhyNot says why
	WhyNot  string
	// Empty says that no kernelnat runs here and that the kernel has none of our rules.
	Empty bool
	// DryRun says that nothing is written; Pending, that changes wait to be.
	DryRun, Pending bool
}

// Planned is what NAT is to do for a Service.
type Planned struct {
	Asked   plan.Service
	Granted plan.Service // Asked without Refused
	Refused []plan.Refusal
	Dropped []plan.Dropped
}

// Plan plans one Service beside all others, of which the NAT says who has refused it what.
func Plan(s *cluster.Service, family cluster.Family, options plan.Options, nat NAT) Planned {
	var out Planned
	out.Asked, out.Dropped = plan.Explain(s, family, nat.Node, options)
	if at, short := slices.BinarySearchFunc(nat.Short, s.Name, func(f plan.Shortfall, n cluster.ServiceName) int { return f.Service.Compare(n) }); short {
		out.Refused = nat.Short[at].Refused
	}
	out.Granted = out.Asked
	if len(out.Refused) > 0 {
		out.Granted.Frontends = slices.DeleteFunc(slices.Clone(out.Asked.Frontends), func(f plan.Frontend) bool { return out.refusal(f.Key) != nil })
	}
	return out
}

// refusal is that of a frontend, or nil.
func (p *Planned) refusal(key plan.Key) *plan.Refusal {
	at := slices.IndexFunc(p.Refused, func(r plan.Refusal) bool { return r.Key == key })
	if at < 0 {
		return nil
	}
	return &p.Refused[at]
}

// Kernel is what the kernel of this machine holds of one Service in one IP family.
type Kernel struct {
	// Frontends are those of the plan, in its order.
	Frontends []Held
	// Wrong is what all Services need and is not as it should be. Others are rules of others
	// that translate the same packets.
	Wrong, Others []string
	// ForwardingOff is the sysctl because of which this machine forwards nothing; "" if it does.
	// ForwardDrops are the chains that drop what is forwarded, unless one of their rules accepts it.
	ForwardingOff string
	ForwardDrops  []string
	// InputDrops are those that drop so what comes to this machine, where the first packets of connections
	// do, at addresses of Entry.
	InputDrops []string
	Entry      netip.Prefix
	// Unrouted are endpoints that no route leads to, with what the kernel says.
	Unrouted map[netip.Addr]string
	// Silent are endpoints at addresses of this machine where nobody listens.
	Silent []plan.Key
}

// Held is what the kernel holds of a frontend.
type Held struct {
	Meets []string // what a packet meets, in the backend's words
	Wrong []string // what is not as planned
	// Connections is how many new ones there were, and Endpoints to which; nil where nobody
	// counts.
	Connections *uint64
	Endpoints   map[netip.AddrPort]uint64
}
