package status

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// Explain joins what is known of a target.
func Explain(f Facts) Explanation {
	j := joiner{Facts: f, out: Explanation{
		Schema: Schema, Target: f.Target.Text, From: f.From, Source: f.Source, Names: f.Names, Flows: f.Flows,
	}}
	if f.Target.Name != "" {
		j.out.Namespace = f.Namespace
	}
	if f.Service != nil {
		j.out.Service = j.service()
		for i := range f.Families {
			j.out.NAT = append(j.out.NAT, j.family(&f.Families[i]))
		}
	}
	j.judge()
	return j.out
}

// joiner makes one Explanation.
type joiner struct {
	Facts
	out Explanation
	// unread says that the manifest of the target cannot be read, so that it is not known what
	// is in force.
	unread bool
}

// name is that of the Service.
func (j *joiner) name() cluster.ServiceName { return j.Service.Name }

func (j *joiner) service() *Service {
	s := j.Service
	out := &Service{Name: s.Name.String(), Kind: kindOf(s), ClusterIPs: s.ClusterIPs, ExternalName: s.ExternalName}
	for _, h := range j.Hints {
		out.Hints = append(out.Hints, h.Text)
	}
	for _, p := range s.Ports {
		out.Ports = append(out.Ports, portText(p))
	}
	switch {
	case s.Kind == cluster.KindExternalName:
	case len(j.Families) > 0:
		for i := range j.Families {
			rows, left := endpointsOf(s, &j.Families[i], MaxEndpoints-len(out.Endpoints))
			out.Endpoints, out.Left = append(out.Endpoints, rows...), out.Left+left
		}
	default:
		rows := namedEndpoints(s)
		out.Left = max(0, len(rows)-MaxEndpoints)
		out.Endpoints = rows[:len(rows)-out.Left]
	}
	return out
}

func kindOf(s *cluster.Service) string {
	switch s.Kind {
	case cluster.KindHeadless:
		return "headless"
	case cluster.KindExternalName:
		return "ExternalName"
	}
	return "ClusterIP"
}

// portText is "http 80/TCP", or without a name "80/TCP".
func portText(p cluster.Port) string {
	return strings.TrimSpace(fmt.Sprintf("%s %d/%s", p.Name, p.Port, p.Protocol))
}

// portName is what an explanation calls a port.
func portName(p cluster.Port) string {
	if p.Name != "" {
		return p.Name
	}
	return fmt.Sprintf("%d/%s", p.Port, p.Protocol)
}

// portOf returns the port that a pool is for.
func portOf(s *cluster.Service, p *plan.Pool) cluster.Port {
	for _, port := range s.Ports {
		if port.Name == p.Port && port.Protocol == p.Protocol {
			return port
		}
	}
	return cluster.Port{Name: p.Port, Protocol: p.Protocol}
}

// namedEndpoints are those of a Service that only names lead to, or of one whose NAT is not
// known.
func namedEndpoints(s *cluster.Service) []Endpoint {
	counts := cluster.Counting(s.Endpoints)
	var out []Endpoint
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		row := rowOf(e)
		if row.Counts = counts(e); !row.Counts {
			row.Reason = wordOf(conditionOf(e))
		}
		out = append(out, row)
	}
	return out
}

// conditionOf is why an endpoint that does not count does not.
func conditionOf(e *cluster.Endpoint) plan.Reason {
	if e.Terminating {
		return plan.Leaving
	}
	return plan.NotReady
}

func rowOf(e *cluster.Endpoint) Endpoint {
	out := Endpoint{Address: e.Addr.String(), Pod: e.PodName, Node: e.NodeName(), Zone: e.Zone(), State: "not ready"}
	if out.Pod == "" {
		out.Pod = e.Hostname
	}
	switch {
	case e.Ready:
		out.State = "ready"
	case e.Terminating && e.Serving:
		out.State = "terminating, still serving"
	case e.Terminating:
		out.State = "terminating"
	}
	return out
}

// reasonWords are the words for reasons in JSON.
var reasonWords = map[plan.Reason]string{
	plan.OtherFamily: "other_family", plan.NamesOnly: "names_only", plan.BeyondBounds: "beyond_bounds", plan.NoSuchPort: "no_such_port",
	plan.OtherNode: "other_node", plan.OtherZone: "other_zone", plan.NotReady: "not_ready", plan.Leaving: "terminating", plan.Weightless: "weight_0",
}

func wordOf(r plan.Reason) string { return reasonWords[r] }

