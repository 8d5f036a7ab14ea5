package manifest

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
)

// hints say why a Service that is linked does not do what somebody may expect:
// pods are those that its selector matches, named whether an EndpointSlice or an
// Endpoints is its own.
func (s *service) hints(linked *cluster.Service, pods []*pod, named bool) []error {
	if s.model.Kind == cluster.KindExternalName || s.model.Remembered {
		return nil
	}
	var hints []error
	if s.model.Kind == cluster.KindClusterIP && s.model.Proxy == cluster.NoProxy() {
		hints = []error{fmt.Errorf("its label %s has every proxy leave its addresses alone, so they lead nowhere: remove the label, or write clusterIP: None", corev1.IsHeadlessService)}
	} else if slices.ContainsFunc(linked.Endpoints, s.uses) {
		hints = append(s.portsWithoutEndpoint(linked, pods), s.familiesWithoutEndpoint(linked)...)
	} else {
		hints = []error{s.whyNoEndpoint(linked, pods, named)}
	}
	if err := s.namelessPods(pods); err != nil {
		hints = append(hints, err)
	}
	return hints
}

// uses reports whether an endpoint takes connections to the Service.
func (s *service) uses(e cluster.Endpoint) bool {
	return isUsable(e) && (s.model.Kind == cluster.KindHeadless || !e.NamesOnly() && slices.Contains(s.families, cluster.FamilyOf(e.Addr)))
}

func isUsable(e cluster.Endpoint) bool { return e.Ready || e.Serving && e.Terminating }

// NoEndpoint says why a Service has no endpoint that takes connections. It is an error.
type NoEndpoint struct {
	What  string // it does not have, and what comes of that
	Lacks string // the cause
	Mend  string
}

// Error returns what is wrong, why, and the mend.
func (e *NoEndpoint) Error() string { return e.What + ": " + e.Lacks + ": " + e.Mend }

func (s *service) whyNoEndpoint(linked *cluster.Service, pods []*pod, named bool) error {
	what := "it has no endpoints"
	if len(linked.Endpoints) > 0 {
		what = "it has no endpoint that is ready"
	}
	if slices.ContainsFunc(linked.Endpoints, isUsable) {
		what = "it has no endpoint that counts"
	}
	effect := "connections to it are refused"
	if s.model.Kind == cluster.KindHeadless {
		effect = "its name does not exist (NXDOMAIN)"
	}
	lacks, mend := s.lacking(linked, pods, named)
	return &NoEndpoint{fmt.Sprintf("%s, so %s", what, effect), lacks, mend}
}

// lacking says what there is not, and what mends that. Pods that match come first: they
// are meant to be the endpoints.
func (s *service) lacking(linked *cluster.Service, pods []*pod, named bool) (what, mend string) {
	n := s.model.Name
	slice, write := "no EndpointSlice names it", fmt.Sprintf("write an EndpointSlice with the label kubernetes.io/service-name: %s, or an Endpoints called %s, in namespace %s", n.Name, n.Name, n.Namespace)
	if named {
		slice, write = "its EndpointSlices and Endpoints have none that is sound", "write one there"
	}
	is := func(f func(cluster.Endpoint) bool) bool { return slices.ContainsFunc(linked.Endpoints, f) }
	switch {
	case len(pods) > 0:
		return s.lackOfPods(pods)
	case s.model.Kind == cluster.KindClusterIP && is(func(e cluster.Endpoint) bool { return e.NamesOnly() }):
		return "its EndpointSlices have the label " + corev1.IsHeadlessService + ", with which proxies leave them alone", "remove it"
	case is(isUsable):
		return s.ofOtherFamily()
	case len(linked.Endpoints) > 0:
		return "conditions.ready is false in its EndpointSlices, or they are notReadyAddresses of its Endpoints", "say there that they are ready, when they are"
	case len(s.selector) > 0:
		return fmt.Sprintf("no Pod in namespace %s matches its selector %s, and %s", n.Namespace, shortened(labels.Set(s.selector).String()), slice),
			"write such a Pod, or correct the selector, or " + write
	}
	return "it has no selector, and " + slice, write
}

// ofOtherFamily is for endpoints none of which has an address of the Service's family.
func (s *service) ofOtherFamily() (what, mend string) {
	own := s.families[0]
	return fmt.Sprintf("its endpoints have addresses of %s alone, and it is of %s", otherThan(own), own),
		fmt.Sprintf("give it spec.ipFamilies: [%s], with a range of that family in service_cidr, or endpoints with addresses of %s", otherThan(own), own)
}

func otherThan(f cluster.Family) cluster.Family {
	if f == cluster.IPv4 {
		return cluster.IPv6
	}
	return cluster.IPv4
}

// familiesWithoutEndpoint finds a family of a Service of both that no endpoint has: its
// ClusterIP of that family is in its name, and leads nowhere.
func (s *service) familiesWithoutEndpoint(linked *cluster.Service) []error {
	if s.model.Kind != cluster.KindClusterIP {
		return nil
	}
	for _, f := range s.families {
		if !slices.ContainsFunc(linked.Endpoints, func(e cluster.Endpoint) bool { return cluster.FamilyOf(e.Addr) == f && s.uses(e) }) {
			return []error{fmt.Errorf("connections to its %s address are refused: its endpoints have addresses of %s alone: give it spec.ipFamilyPolicy: SingleStack and spec.ipFamilies: [%s], or endpoints with addresses of %s",
				f, otherThan(f), otherThan(f), f)}
		}
	}
	return nil
}

