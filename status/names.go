package status

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
)

// judgeName is about whether the name leads to an address.
func (j *joiner) judgeName() {
	at := slices.IndexFunc(j.Names, func(n Name) bool { return n.Answers })
	if at < 0 {
		j.noName()
		return
	}
	n := &j.Names[at]
	end := n // where a chain of aliases ends
	if n.Outcome == Found {
		end = &j.Names[len(j.Names)-1]
	}
	types := make(map[string]int)
	for _, r := range end.Records {
		types[r.Type]++
	}
	switch {
	case end.Outcome == NoData && j.Service != nil && j.Service.Kind == cluster.KindClusterIP && len(j.Service.ClusterIPs) == 0:
		// judgeService says why.
	case end.Outcome == NoData && slices.Contains(j.Namespaces, j.Target.Name):
		j.out.Near = j.servicesIn(j.Target.Name)
		j.step("name", Wrong, "ask for SERVICE."+j.Target.Name, "%s is a namespace, and has no address", j.Target.Name)
	case end.Outcome == NoData:
		j.step("name", Wrong, "ask for a name below it, or for SERVICE.NAMESPACE", "%s exists, and has no records of its own", end.Name)
	case end.Outcome == NXDomain:
		j.step("name", Wrong, fmt.Sprintf("correct spec.externalName of the Service that is an alias of %s", end.Name), "%s leads to %s, which does not exist", n.Name, end.Name)
	case end.Outcome == Elsewhere:
		j.step("name", OK, "", "%s is an alias of %s, which is looked up elsewhere", n.Name, end.Name)
	case types["A"] == 0 && types["AAAA"] > 0:
		j.onlyIPv6(n)
	default:
		j.step("name", OK, "", "%s has %s", n.Name, recordsText(end.Records))
	}
}

func (j *joiner) onlyIPv6(n *Name) {
	text := fmt.Sprintf("%s has IPv6 addresses alone, so clients that speak only IPv4 do not reach it", n.Name)
	if j.From != nil && j.From.Address.Is4() {
		j.step("name", Wrong, "give the Service ipFamilyPolicy: PreferDualStack, or ask from a client with IPv6", "%s, such as %s", text, j.From.Address)
		return
	}
	j.step("name", Notice, "", "%s", text)
}

func recordsText(all []Record) string {
	var parts []string
	for _, r := range all {
		if r.Type == "A" || r.Type == "AAAA" || r.Type == "CNAME" || r.Type == "PTR" {
			parts = append(parts, r.Type+" "+r.Data)
		}
	}
	if len(parts) == 0 && len(all) > 0 {
		parts = []string{all[0].Type + " " + all[0].Data}
	}
	return listed(parts, 3)
}

// Meant is the Service that a name which was looked up is most likely of, and what stands
// before it: of the Services that there are, or else the one with the least before it.
func Meant(names []Name, zones []string, exists func(cluster.ServiceName) bool) (of cluster.ServiceName, before string, ok bool) {
	labels := func(before string) int {
		if before == "" {
			return 0
		}
		return 1 + strings.Count(before, ".")
	}
	for _, n := range names {
		for _, zone := range zones {
			s, b, is := ServiceIn(n.Name, zone)
			switch {
			case !is:
			case exists(s):
				return s, b, true
			case !ok || labels(b) < labels(before):
				of, before, ok = s, b, true
			}
		}
	}
	return of, before, ok
}

// noName says why none of the names exists.
func (j *joiner) noName() {
	exists := func(n cluster.ServiceName) bool { return j.Service != nil && j.Service.Name == n }
	meant, before, ok := Meant(j.Names, j.DNS.Zones, exists)
	s := j.Service
	switch {
	case s == nil && j.misspelt():
	case !ok:
		j.step("name", Wrong, fmt.Sprintf("ask for SERVICE.NAMESPACE.svc.%s", j.zone()), "%s is no name of a Service: it is not of the form SERVICE.NAMESPACE.svc.ZONE in any of the zones %s", j.Target.Text, strings.Join(j.DNS.Zones, ", "))
	case s == nil && j.isForeign(meant):
		j.step("name", Wrong, fmt.Sprintf("ask for SERVICE.NAMESPACE.svc.%s, if a Service is meant", j.zone()), "%s is none of the names of Services in the zones %s, so it is for other servers to answer", j.Target.Text, strings.Join(j.DNS.Zones, ", "))
	case s == nil:
		j.noService(meant)
	case len(j.DNS.Namespaces) > 0 && !slices.Contains(j.DNS.Namespaces, s.Name.Namespace):
		j.step("name", Wrong, "add the namespace to the option namespaces of clusterip", "namespace %s has no names here: the option namespaces of clusterip is for %s", s.Name.Namespace, listed(j.DNS.Namespaces, maxNear))
	case s.Kind == cluster.KindExternalName:
		j.step("name", Wrong, "write a Service without a selector and an EndpointSlice with the address", "%s is an alias of %s, which is an address and no name", s.Name, s.ExternalName)
	case len(cluster.Usable(s.Endpoints)) == 0 && (s.Kind == cluster.KindHeadless || j.DNS.IgnoreEmpty):
		// judgeEndpoints says why.
	case before != "":
		j.noSuchPart(before)
	default:
		j.step("name", Wrong, "", "%s does not exist, though there is Service %s", j.Names[0].Name, s.Name)
	}
}

