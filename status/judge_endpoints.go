package status

import (
	"fmt"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// judgeEndpoints is about whether there is anybody to answer.
func (j *joiner) judgeEndpoints() {
	s := j.Service
	switch {
	case s.Kind == cluster.KindExternalName, s.Remembered:
		return
	case s.Kind == cluster.KindHeadless, len(j.Families) == 0:
		j.judgeUsable()
		return
	}
	for i := range j.Families {
		f := &j.Families[i]
		var good []string
		lack := lacking{dropped: byPool(f.Plan.Dropped), more: make(map[Condition][]string)}
		for k := range f.Plan.Asked.Pools {
			pool := &f.Plan.Asked.Pools[k]
			port := portName(portOf(s, pool))
			done := make(map[plan.Verdict]bool)
			for _, front := range j.focused(f, k) {
				switch {
				case done[front.Verdict]:
					continue
				case front.Verdict == plan.Forward:
					good = append(good, fmt.Sprintf("%s of port %s", plural(len(pool.For(front.Local)), "endpoint", "endpoints"), port))
				default:
					j.nobody(f, &lack, port, &front)
				}
				done[front.Verdict] = true
			}
		}
		for _, c := range []Condition{Wrong, Notice} {
			if ports := lack.more[c]; len(ports) > 0 {
				j.step("endpoints", c, "", "%s: likewise %s: %s", f.Family, plural(len(ports), "more port has no endpoint", "more ports have no endpoint"), listed(ports, maxNear))
			}
		}
		if len(good) > 0 {
			j.step("endpoints", OK, "", "%s: %s", f.Family, listed(good, maxNear))
		}
	}
}

// focused are the frontends of a pool that are meant, as they were asked for.
func (j *joiner) focused(f *FamilyFacts, pool int) (out []plan.Frontend) {
	for _, front := range f.Plan.Asked.Of(pool) {
		if j.isFocus(&front) {
			out = append(out, front)
		}
	}
	return out
}

// judgeUsable is judgeEndpoints where there are no frontends.
func (j *joiner) judgeUsable() {
	s := j.Service
	usable := cluster.Usable(s.Endpoints)
	if len(usable) > 0 {
		left := ""
		if n := len(s.Endpoints) - len(usable); n > 0 {
			left = fmt.Sprintf(", and %d that do not", n)
		}
		j.step("endpoints", OK, "", "%s%s", plural(len(usable), "endpoint counts", "endpoints count"), left)
		return
	}
	reasons := make(map[plan.Reason][]cluster.Endpoint)
	for _, e := range s.Endpoints {
		reasons[conditionOf(&e)] = append(reasons[conditionOf(&e)], e)
	}
	text, mend := j.lack(reasons)
	effect := "so its name does not exist"
	if s.Kind == cluster.KindClusterIP {
		effect = "so connections are refused"
	}
	j.step("endpoints", Wrong, mend, "%s, %s", text, effect)
}

// lacking is what was said of the ports of a family without endpoints.
type lacking struct {
	dropped map[int][]*plan.Dropped
	said    int                    // of how many
	more    map[Condition][]string // the others
}

// nobody says why a port has no endpoint: of the first few, since there may be thousands.
func (j *joiner) nobody(f *FamilyFacts, lack *lacking, port string, front *plan.Frontend) {
	condition := j.without(front)
	if lack.said == maxNear {
		lack.more[condition] = append(lack.more[condition], port)
		return
	}
	lack.said++
	reasons := make(map[plan.Reason][]cluster.Endpoint)
	seen, onlyOthers := make(map[cluster.Endpoint]bool), j.onlyOthers(f.Family)
	for _, d := range slices.Concat(lack.dropped[-1], lack.dropped[front.Pool]) {
		if !seen[d.Endpoint] && (d.Why != plan.OtherFamily || onlyOthers) && (!d.Local || front.Verdict == plan.Drop) {
			seen[d.Endpoint] = true
			reasons[d.Why] = append(reasons[d.Why], d.Endpoint)
		}
	}
	if front.Verdict == plan.Drop {
		j.elsewhere(f, port, front, reasons)
		return
	}
	text, mend := j.lack(reasons)
	if text == noEndpoints {
		j.step("endpoints", condition, mend, "%s: %s has no endpoints, so connections to port %s are refused", f.Family, j.name(), port)
		return
	}
	j.step("endpoints", condition, mend, "%s: port %s of %s has no endpoint, so connections are refused: %s", f.Family, port, j.name(), text)
}

// without is how it is that a frontend has no endpoint. On another node it may have some: from
// outside the cluster load balancers send there.
func (j *joiner) without(front *plan.Frontend) Condition {
	if front.Verdict == plan.Drop && front.Kind != plan.ClusterIP && !j.Target.isAddress() {
		return Notice
	}
	return Wrong
}

// onlyOthers reports whether all endpoints are of the other family.
func (j *joiner) onlyOthers(family cluster.Family) bool {
	return !slices.ContainsFunc(j.Service.Endpoints, func(e cluster.Endpoint) bool { return cluster.FamilyOf(e.Addr) == family })
}

// elsewhere is for the policy Local where no endpoint is on this node.
func (j *joiner) elsewhere(f *FamilyFacts, port string, front *plan.Frontend, reasons map[plan.Reason][]cluster.Endpoint) {
	node := f.NAT.Node.Name
	var nodes []string
	for _, e := range reasons[plan.OtherNode] {
		if n := e.NodeName(); n != "" && !slices.Contains(nodes, n) {
			nodes = append(nodes, n)
		}
	}
	slices.Sort(nodes)
	policy := "externalTrafficPolicy"
	if front.Kind == plan.ClusterIP {
		policy = "internalTrafficPolicy"
	}
	text, mend := j.lack(reasons)
	if len(nodes) > 0 {
		text = "the others are on " + listed(nodes, maxNear)
		mend = fmt.Sprintf("set %s: Cluster, or run a pod on %s; if %s is not this node's name, correct node_name", policy, node, node)
	}
	j.step("endpoints", j.without(front), mend, "%s: %s of %s is Local, and port %s has no endpoint on this node, %s, so connections to %s are dropped here: %s",
		f.Family, policy, j.name(), port, node, front.Key, text)
}

// reasonOrder is the order in which reasons are told and mended.
var reasonOrder = []plan.Reason{plan.NotReady, plan.Leaving, plan.NoSuchPort, plan.NamesOnly, plan.OtherNode, plan.OtherZone, plan.OtherFamily, plan.Weightless, plan.BeyondBounds}

// lack says why no endpoint counts, and what mends that.
func (j *joiner) lack(reasons map[plan.Reason][]cluster.Endpoint) (text, mend string) {
	var parts []string
	first := plan.Reason(0)
	for _, r := range reasonOrder {
		if all := reasons[r]; len(all) > 0 {
			if first == 0 {
				first = r
			}
			parts = append(parts, fmt.Sprintf("%s (%s)", r, listed(callEndpoints(all), 3)))
		}
	}
	if first == 0 {
		return j.none()
	}
	text = "none of its endpoints counts: " + strings.Join(parts, "; ")
	return text, j.mendReason(first, reasons[first][0])
}

func callEndpoints(all []cluster.Endpoint) (out []string) {
	for i := range all {
		out = append(out, callEndpoint(&all[i]))
	}
	return out
}

func callEndpoint(e *cluster.Endpoint) string {
	if row := rowOf(e); row.Pod != "" {
		return row.Pod
	}
	return e.Addr.String()
}

// noEndpoints is what is said where no more is known.
const noEndpoints = "it has no endpoints"

// none says why there are no endpoints at all, and what mends that.
func (j *joiner) none() (text, mend string) {
	n := j.name()
	for _, h := range j.Hints {
		if h.NoEndpoint != "" {
			return h.Lacks, h.NoEndpoint
		}
	}
	if j.Source.Kind == FromManifests {
		return noEndpoints, fmt.Sprintf("write Pods with status.podIPs that its selector matches, or an EndpointSlice with the label kubernetes.io/service-name: %s in namespace %s", n.Name, n.Namespace)
	}
	return noEndpoints, fmt.Sprintf("have its selector match pods: kubectl -n %s describe service %s; kubectl -n %s get pods --show-labels", n.Namespace, n.Name, n.Namespace)
}

// mendReason mends why an endpoint does not count.
func (j *joiner) mendReason(why plan.Reason, e cluster.Endpoint) string {
	n := j.name()
	slices := fmt.Sprintf("kubectl -n %s get endpointslices -l kubernetes.io/service-name=%s -o yaml", n.Namespace, n.Name)
	manifests := j.Source.Kind == FromManifests
	switch why {
	case plan.NotReady:
		switch {
		case manifests && e.PodName != "":
			return fmt.Sprintf("give Pod %s the condition Ready \"True\" in its manifest, when it serves", e.PodName)
		case manifests:
			return "set conditions.ready of the endpoint in its EndpointSlice, when it serves"
		case e.PodName != "":
			return fmt.Sprintf("kubectl -n %s describe pod %s", n.Namespace, e.PodName)
		}
		return slices
	case plan.Leaving:
		return "wait until the pods that take over are ready, or start some"
	case plan.NoSuchPort:
		return "have targetPort name a port that the pods have, and give the EndpointSlice's port the name of the Service's"
	case plan.NamesOnly:
		return "take the label service.kubernetes.io/headless off the EndpointSlices"
	case plan.OtherFamily:
		return "give the Service the IP family of its endpoints (spec.ipFamilies), or the pods addresses of both"
	}
	return slices
}
