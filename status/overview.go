package status

import (
	"fmt"
	"time"

	"github.com/clusterip/clusterip/cluster"
)

// Overview says how a process is: where its objects come from, how many there are, how NAT
// keeps up, and what it counts. In JSON, what is not known or does not apply is left out.
type Overview struct {
	Schema int       `json:"schema"`
	At     time.Time `json:"at"` // when it was made
	Blocks []Block   `json:"blocks"`
	Meters Meters    `json:"meters"`
}

// Block is a server block that answers for Services.
type Block struct {
	Source Source `json:"source"`
	// Condition is how it stands with the source, and Text says it in one sentence.
	Condition Condition `json:"condition"`
	Text      string    `json:"text"`
	// Heard is when an API server last said something about the kind of objects that it has
	// been silent about longest.
	Heard *time.Time `json:"heard,omitempty"`
	// Faults are some of those in the manifests; FaultsLeft is how many more there are.
	Faults     []string `json:"faults,omitempty"`
	FaultsLeft int      `json:"faultsLeft,omitempty"`
	Zones      []string `json:"zones"`
	Serial     uint32   `json:"serial"` // of the zones
	Services   int      `json:"services"`
	Endpoints  int      `json:"endpoints"` // one of several Services counts for each
	// Frontends is how many Services ask for, and Wrong with how many Services something is
	// wrong, as far as that is known without a look at the kernel.
	Frontends int           `json:"frontends"`
	Wrong     int           `json:"wrong"`
	NAT       []FamilyState `json:"nat,omitempty"` // of each IP family; none: there is no kernelnat
}

// FamilyState is how NAT of one IP family keeps up.
type FamilyState struct {
	Family    string    `json:"family"` // "IPv4" or "IPv6"
	Backend   string    `json:"backend,omitempty"`
	Node      string    `json:"node,omitempty"`
	DryRun    bool      `json:"dryRun,omitempty"` // nothing is written: times and numbers are of what would be
	Condition Condition `json:"condition"`
	Text      string    `json:"text"`
	Services  int       `json:"services"` // that have rules
	Ports     int       `json:"ports"`
	// Updated is when the kernel last held all that was asked for, Audited when all that it
	// holds was last written or looked at, and Failed when a write last failed.
	Updated *time.Time `json:"updated,omitempty"`
	Audited *time.Time `json:"audited,omitempty"`
	Failed  *time.Time `json:"failed,omitempty"`
	// Refused are some frontends that Services ask for and do not get; RefusedLeft is how
	// many more there are.
	Refused     []RefusedFrontend `json:"refused,omitempty"`
	RefusedLeft int               `json:"refusedLeft,omitempty"`
	// Repairs are how many chains and rules of ours others had changed since the start.
	Repairs    int     `json:"repairs"`
	LastRepair *Repair `json:"lastRepair,omitempty"`
}

// RefusedFrontend is one that a Service asks for and does not get.
type RefusedFrontend struct {
	Service string `json:"service"`
	At      string `json:"at,omitempty"` // "": it is beyond the bounds of a Service
	Why     string `json:"why"`
}

// Told is what a source says of itself.
type Told struct {
	Heard  time.Time // see Block; zero: there is nobody to hear of
	Faults []string  // in manifests, sorted
}

// BlockFacts are what is known of a server block.
type BlockFacts struct {
	Source           Source
	Told             Told
	DNS              DNS
	Counts           cluster.Counts
	Frontends, Wrong int
	Families         []FamilyFacts // without a plan
}

// maxListed bounds lists in an Overview.
const maxListed = 20

// NewBlock judges what is known of a server block.
func NewBlock(f BlockFacts) Block {
	b := Block{
		Source: f.Source, Zones: f.DNS.Zones, Serial: f.DNS.Serial, Services: f.Counts.Services, Endpoints: f.Counts.Endpoints,
		Frontends: f.Frontends, Wrong: f.Wrong, Faults: f.Told.Faults, Heard: moment(f.Told.Heard),
	}
	b.FaultsLeft = max(0, len(b.Faults)-maxListed)
	b.Faults = b.Faults[:len(b.Faults)-b.FaultsLeft]
	switch {
	case !f.Source.Synced:
		b.Condition, b.Text = Wrong, fmt.Sprintf("%s has not been read yet, so nothing is answered", f.Source.Place)
	case f.Source.OutOfTouch:
		b.Condition, b.Text = Wrong, fmt.Sprintf("%s is out of reach, so this is what was last known", f.Source.Place)
	case len(f.Told.Faults) > 0:
		b.Condition, b.Text = Wrong, fmt.Sprintf("%s has %s", f.Source.Place, plural(len(f.Told.Faults), "fault", "faults"))
	default:
		b.Condition, b.Text = OK, fmt.Sprintf("%s is read, and followed", f.Source.Place)
	}
	for i := range f.Families {
		b.NAT = append(b.NAT, newFamilyState(&f.Families[i]))
	}
	return b
}

func newFamilyState(f *FamilyFacts) FamilyState {
	n := &f.NAT
	out := FamilyState{
		Family: f.Family.String(), Backend: f.Backend, Node: n.Node.Name, DryRun: f.DryRun, Services: n.Services, Ports: n.Ports,
		Updated: moment(n.Updated), Audited: moment(n.Audited), Failed: moment(n.Failed), Repairs: n.Repairs,
	}
	if len(n.Repaired) > 0 {
		out.LastRepair = &Repair{At: n.RepairedAt, By: n.RepairedBy, What: n.Repaired}
	}
	out.Condition, out.Text = f.condition()
	for _, s := range n.Short {
		for _, r := range s.Refused {
			out.refuse(RefusedFrontend{Service: s.Service.String(), At: r.Key.String(), Why: r.String()})
		}
		if s.Excess != "" {
			out.refuse(RefusedFrontend{Service: s.Service.String(), Why: s.Excess})
		}
	}
	return out
}

func (s *FamilyState) refuse(r RefusedFrontend) {
	if len(s.Refused) == maxListed {
		s.RefusedLeft++
		return
	}
	s.Refused = append(s.Refused, r)
}

// condition says whether the kernel has been given what is planned. That somebody else has
// changed it since is found by an audit.
func (f *FamilyFacts) condition() (Condition, string) {
	failing, growing := 0, 0
	for _, w := range f.NAT.Waiting {
		if w.Why == "" {
			growing++
		} else {
			failing++
		}
	}
	switch {
	case f.DryRun:
		return Notice, "dry_run is set, so nothing is written to the kernel"
	case f.NAT.Error != "":
		return Wrong, "the last write to the kernel failed: " + f.NAT.Error
	case f.NAT.Updated.IsZero():
		return Notice, "nothing has been written yet"
	case failing > 0:
		return Wrong, fmt.Sprintf("the rules of %s could not be written, and are tried again", plural(failing, "Service", "Services"))
	case growing > 0:
		return Notice, fmt.Sprintf("the rules of %s are being written", plural(growing, "large Service", "large Services"))
	case f.Pending:
		return Notice, "changes are being written"
	}
	return OK, "the kernel was given all that is planned"
}

// moment is nil for the zero time.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