// dropKey is what an endpoint is left out of.
type dropKey struct {
	pool     int
	local    bool
	endpoint cluster.Endpoint
}

// byPool are those that were dropped, by the pool of which they were.
func byPool(all []plan.Dropped) map[int][]*plan.Dropped {
	out := make(map[int][]*plan.Dropped)
	for i := range all {
		out[all[i].Pool] = append(out[all[i].Pool], &all[i])
	}
	return out
}

// endpointsOf are the first of those of each port, in one family, and how many more there are.
// Those of the other family are told if there are no others.
func endpointsOf(s *cluster.Service, f *FamilyFacts, most int) (out []Endpoint, left int) {
	var told []*cluster.Endpoint
	for _, others := range []bool{false, true} {
		for k := range s.Endpoints {
			if e := &s.Endpoints[k]; (cluster.FamilyOf(e.Addr) != f.Family) == others {
				told = append(told, e)
			}
		}
		if len(told) > 0 {
			break
		}
	}
	dropped := byPool(f.Plan.Dropped)
	for i := range f.Plan.Asked.Pools {
		shown := told[:min(len(told), most-len(out))]
		left += len(told) - len(shown)
		if len(shown) > 0 {
			out = append(out, endpointsOfPort(s, f, i, shown, slices.Concat(dropped[-1], dropped[i]))...)
		}
	}
	return out, left
}

// endpointsOfPort are those of the port of a pool.
func endpointsOfPort(s *cluster.Service, f *FamilyFacts, i int, told []*cluster.Endpoint, dropped []*plan.Dropped) (out []Endpoint) {
	why := make(map[dropKey]plan.Reason)
	for _, d := range dropped {
		if key := (dropKey{d.Pool, d.Local, d.Endpoint}); why[key] == 0 {
			why[key] = d.Why
		}
	}
	pool := &f.Plan.Asked.Pools[i]
	port := portOf(s, pool)
	everywhere, here := shares(pool, false), shares(pool, true)
	for _, e := range told {
		row := rowOf(e)
		row.Port = portName(port)
		ofAll := why[dropKey{-1, false, *e}]
		if number, has := e.PortFor(port); has {
			at := netip.AddrPortFrom(e.Addr, number)
			row.Address = at.String()
			row.Connections = f.counted(i, at)
			if ofAll != plan.OtherFamily && ofAll != plan.NamesOnly {
				row.Counts = plan.Contains(pool.Endpoints, at) || plan.Contains(pool.Local, at)
				row.Share, row.LocalShare = shareOf(everywhere, at), shareOf(here, at)
			}
		}
		if !row.Counts {
			row.Reason = wordOf(firstReason(ofAll, why[dropKey{i, false, *e}], why[dropKey{i, true, *e}]))
		}
		out = append(out, row)
	}
	return out
}

func firstReason(all ...plan.Reason) plan.Reason {
	for _, r := range all {
		if r != 0 {
			return r
		}
	}
	return 0
}

// counted is how many connections a pool's frontends have sent to an endpoint, nil where
// nobody counts.
func (f *FamilyFacts) counted(pool int, at netip.AddrPort) *uint64 {
	if f.Kernel == nil {
		return nil
	}
	var sum *uint64
	for i, held := range f.Kernel.Frontends {
		if held.Endpoints == nil || f.Plan.Granted.Frontends[i].Pool != pool {
			continue
		}
		if sum == nil {
			sum = new(uint64)
		}
		*sum += held.Endpoints[at]
	}
	return sum
}

// shares returns what part of new connections each endpoint gets, nil if that depends on the
// connections that there are, or on who asks: so do all schedulers of IPVS but those for turns.
func shares(p *plan.Pool, local bool) map[netip.AddrPort]float64 {
	endpoints := p.For(local)
	if len(endpoints) == 0 {
		return nil
	}
	policy := p.Policy
	if p.AffinitySeconds > 0 {
		policy = cluster.Random // whoever has been to none gets any
	}
	if policy.OfIPVS() && policy != cluster.RR && policy != cluster.WRR {
		return nil
	}
	slots := plan.Slots(endpoints, p.WeightsFor(local), policy)
	out := make(map[netip.AddrPort]float64, len(endpoints))
	for _, i := range slots {
		out[endpoints[i]] += 1 / float64(len(slots))
	}
	return out
}

func shareOf(shares map[netip.AddrPort]float64, at netip.AddrPort) *float64 {
	if share, has := shares[at]; has {
		return &share
	}
	return nil
}

