package manifest

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/cluster/convert"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
)

// linker turns the objects of a namespace into what is published. It is pure.
type linker struct {
	nodes map[string]*cluster.Node
	held  func(cluster.ServiceName) []netip.Addr
}

// view is what is published of one namespace, and what is worth knowing of it.
type view struct {
	services map[cluster.ServiceName]*cluster.Service
	pods     map[cluster.PodName]*cluster.Pod
	problems []Problem
}

func (v *view) notice(o *object, errs ...error) {
	for _, err := range errs {
		v.problems = append(v.problems, o.problem(Notice, err))
	}
}

func (l linker) view(n *namespace) view {
	v := view{services: map[cluster.ServiceName]*cluster.Service{}, pods: map[cluster.PodName]*cluster.Pod{}}
	for _, o := range n.services {
		s := o.value.(*service)
		pods := n.selected(s.selector)
		given := n.endpoints[s.model.Name.Name]
		linked := l.service(s, pods, given)
		if err := bound(linked); err != nil {
			v.problems = append(v.problems, o.problem(Error, err))
		}
		v.services[s.model.Name] = linked
		v.notice(o, s.hints(linked, pods, len(given) > 0)...)
	}
	for _, lists := range n.endpoints {
		for _, o := range lists {
			if e := o.value.(*endpoints); v.services[e.owner] == nil {
				v.notice(o, e.unowned(o.kind))
			}
		}
	}
	for _, p := range n.pods {
		v.pods[p.model.Name] = p.model
	}
	return v
}

// service gives a Service its addresses and endpoints: those of its
// EndpointSlices and Endpoints, and those of the Pods it selects, as the
// endpointslice controller of Kubernetes finds them. What that controller has made
// of Pods counts only where the Pods themselves are not there: in an export of a
// cluster it would outlive them.
func (l linker) service(s *service, pods []*pod, given []*object) *cluster.Service {
	model := s.model
	if model.Kind == cluster.KindExternalName {
		return cluster.New(model)
	}
	if model.Kind == cluster.KindClusterIP {
		model.ClusterIPs = slices.Clip(l.held(model.Name))
	}
	var lists [][]cluster.Endpoint
	if len(s.selector) > 0 {
		lists = append(lists, s.podEndpoints(pods))
	}
	for _, o := range given {
		if e := o.value.(*endpoints); !e.derived || len(pods) == 0 {
			lists = append(lists, e.list)
		}
	}
	out := cluster.New(model, lists...)
	for i := range out.Endpoints {
		// EndpointSlices mostly say the zone themselves.
		if e := &out.Endpoints[i]; e.Zone() == "" {
			if node := l.nodes[e.NodeName()]; node != nil {
				e.Topology = &cluster.Topology{NodeName: node.Name, Zone: node.Zone}
			}
		}
	}
	return out
}

// maxBackends is how many ports the endpoints of a Service may have, all together. Of
// each come an SRV record and a rule; a cluster's API server bounds slices instead, to
// 1,000 endpoints with 100 ports.
const maxBackends = 1 << 18

// bound drops the endpoints beyond the bound from a Service that nobody has seen yet,
// and tells it.
func bound(s *cluster.Service) error {
	backends := 0
	for i := range s.Endpoints {
		if backends += len(s.Endpoints[i].Ports()); backends > maxBackends {
			more := len(s.Endpoints) - i
			s.Endpoints = slices.Clip(s.Endpoints[:i])
			return fmt.Errorf("its endpoints have more than %d ports together, so the last %d endpoints, by address, are left out: give it fewer ports, or divide it into several Services", maxBackends, more)
		}
	}
	return nil
}

func (s *service) podEndpoints(pods []*pod) []cluster.Endpoint {
	var out []cluster.Endpoint
	slicesOf := sharedSlices{service: s, byPorts: map[string]*cluster.EndpointSlice{}}
	for _, p := range pods {
		shared := slicesOf.of(p)
		for _, ip := range p.model.IPs {
			if !slices.Contains(s.families, cluster.FamilyOf(ip)) {
				continue
			}
			out = append(out, cluster.Endpoint{
				Addr:        ip,
				Hostname:    s.hostnameOf(p),
				PodName:     p.model.Name.Name,
				Slice:       shared,
				Topology:    p.topology,
				Ready:       s.publishNotReady || p.ready && !p.terminating,
				Serving:     p.ready,
				Terminating: p.terminating,
			})
		}
	}
	return out
}

// sharedSlices are the slices of a Service's Pods. Pods with the same ports, as most
// have, are in one, which is made once.
type sharedSlices struct {
	*service
	byPorts map[string]*cluster.EndpointSlice
}

func (s sharedSlices) of(p *pod) *cluster.EndpointSlice {
	var key []byte
	if s.namesTargets {
		for _, port := range p.ports {
			key = fmt.Appendf(key, "%s/%d/%d,", port.Name, port.Protocol, port.Port)
		}
	}
	shared := s.byPorts[string(key)]
	if shared == nil {
		shared = &cluster.EndpointSlice{Ports: s.portsOf(p)}
		s.byPorts[string(key)] = shared
	}
	return shared
}

// portsOf finds the numbers of the Service's ports in a Pod. A targetPort that
// the Pod has no port of that name for is left out.
func (s *service) portsOf(p *pod) []cluster.EndpointPort {
	type target struct {
		name     string
		protocol cluster.Protocol
	}
	named := make(map[target]uint16, len(p.ports))
	for _, port := range slices.Backward(p.ports) { // of several the first counts
		named[target{port.Name, port.Protocol}] = port.Port
	}
	ports := make([]cluster.EndpointPort, 0, len(s.ports))
	for i := range s.ports {
		// The model has the same ports, with the protocol understood.
		model := s.model.Ports[i]
		number, ok := numericTarget(&s.ports[i])
		if !ok {
			number, ok = named[target{s.ports[i].TargetPort.StrVal, model.Protocol}]
		}
		if ok {
			ports = append(ports, cluster.EndpointPort{Name: model.Name, Protocol: model.Protocol, Port: number})
		}
	}
	convert.SortPorts(ports)
	return slices.Clip(ports)
}

// numericTarget returns the port of a Pod that a Service's port leads to, unless it is
// given by name.
func numericTarget(port *corev1.ServicePort) (number uint16, ok bool) {
	target := port.TargetPort
	switch {
	case target.Type == intstr.Int && target.IntVal != 0:
		return uint16(target.IntVal), true
	case target.Type == intstr.Int || target.StrVal == "":
		return uint16(port.Port), true
	}
	return 0, false
}

// hostnameOf returns the name by which a Pod is known below a Service: its
// spec.hostname if its spec.subdomain names the Service. The StatefulSet
// controller sets both; where a manifest leaves them out, a StatefulSet's Pod is
// known by its name below the headless Services that select it.
func (s *service) hostnameOf(p *pod) string {
	switch {
	case p.subdomain != "" && p.subdomain != s.model.Name.Name:
		return ""
	case p.subdomain != "" && p.hostname != "":
		return p.hostname
	case !p.statefulSet || s.model.Kind != cluster.KindHeadless:
		return ""
	case len(validation.IsDNS1123Label(p.model.Name.Name)) > 0:
		return ""
	}
	return p.model.Name.Name
}
