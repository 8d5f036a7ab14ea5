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
		hints = s.portsWithoutEndpoint(linked, pods)
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
	return (e.Ready || e.Serving && e.Terminating) && (s.model.Kind == cluster.KindHeadless || !e.NamesOnly())
}

func (s *service) whyNoEndpoint(linked *cluster.Service, pods []*pod, named bool) error {
	what := "it has no endpoints"
	if len(linked.Endpoints) > 0 {
		what = "it has no endpoint that is ready"
	}
	effect := "connections to it are refused"
	if s.model.Kind == cluster.KindHeadless {
		effect = "its name does not exist (NXDOMAIN)"
	}
	return fmt.Errorf("%s, so %s: %s", what, effect, s.lacking(linked, pods, named))
}

// lacking says what there is not. Pods that match come first: they are meant to be
// the endpoints.
func (s *service) lacking(linked *cluster.Service, pods []*pod, named bool) string {
	slice := "no EndpointSlice names it"
	if named {
		slice = "its EndpointSlices have none"
	}
	switch {
	case len(pods) > 0:
		return s.lackOfPods(pods)
	case s.model.Kind == cluster.KindClusterIP && slices.ContainsFunc(linked.Endpoints, func(e cluster.Endpoint) bool { return e.NamesOnly() }):
		return "its EndpointSlices have the label " + corev1.IsHeadlessService + ", with which proxies leave them alone: remove it"
	case len(linked.Endpoints) > 0:
		return "conditions.ready is false in its EndpointSlices"
	case len(s.selector) > 0:
		return fmt.Sprintf("no Pod in namespace %s matches its selector %s, and %s", s.model.Name.Namespace, shortened(labels.Set(s.selector).String()), slice)
	}
	return "it has no selector, and " + slice
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

// lackOfPods names the first Pod and counts the others that lack the same.
func (s *service) lackOfPods(pods []*pod) string {
	first := slices.MinFunc(pods, func(a, b *pod) int {
		return cmp.Or(cmp.Compare(s.lackOf(a), s.lackOf(b)), cmp.Compare(a.model.Name.Name, b.model.Name.Name))
	})
	same := 0
	for _, p := range pods {
		if s.lackOf(p) == s.lackOf(first) {
			same++
		}
	}
	text := map[lack]string{
		lacksAddress:   "status.podIPs is missing",
		lacksFamily:    fmt.Sprintf("status.podIPs has no address of the Service's family (%s)", joined(s.families)),
		lacksCondition: `the condition Ready is not "True"`,
		hasFinished:    "status.phase is Succeeded or Failed",
	}[s.lackOf(first)]
	return fmt.Sprintf("%s in %s, which its selector matches", text, andMore(first, same-1))
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
			hints = append(hints, fmt.Errorf("spec.ports[%d] has no endpoint: no container of the Pods that are ready has a %s port of the name of its targetPort, %s", i, port.Protocol, target.StrVal))
			continue
		}
		hints = append(hints, fmt.Errorf("spec.ports[%d] has no endpoint: its EndpointSlices have no %s port with its name, %q", i, port.Protocol, port.Name))
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
	mend := "correct the label kubernetes.io/service-name"
	if kind == "Endpoints" {
		mend = "give it the name of its Service"
	}
	return fmt.Errorf("it is for Service %s, which is missing or not sound: %s, or write the Service", e.owner, mend)
}
