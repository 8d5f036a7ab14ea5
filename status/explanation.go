// Package status says what the process believes and what the kernel holds, in immutable
// values: each part publishes its own when it has done something (NAT), and whoever reads
// them asks no running loop.
//
// Explain joins them for one target, a name, an address or a Service, into an Explanation.
// It is pure: names that were looked up, plans and what was read of the kernel are given to
// it in Facts. `coredns explain`, its JSON and pages render the Explanation, and none of
// them works out anything of its own. Start with Explanation, then Explain; package explain
// gathers the Facts, and status/text writes an Explanation for people.
package status

import (
	"net/netip"
	"time"
)

// Schema is the version of an Explanation's JSON form. It changes when a field goes or comes
// to mean something else, and not when one is added.
const Schema = 1

// Explanation says whether a target works, and why not. In JSON, what is not known or does
// not apply is left out.
type Explanation struct {
	Schema    int     `json:"schema"`
	Target    string  `json:"target"`
	Namespace string  `json:"namespace,omitempty"` // that short names are looked up from
	From      *Client `json:"from,omitempty"`
	Source    Source  `json:"source"`
	// Works is false if any of the Steps is Wrong. Verdict says it in one sentence.
	Works   bool   `json:"works"`
	Verdict string `json:"verdict"`
	// Steps are in the order in which a connection takes them, so the first that is Wrong is
	// to be mended first.
	Steps []Step `json:"steps"`
	// Near are the targets that may have been meant, the most likely first.
	Near    []string `json:"near,omitempty"`
	Names   []Name   `json:"names,omitempty"`
	Service *Service `json:"service,omitempty"` // nil: there is none
	NAT     []Family `json:"nat,omitempty"`     // of each IP family that the Service has a ClusterIP of
	Flows   *Flows   `json:"flows,omitempty"`   // nil: they were not looked at
}

// Client is whose connection the explanation is about.
type Client struct {
	Pod     string     `json:"pod,omitempty"` // namespace/name
	Address netip.Addr `json:"address"`
}

// Source is where the objects come from.
type Source struct {
	// Kind is "manifests" or "apiserver", and Place the folder, or which API server.
	Kind  string `json:"kind"`
	Place string `json:"place"`
	// Process is the number of the process that has answered; 0: none runs, or it was not
	// asked, and Live is false.
	Process int  `json:"process,omitempty"`
	Live    bool `json:"live"`
	// Synced says that all was listed once; OutOfTouch, that changes since may be missing.
	Synced     bool `json:"synced"`
	OutOfTouch bool `json:"outOfTouch,omitempty"`
}

// FromManifests is the Kind of Source that is a folder.
const FromManifests = "manifests"

// Condition is how it stands with a step.
type Condition string

// The conditions.
const (
	OK      Condition = "ok"
	Notice  Condition = "notice"  // worth knowing, and no fault
	Unknown Condition = "unknown" // it was not looked at, and the text says why
	Wrong   Condition = "wrong"
)

// Step is one of those that a connection takes.
type Step struct {
	// Name is "name", "service", "endpoints", "frontend", "nat" or "kernel".
	Name      string    `json:"step"`
	Condition Condition `json:"condition"`
	Text      string    `json:"text"`
	// Mend is the command or edit that mends what is Wrong.
	Mend string `json:"mend,omitempty"`
}

// Outcome is what a lookup of a name found.
type Outcome string

// The outcomes.
const (
	Found     Outcome = "records"
	NoData    Outcome = "nodata"    // the name exists, or one below it does, without such records
	NXDomain  Outcome = "nxdomain"  // it does not exist
	Elsewhere Outcome = "elsewhere" // it is in none of the zones here, so another server answers
)

// Name is one that was looked up.
type Name struct {
	Name    string   `json:"name"` // fully qualified
	Outcome Outcome  `json:"outcome"`
	Why     string   `json:"why"` // it was looked up, and what was found
	Records []Record `json:"records,omitempty"`
	// Left is how many more records there are.
	Left int `json:"left,omitempty"`
	// Answers says that it is the one whose records a client gets.
	Answers bool `json:"answers,omitempty"`
}

// Record is one of DNS.
type Record struct {
	Type string `json:"type"`
	TTL  uint32 `json:"ttl"` // in seconds
	Data string `json:"data"`
	Why  string `json:"why,omitempty"`
}

// Service is a Service with its endpoints.
type Service struct {
	Name         string       `json:"name"` // namespace/name
	Kind         string       `json:"kind"` // "ClusterIP", "headless" or "ExternalName"
	ClusterIPs   []netip.Addr `json:"clusterIPs,omitempty"`
	ExternalName string       `json:"externalName,omitempty"`
	Ports        []string     `json:"ports,omitempty"` // such as "http 80/TCP"
	// Endpoints are there once for each port of a Service with ClusterIPs. Left is how many
	// more there are, beyond MaxEndpoints.
	Endpoints []Endpoint `json:"endpoints,omitempty"`
	Left      int        `json:"left,omitempty"`
	// Hints are what the source says of the Service.
	Hints []string `json:"hints,omitempty"`
}