// lack is what keeps a Pod from being an endpoint, in the order in which they are
// told.
type lack uint8

const (
	lacksAddress lack = iota
	lacksFamily
	lacksCondition
	hasFinished
)

func (s *service) lackOf(p *pod) lack {
	ofFamily := func(f cluster.Family) bool {
		return slices.ContainsFunc(p.model.IPs, func(ip netip.Addr) bool { return cluster.FamilyOf(ip) == f })
	}
	switch {
	case p.finished:
		return hasFinished
	case len(p.model.IPs) == 0:
		return lacksAddress
	case !slices.ContainsFunc(s.families, ofFamily):
		return lacksFamily
	}
	return lacksCondition
}

// lackOfPods names the first Pod and counts the others that lack the same, and says what
// mends that.
func (s *service) lackOfPods(pods []*pod) (what, mend string) {
	first := slices.MinFunc(pods, func(a, b *pod) int {
		return cmp.Or(cmp.Compare(s.lackOf(a), s.lackOf(b)), cmp.Compare(a.model.Name.Name, b.model.Name.Name))
	})
	same := 0
	for _, p := range pods {
		if s.lackOf(p) == s.lackOf(first) {
			same++
		}
	}
	name := first.model.Name.Name
	text := map[lack][2]string{
		lacksAddress:   {"status.podIPs is missing", "write the address into status.podIPs of Pod " + name},
		lacksFamily:    {fmt.Sprintf("status.podIPs has no address of the Service's family (%s)", joined(s.families)), "add one to Pod " + name + ", or give the Service spec.ipFamilies of the Pods"},
		lacksCondition: {`the condition Ready is not "True"`, `give Pod ` + name + ` status.conditions [{type: Ready, status: "True"}], when it serves`},
		hasFinished:    {"status.phase is Succeeded or Failed", "write a Pod that runs, or remove status.phase of Pod " + name},
	}[s.lackOf(first)]
	return fmt.Sprintf("%s in %s, which its selector matches", text[0], andMore(first, same-1)), text[1]
}

func joined(families []cluster.Family) string {
	var names []string
	for _, f := range families {
		names = append(names, f.String())
	}
	return strings.Join(names, ", ")
}

func andMore(first *pod, more int) string {
	if more == 0 {
		return "Pod " + first.model.Name.Name
	}
	return fmt.Sprintf("Pod %s (and %d more)", first.model.Name.Name, more)
}

// portsWithoutEndpoint finds the ports that none of the endpoints has.
func (s *service) portsWithoutEndpoint(linked *cluster.Service, pods []*pod) []error {
	var hints []error
	served := s.servedPorts(linked.Endpoints)
	for i, port := range s.model.Ports {
		if served[cluster.EndpointPort{Name: port.Name, Protocol: port.Protocol}] {
			continue
		}
		target := s.ports[i].TargetPort
		if len(pods) > 0 && target.Type == intstr.String && target.StrVal != "" {
			hints = append(hints, fmt.Errorf("spec.ports[%d] has no endpoint: no container of the Pods that are ready has a %s port of the name of its targetPort, %s: correct the one or the other", i, port.Protocol, target.StrVal))
			continue
		}
		hints = append(hints, fmt.Errorf("spec.ports[%d] has no endpoint: its EndpointSlices have no %s port with its name, %q: give one that name", i, port.Protocol, port.Name))
	}
	return hints
}

// servedPorts are the names and protocols, without number, of the ports that take
// connections.
func (s *service) servedPorts(endpoints []cluster.Endpoint) map[cluster.EndpointPort]bool {
	served, seen := map[cluster.EndpointPort]bool{}, map[*cluster.EndpointSlice]bool{}
	for _, e := range endpoints {
		if !s.uses(e) || seen[e.Slice] {
			continue
		}
		seen[e.Slice] = true
		for _, p := range e.Ports() {
			served[cluster.EndpointPort{Name: p.Name, Protocol: p.Protocol}] = true
		}
	}
	return served
}

// namelessPods finds Pods that look like those of a StatefulSet, below whose
// headless Service each has a name of its own, and that lack what makes one.
func (s *service) namelessPods(pods []*pod) error {
	if s.model.Kind != cluster.KindHeadless {
		return nil
	}
	var first *pod
	count := 0
	for _, p := range pods {
		if !s.isNameless(p) {
			continue
		}
		if count++; first == nil || p.model.Name.Name < first.model.Name.Name {
			first = p
		}
	}
	if first == nil {
		return nil
	}
	pod, name := first.model.Name.Name, s.model.Name
	return fmt.Errorf("%s has no name of its own: for %s.%s write spec.hostname: %s and spec.subdomain: %s in the Pod",
		andMore(first, count-1), pod, name.Name, pod, name.Name)
}

func (s *service) isNameless(p *pod) bool {
	name := p.model.Name.Name
	stem := strings.TrimRight(name, "0123456789")
	numbered := stem != name && strings.HasSuffix(stem, "-") || p.labels[podNameLabel] != ""
	elsewhere := p.subdomain != "" && p.subdomain != s.model.Name.Name
	return numbered && !elsewhere && s.hostnameOf(p) == "" && len(validation.IsDNS1123Label(name)) == 0
}

// unowned says that nothing uses endpoints whose Service there is not.
func (e *endpoints) unowned(kind string) error {
	mend := "correct the label kubernetes.io/service-name, or its namespace"
	if kind == "Endpoints" {
		mend = "give it the name and the namespace of its Service"
	}
	return fmt.Errorf("it is for Service %s, which is missing or not sound: %s, or write the Service", e.owner, mend)
}
