// Package explain gathers what is known of a target, and has package status join it. It asks
// the parts of one server block: the Store, who answers names and who programs NAT. These
// are the parts of a process that runs, which the directives leave in the server's storage
// (PartsOf), or parts that a subcommand makes of a Corefile.
//
// Nothing is asked of a running loop, and no lock is taken that a query waits for. What is
// read of the kernel is what one Service has.
package explain

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/hostaddrs"
	"github.com/clusterip/clusterip/status"
	"github.com/prometheus/client_golang/prometheus"
)

// Names answers for names.
type Names interface {
	DNS() status.DNS
	// Look returns what is at a name, fully qualified and in lower case.
	Look(name string) status.Name
}

// NAT knows what is planned for Services, and reads what the kernel holds.
type NAT interface {
	// Facts returns what is known of a Service in one IP family. Of nil it is what all have
	// in common.
	Facts(ctx context.Context, s *cluster.Service, family cluster.Family) status.FamilyFacts
	// Plan plans a Service as Facts does, beside what all have in common in its IP family. It
	// does not look at the kernel. whyNot says why there is no plan, "" if there is one.
	Plan(s *cluster.Service, common *status.FamilyFacts) (p status.Planned, whyNot string)
	// Flows lists the connections to a Service that the kernel tracks; nil: it was not asked.
	Flows(families []status.FamilyFacts) *status.Flows
}

// Parts are those of one server block.
type Parts struct {
	Store  *cluster.Store
	Names  Names
	Source func() status.Source
	NAT    NAT // nil: there is no kernelnat
	// Hints, if not nil, returns what the source says of a Service.
	Hints func(cluster.ServiceName) []status.Hint
	// Faults, if not nil, returns what the source cannot read.
	Faults func() []status.Fault
	// Told, if not nil, returns what the source says of itself.
	Told func() status.Told
	// Answers counts queries for names of Services, by outcome, and Writes how long it takes
	// to write changes to the kernel, by IP family. They are those of the process; nil: it has none.
	Answers, Writes prometheus.Collector
}

// Question is what is asked.
type Question struct {
	Target string
	// Namespace is the one that short names are looked up from; "" is that of From, or that of
	// Search, or default.
	Namespace string
	// Search is the search list of who asks: an entry NAMESPACE.svc.ZONE has its namespace.
	Search []string
	// From is the client: an address, or a Pod as NAMESPACE/NAME; "" is any.
	From string
}

// defaultNamespace is what kubectl takes.
const defaultNamespace = "default"

// Explain answers a question with the parts of a server. Of several server blocks the first
// answers that has the target's Service, or else the first. A QuestionError is about the Question.
func Explain(ctx context.Context, parts []*Parts, q Question) (status.Explanation, error) {
	target, err := status.ParseTarget(q.Target)
	if err != nil {
		return status.Explanation{}, QuestionError{err}
	}
	var first *status.Facts
	for _, p := range parts {
		f, err := p.find(target, q)
		if err != nil {
			return status.Explanation{}, QuestionError{err}
		}
		if f.Service != nil || len(parts) == 1 {
			return p.explain(ctx, f), nil
		}
		if first == nil {
			first = &f
		}
	}
	if first == nil {
		return status.Explanation{}, fmt.Errorf("no server block has a clusterip, so there are no Services to explain")
	}
	return parts[0].explain(ctx, *first), nil
}

// find returns the facts of which Service is meant.
func (p *Parts) find(target status.Target, q Question) (status.Facts, error) {
	f := status.Facts{
		Target: target, Namespace: strings.ToLower(q.Namespace), DNS: p.Names.DNS(), Source: p.Source(),
		All: p.Store.Services(), Namespaces: p.Store.Namespaces(),
	}
	if p.Faults != nil {
		f.Faults = p.Faults()
	}
	if q.From != "" {
		client, err := p.client(q.From, f.All)
		if err != nil {
			return f, err
		}
		f.From = &client
		if namespace, _, is := strings.Cut(client.Pod, "/"); is && f.Namespace == "" {
			f.Namespace = namespace
		}
	}
	if f.Namespace == "" {
		f.Namespace = searched(q.Search, f.DNS.Zones)
	}
	switch {
	case target.Name != "":
		p.lookUp(&f)
	case target.At.IsValid():
		f.Here = target.IsNodePort() || ownAddress(target.At.Addr())
		if holders := status.Holders(target, f.All, f.Here); len(holders) > 0 {
			f.Service = holders[0]
		}
	default:
		f.Service = p.Store.Service(target.Service)
	}
	return f, nil
}

// searched is the namespace that a search list begins with, in clusters of these zones.
func searched(list, zones []string) string {
	for _, domain := range list {
		name, _ := strings.CutSuffix(strings.ToLower(domain), ".")
		for _, zone := range zones {
			namespace, in := strings.CutSuffix(name+".", ".svc."+zone)
			if in && namespace != "" && !strings.Contains(namespace, ".") {
				return namespace
			}
		}
	}
	return defaultNamespace
}

// ownAddress reports whether an address is this machine's.
func ownAddress(a netip.Addr) bool {
	all, _ := hostaddrs.List() // without them NodePorts are found by their number alone
	return slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Addr() == a })
}