// MaxEndpoints bounds those of an Explanation.
const MaxEndpoints = 1000

// Endpoint is one of a port.
type Endpoint struct {
	Address string `json:"address"`        // with the port, if it has that
	Port    string `json:"port,omitempty"` // of the Service
	Pod     string `json:"pod,omitempty"`  // or its hostname, where names of pods are not kept
	Node    string `json:"node,omitempty"`
	Zone    string `json:"zone,omitempty"`
	State   string `json:"state"` // "ready", "not ready", "terminating, still serving" or "terminating"
	// Counts says that new connections go there under the policy Cluster, or names lead there.
	Counts bool `json:"counts"`
	// Reason is why it does not, a word of reasonWords.
	Reason string `json:"reason,omitempty"`
	// Share is that of new connections to frontends under the policy Cluster, and LocalShare
	// under Local; 0 to 1.
	Share      *float64 `json:"share,omitempty"`
	LocalShare *float64 `json:"localShare,omitempty"`
	// Connections is how many new ones this node has sent there, where that is counted.
	Connections *uint64 `json:"connections,omitempty"`
}

// Family is NAT of the Service in one IP family.
type Family struct {
	Family    string     `json:"family"` // "IPv4" or "IPv6"
	Backend   string     `json:"backend,omitempty"`
	DryRun    bool       `json:"dryRun,omitempty"` // nothing is written to the kernel
	Node      string     `json:"node,omitempty"`   // that the plan is for
	Frontends []Frontend `json:"frontends"`
	// Excess is what the Service asks for beyond the bounds, in words.
	Excess string `json:"excess,omitempty"`
	// Kernel is what the kernel of this machine holds, "" in Looked if it was not looked at.
	Looked bool   `json:"looked"`
	WhyNot string `json:"whyNot,omitempty"`
	// Wrong is what all Services need and is not as it should be; Others are rules of others
	// that translate the same packets.
	Wrong  []string `json:"wrong,omitempty"`
	Others []string `json:"others,omitempty"`
	// Updated is when the kernel last held all that was asked for; Error is why the last write
	// failed; Waiting, why the Service waits. LastRepair is about rules of all Services.
	Updated    *time.Time `json:"updated,omitempty"`
	Error      string     `json:"error,omitempty"`
	Waiting    string     `json:"waiting,omitempty"`
	LastRepair *Repair    `json:"lastRepair,omitempty"`
}

// Repair is the last time when others had changed our rules.
type Repair struct {
	At   time.Time `json:"at"`
	By   string    `json:"by,omitempty"`
	What []string  `json:"what"`
}

// Frontend is where clients connect to.
type Frontend struct {
	At   string `json:"at"`   // such as "10.43.0.7:80/TCP" or "NodePort 30080/TCP"
	Kind string `json:"kind"` // "cluster IP", "external IP", "load balancer" or "NodePort"
	Port string `json:"port,omitempty"`
	// Verdict is "forward", "reject", "drop" or, of one that the Service does not get,
	// "refused", and Why says by whom.
	Verdict string `json:"verdict"`
	Why     string `json:"why,omitempty"`
	// Endpoints is how many new connections go to, and Local that they are on this node.
	Endpoints int  `json:"endpoints"`
	Local     bool `json:"local,omitempty"`
	// Client is what becomes of a connection of the Client.
	Client string `json:"client,omitempty"`
	// Meets is what a packet meets in the kernel, in the backend's words, and Wrong what of
	// that is not as planned. Both are empty if the kernel was not looked at.
	Meets []string `json:"meets,omitempty"`
	Wrong []string `json:"wrong,omitempty"`
	// Connections is how many new ones there were on this node, where that is counted.
	Connections *uint64 `json:"connections,omitempty"`
}

// Flows are the connections to the Service that the kernel tracks.
type Flows struct {
	Total int    `json:"total"`
	Some  []Flow `json:"some,omitempty"` // at most MaxFlows, of those that have not ended
	// Ended is how many of Total both sides have ended, as far as the kernel tells.
	Ended int `json:"ended,omitempty"`
	// WhyNot is why they could not be listed.
	WhyNot string `json:"whyNot,omitempty"`
}

// MaxFlows bounds those of an Explanation.
const MaxFlows = 20

// Flow is a connection.
type Flow struct {
	Protocol string         `json:"protocol"`
	Client   netip.AddrPort `json:"client"`
	To       netip.AddrPort `json:"to"`
	Endpoint netip.AddrPort `json:"endpoint"` // whose answers the client gets
	// Stale says that the endpoint is none of the Service's any more.
	Stale bool `json:"stale,omitempty"`
}
