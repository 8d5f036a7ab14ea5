package manifest

import (
	"fmt"
	"maps"
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
	nodes nodes
	held  func(cluster.ServiceName) []netip.Addr
}

// view is what is published of one namespace, and what is worth knowing of it.
type view struct {
	services map[cluster.ServiceName]*linked
	pods     map[cluster.PodName]*cluster.Pod
	problems []Problem // of endpoints without a Service
}

// service returns one as it is published, nil if there is none.
func (v *view) service(name cluster.ServiceName) *cluster.Service {
	if l := v.services[name]; l != nil {
		return l.service
	}
	return nil
}

// linked is a Service as it is published, and what it was made of: when a Node changes,
// it can be made anew by itself. It is immutable.
type linked struct {
	object  *object
	pods    []*pod    // that its selector matches
	given   []*object // its EndpointSlices and Endpoints
	service *cluster.Service
	// problems are of the Service and of what is given.
	problems []Problem
}

func (l *linked) notice(errs ...error) {
	for _, err := range errs {
		l.problems = append(l.problems, l.object.problem(Notice, err))
	}
}

func (l linker) view(n *namespace) view {
	v := view{services: make(map[cluster.ServiceName]*linked, len(n.services)), pods: make(map[cluster.PodName]*cluster.Pod, len(n.pods))}
	for _, o := range n.services {
		s := o.value.(*service)
		v.services[s.model.Name] = l.link(o, n.selected(s.selector), n.endpoints[s.model.Name.Name])
	}
	for _, lists := range n.endpoints {
		for _, o := range lists {
			if e := o.value.(*endpoints); v.services[e.owner] == nil && e.origin != isLock {
				v.problems = append(v.problems, o.problem(Notice, e.unowned(o.kind)))
			}
		}
	}
	for _, p := range n.pods {
		v.pods[p.model.Name] = p.model
	}
	return v
}

// relink returns a view in which the Services that the Nodes' change concerns are made
// anew, and whether there is any.
func (l linker) relink(v view, concerns func(*linked) bool) (view, bool) {
	var changed map[cluster.ServiceName]*linked
	for name, was := range v.services {
		if concerns(was) {
			if changed == nil {
				changed = maps.Clone(v.services)
			}
			changed[name] = l.link(was.object, was.pods, was.given)
		}
	}
	if changed == nil {
		return v, false
	}
	v.services = changed
	return v, true
}

// concern returns which Services a change of the Nodes concerns: those that have
// endpoints on a Node that is now in another zone, and, if CPUs have moved, those that
// share out endpoints by them. It is nil for none.
func (l linker) concern(before nodes) func(*linked) bool {
	rezoned, moved := l.nodes.rezoned(before), !l.nodes.capacity.equal(before.capacity)
	if len(rezoned) == 0 && !moved {
		return nil
	}
	return func(l *linked) bool {
		if moved && l.object.value.(*service).distribution == byCPU {
			return true
		}
		return len(rezoned) > 0 && slices.ContainsFunc(l.service.Endpoints, func(e cluster.Endpoint) bool { return rezoned[e.NodeName()] })
	}
}

// link makes a Service of its objects.
func (l linker) link(o *object, pods []*pod, given []*object) *linked {
	s := o.value.(*service)
	out := &linked{object: o, pods: pods, given: given}
	if s.model.Kind == cluster.KindExternalName {
		out.service = cluster.New(s.model)
		return out
	}
	counting := out.counting()
	var unled []error
	out.service, unled = l.service(s, pods, counting)
	if err := bound(out.service); err != nil {
		out.problems = append(out.problems, o.problem(Error, err))
	}
	out.notice(s.hints(out.service, pods, len(counting) > 0)...)
	if s.model.Kind == cluster.KindClusterIP {
		out.notice(unled...)
	}
	out.problems = append(out.problems, out.leftOut()...)
	return out
}

// service gives a Service its addresses and endpoints: those of its EndpointSlices and
// Endpoints that count, and those of the Pods it selects, as the endpointslice
// controller of Kubernetes finds them. That controller also makes hints for its own; it
// says why proxies will not be led by them.
func (l linker) service(s *service, pods []*pod, counting []*object) (out *cluster.Service, unled []error) {
	model := s.model
	if model.Kind == cluster.KindClusterIP {
		model.ClusterIPs = slices.Clip(l.held(model.Name))
	}
	var lists [][]cluster.Endpoint
	var controlled []cluster.Endpoint
	if len(s.selector) > 0 {
		controlled = s.podEndpoints(pods)
	}
	for _, o := range counting {
		e := o.value.(*endpoints)
		if e.origin == ofPods && len(s.selector) > 0 {
			controlled = append(controlled, e.list...)
		} else {
			lists = append(lists, e.list)
		}
	}
	l.nodes.place(controlled)
	unled = s.distribution.hint(controlled, l.nodes)
	out = cluster.New(model, append(lists, controlled)...)
	l.nodes.place(out.Endpoints)
	return out, unled
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
