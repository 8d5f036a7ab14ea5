package status

import "net/netip"

// List is a page of the Services of a process, sorted by name.
type List struct {
	Schema int `json:"schema"`
	// Total is how many Services there are, Wrong with how many something is wrong, as far as
	// that is known without a look at the kernel, and Matching how many were asked for.
	Total    int   `json:"total"`
	Wrong    int   `json:"wrong"`
	Matching int   `json:"matching"`
	Page     int   `json:"page"` // from 1
	Pages    int   `json:"pages"`
	Rows     []Row `json:"rows"`
}

// Row is a Service in a List. It has less than an Explanation, and lists are cut: Left is how many
// more there are.
type Row struct {
	Name          string       `json:"name"` // namespace/name
	Kind          string       `json:"kind"`
	ClusterIPs    []netip.Addr `json:"clusterIPs,omitempty"`
	ExternalName  string       `json:"externalName,omitempty"`
	Names         []string     `json:"names,omitempty"` // in DNS
	Frontends     []Frontend   `json:"frontends,omitempty"`
	FrontendsLeft int          `json:"frontendsLeft,omitempty"`
	Endpoints     []Endpoint   `json:"endpoints,omitempty"`
	EndpointsLeft int          `json:"endpointsLeft,omitempty"`
	// Counting is how many of the endpoints count that an Explanation has.
	Counting int    `json:"counting"`
	Works    bool   `json:"works"`
	Verdict  string `json:"verdict"`
}

// What a Row shows of its lists.
const (
	rowFrontends = 4
	rowEndpoints = 4
)

// NewRow makes a Row of what was explained of a Service.
func NewRow(e *Explanation) Row {
	s := e.Service
	r := Row{Name: s.Name, Kind: s.Kind, ClusterIPs: s.ClusterIPs, ExternalName: s.ExternalName, Works: e.Works, Verdict: e.Verdict}
	for i := range e.Names {
		if n := &e.Names[i]; n.Outcome == Found {
			r.Names = append(r.Names, n.Name)
		}
	}
	for i := range e.NAT {
		r.Frontends = append(r.Frontends, e.NAT[i].Frontends...)
	}
	for i := range s.Endpoints {
		if s.Endpoints[i].Counts {
			r.Counting++
		}
	}
	r.FrontendsLeft = max(0, len(r.Frontends)-rowFrontends)
	r.Frontends = r.Frontends[:len(r.Frontends)-r.FrontendsLeft]
	shown := min(len(s.Endpoints), rowEndpoints)
	r.Endpoints, r.EndpointsLeft = s.Endpoints[:shown], s.Left+len(s.Endpoints)-shown
	return r
}

// Works reports what Explain would, and makes no Explanation.
func Works(f Facts) bool {
	j := joiner{Facts: f}
	j.judge()
	return j.out.Works
}