// isForeign reports whether a name is meant to be looked up elsewhere: it may be, has several
// parts, and would be of a namespace that there is not, nor one like it.
func (j *joiner) isForeign(meant cluster.ServiceName) bool {
	elsewhere := slices.ContainsFunc(j.Names, func(n Name) bool { return n.Outcome == Elsewhere })
	return elsewhere && strings.Contains(j.Target.Name, ".") && !slices.Contains(j.Namespaces, meant.Namespace) && nearText(meant.Namespace, j.Namespaces) == ""
}

// misspelt is for a whole name whose zone is none, or that has something else in the place of
// svc. It reports whether it is one.
func (j *joiner) misspelt() bool {
	labels := strings.Split(strings.TrimSuffix(j.Target.Name, "."), ".")
	if len(labels) < 4 {
		return false
	}
	for at := 2; at < len(labels)-1; at++ { // where svc is to be
		zone := strings.Join(labels[at+1:], ".")
		near := nearText(zone, j.zones())
		if near == "" || nearText(labels[at], []string{"svc"}) == "" || labels[at] == "svc" && near == zone {
			continue
		}
		n := cluster.ServiceName{Namespace: labels[at-1], Name: labels[at-2]}
		right := strings.Join(append(slices.Clone(labels[:at]), "svc", near), ".")
		if slices.ContainsFunc(j.All, func(s *cluster.Service) bool { return s.Name == n }) {
			j.out.Near = append(j.out.Near, n.String())
		}
		j.step("name", Wrong, "ask for "+right, "%s is the name of no Service: the nearest is %s", j.Target.Text, right)
		return true
	}
	return false
}

// zones are those of Services, without the dot at the end.
func (j *joiner) zones() (all []string) {
	for _, z := range j.DNS.Zones {
		all = append(all, strings.TrimSuffix(z, "."))
	}
	return all
}

func (j *joiner) zone() string {
	if len(j.DNS.Zones) == 0 {
		return "ZONE"
	}
	return strings.TrimSuffix(j.DNS.Zones[0], ".")
}

// noSuchPart is for a name below that of a Service: of an endpoint, or of a port.
func (j *joiner) noSuchPart(before string) {
	s := j.Service
	if strings.HasPrefix(before, "_") {
		var ports []string
		for _, p := range s.Ports {
			if p.Name != "" {
				ports = append(ports, fmt.Sprintf("_%s._%s", p.Name, p.Protocol.Lower()))
			}
		}
		j.step("name", Wrong, "name the port in the Service, or ask for one of these", "Service %s has no port called %s, but %s", s.Name, before, orNone(ports))
		return
	}
	var names []string
	for i := range s.Endpoints {
		if e := &s.Endpoints[i]; e.Hostname != "" && !slices.Contains(names, e.Hostname) {
			names = append(names, e.Hostname)
			if e.Hostname == before {
				j.step("name", Wrong, j.mendReason(conditionOf(e), *e), "the endpoint %s of %s is %s, so it has no name", before, s.Name, rowOf(e).State)
				return
			}
		}
	}
	if n := nearText(before, names); n != "" {
		j.out.Near = append(j.out.Near, n+"."+s.Name.Name+"."+s.Name.Namespace)
	}
	j.step("name", Wrong, fmt.Sprintf("give a Pod spec.hostname: %s and spec.subdomain: %s, or ask for one of these", before, s.Name.Name), "Service %s has no endpoint called %s, but %s", s.Name, before, orNone(names))
}

func orNone(words []string) string {
	if len(words) == 0 {
		return "none with a name"
	}
	return listed(words, maxNear)
}

// WhyRecord says whose a record is: of a Service, or of one of its endpoints.
func WhyRecord(r Record, s *cluster.Service) string {
	addr, err := netip.ParseAddr(r.Data)
	switch {
	case s == nil:
		return ""
	case r.Type == "CNAME":
		return "externalName of " + s.Name.String()
	case err != nil:
		return ""
	case slices.Contains(s.ClusterIPs, addr):
		return "ClusterIP of " + s.Name.String()
	}
	for i := range s.Endpoints {
		if e := &s.Endpoints[i]; e.Addr == addr {
			row := rowOf(e)
			text := "endpoint, " + row.State
			if row.Pod != "" {
				text = "endpoint " + row.Pod + ", " + row.State
			}
			return text
		}
	}
	return ""
}