var kinds = map[plan.Kind]string{plan.ClusterIP: "cluster IP", plan.ExternalIP: "external IP", plan.LoadBalancer: "load balancer", plan.NodePort: "NodePort"}

var verdictWords = map[plan.Verdict]string{plan.Forward: "forward", plan.Reject: "reject", plan.Drop: "drop"}

func (j *joiner) family(f *FamilyFacts) Family {
	out := Family{Family: f.Family.String(), Backend: f.Backend, DryRun: f.DryRun, Node: f.NAT.Node.Name, Excess: f.Plan.Asked.Excess, Looked: f.Kernel != nil, WhyNot: f.WhyNot, Error: f.NAT.Error}
	if !f.NAT.Updated.IsZero() {
		out.Updated = &f.NAT.Updated
	}
	out.Waiting = j.waiting(f)
	if len(f.NAT.Repaired) > 0 {
		out.LastRepair = &Repair{At: f.NAT.RepairedAt, By: f.NAT.RepairedBy, What: f.NAT.Repaired}
	}
	held := make(map[plan.Key]*Held)
	if f.Kernel != nil {
		out.Wrong, out.Others = f.Kernel.Wrong, f.Kernel.Others
		for i := range f.Kernel.Frontends {
			held[f.Plan.Granted.Frontends[i].Key] = &f.Kernel.Frontends[i]
		}
	}
	for i := range f.Plan.Asked.Frontends {
		out.Frontends = append(out.Frontends, j.frontend(f, &f.Plan.Asked.Frontends[i], held))
	}
	return out
}

// waiting is why the rules of the Service wait, "" if they do not.
func (j *joiner) waiting(f *FamilyFacts) string {
	at := slices.IndexFunc(f.NAT.Waiting, func(w Waiting) bool { return w.Service == j.name() })
	switch {
	case at < 0:
		return ""
	case f.NAT.Waiting[at].Why == "":
		return "it is large, and its rules are being written"
	}
	return f.NAT.Waiting[at].Why
}

func (j *joiner) frontend(f *FamilyFacts, front *plan.Frontend, held map[plan.Key]*Held) Frontend {
	pool := &f.Plan.Asked.Pools[front.Pool]
	out := Frontend{
		At: front.Key.String(), Kind: kinds[front.Kind], Port: portName(portOf(j.Service, pool)), Verdict: verdictWords[front.Verdict],
		Endpoints: len(pool.For(front.Local)), Local: front.Local,
	}
	if r := f.Plan.refusal(front.Key); r != nil {
		out.Verdict, out.Why = "refused", r.String()
	}
	if h := held[front.Key]; h != nil {
		out.Meets, out.Wrong, out.Connections = h.Meets, h.Wrong, h.Connections
	}
	if j.From != nil && cluster.FamilyOf(j.From.Address) == f.Family && out.Verdict != "refused" {
		out.Client = clientText(front, pool, j.From.Address)
	}
	return out
}

// admits reports whether a frontend is for a client.
func admits(front *plan.Frontend, client netip.Addr) bool {
	return len(front.Sources) == 0 || slices.ContainsFunc(front.Sources, func(r netip.Prefix) bool { return r.Contains(client) })
}

// clientText says what becomes of a connection of a client.
func clientText(front *plan.Frontend, pool *plan.Pool, client netip.Addr) string {
	if front.Verdict == plan.Reject {
		return "refused, since nobody serves it"
	}
	if !admits(front, client) {
		return "dropped, since loadBalancerSourceRanges are for others"
	}
	inside := front.Inside.Range.IsValid() && front.Inside.Range.Contains(client)
	local := front.Local && !inside
	targets := pool.For(local)
	switch {
	case len(targets) == 0 && local:
		return "dropped, since the policy is Local and no endpoint is on this node"
	case len(targets) == 0:
		return "refused, since nobody serves it"
	}
	text := fmt.Sprintf("goes to %s", plural(len(targets), "endpoint", "endpoints"))
	if local {
		text += " on this node"
	}
	m := front.Masquerade
	switch {
	case m.All, m.Outside.Range.IsValid() && !m.Outside.Range.Contains(client):
		text += ", which sees this node's address as its client's"
	case slices.ContainsFunc(targets, func(t netip.AddrPort) bool { return t.Addr() == client }):
		text += ", and sees this node's address where it is its own client"
	default:
		text += ", which sees the client's own address"
	}
	return text
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