// client reads who asks. A Pod is known where Pods are followed, or as an endpoint.
func (p *Parts) client(text string, all []*cluster.Service) (status.Client, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return status.Client{Address: addr.Unmap().WithZone("")}, nil
	}
	namespace, name, ok := strings.Cut(text, "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return status.Client{}, fmt.Errorf("%.300q is no client: give an IP address, or a Pod as NAMESPACE/NAME", text)
	}
	if pod := p.Store.Pod(cluster.PodName{Namespace: namespace, Name: name}); pod != nil && len(pod.IPs) > 0 {
		return status.Client{Pod: text, Address: pod.IPs[0]}, nil
	}
	for _, s := range all {
		if s.Name.Namespace != namespace {
			continue
		}
		for i := range s.Endpoints {
			if e := &s.Endpoints[i]; e.PodName == name || e.Hostname == name {
				return status.Client{Pod: text, Address: e.Addr}, nil
			}
		}
	}
	return status.Client{}, fmt.Errorf("the address of Pod %.300q is not known here: give its IP address (kubectl -n %.300q get pod %.300q -o wide)", text, namespace, name)
}

// maxAliases bounds a chain of aliases, as the server does.
const maxAliases = 32

// lookUp looks a name up as pods do, and finds the Service that it leads to.
func (p *Parts) lookUp(f *status.Facts) {
	for _, n := range status.Candidates(f.Target.Name, f.Namespace, f.DNS.Zones) {
		found := p.look(n)
		f.Names = append(f.Names, found)
		if found.Outcome == status.Found {
			f.Names[len(f.Names)-1].Answers = true
			break
		}
	}
	last := &f.Names[len(f.Names)-1]
	if !last.Answers {
		of, _, ok := status.Meant(f.Names, f.DNS.Zones, func(n cluster.ServiceName) bool { return p.Store.Service(n) != nil })
		if ok {
			f.Service = p.Store.Service(of)
		}
		for i := range f.Names { // a name without records that exists ends the search of musl
			if f.Names[i].Outcome == status.NoData {
				f.Names[i].Answers = true
				break
			}
		}
		return
	}
	f.Service = p.serviceOf(last.Name, f.DNS.Zones)
	for range maxAliases {
		last = &f.Names[len(f.Names)-1]
		at := slices.IndexFunc(last.Records, func(r status.Record) bool { return r.Type == "CNAME" })
		if at < 0 {
			return
		}
		target := strings.ToLower(last.Records[at].Data)
		if slices.ContainsFunc(f.Names, func(n status.Name) bool { return n.Name == target }) {
			return // it leads back to itself
		}
		f.Names = append(f.Names, p.look(status.Name{Name: target, Why: "alias of " + last.Name}))
		if s := p.serviceOf(target, f.DNS.Zones); s != nil {
			f.Service = s
		}
	}
}

// serviceOf returns the Service that a name is of, nil if there is none.
func (p *Parts) serviceOf(name string, zones []string) *cluster.Service {
	of, _, ok := status.Meant([]status.Name{{Name: name}}, zones, func(cluster.ServiceName) bool { return false })
	if !ok {
		return nil
	}
	return p.Store.Service(of)
}

// maxRecords bounds those of one name.
const maxRecords = 50

// look returns what is at a name, with whose it is.
func (p *Parts) look(n status.Name) status.Name {
	found := p.Names.Look(n.Name)
	n.Outcome, n.Records = found.Outcome, found.Records
	n.Left = max(0, len(n.Records)-maxRecords)
	n.Records = n.Records[:len(n.Records)-n.Left]
	s := p.serviceOf(n.Name, p.Names.DNS().Zones)
	for i := range n.Records {
		n.Records[i].Why = status.WhyRecord(n.Records[i], s)
	}
	return n
}

// serviceNames are those that a Service has, one in each zone.
func serviceNames(s *cluster.Service, zones []string) (out []string) {
	for _, zone := range zones {
		out = append(out, s.Name.Name+"."+s.Name.Namespace+".svc."+zone)
	}
	return out
}

const noNAT = "the server block has no kernelnat, so nothing is known here of NAT: another proxy is to serve it"

// explain adds what is known of the Service, and joins it all.
func (p *Parts) explain(ctx context.Context, f status.Facts) status.Explanation {
	s := f.Service
	if s != nil && f.Target.Name == "" {
		for _, name := range serviceNames(s, f.DNS.Zones) {
			f.Names = append(f.Names, p.look(status.Name{Name: name, Why: "name of the Service"}))
		}
	}
	if s != nil && p.Hints != nil {
		f.Hints = p.Hints(s.Name)
	}
	switch {
	case p.NAT == nil:
		f.NoNAT = noNAT
	case s == nil && f.Target.At.IsValid():
		f.Families = []status.FamilyFacts{p.NAT.Facts(ctx, nil, cluster.FamilyOf(f.Target.At.Addr()))}
	case s != nil && s.Kind == cluster.KindClusterIP:
		for _, family := range cluster.Families {
			if s.ClusterIP(family).IsValid() {
				f.Families = append(f.Families, p.NAT.Facts(ctx, s, family))
			}
		}
		f.Flows = p.NAT.Flows(f.Families)
	}
	return status.Explain(f)
}
