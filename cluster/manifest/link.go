package manifest

import (
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
	notices  []Problem
}

func (v *view) notice(o *object, errs ...error) {
	for _, err := range errs {
		v.notices = append(v.notices, Problem{File: o.file, Line: o.line, Object: o.String(), Err: err, Severity: Notice})
	}
}

func (l linker) view(n *namespace) view {
	v := view{services: map[cluster.ServiceName]*cluster.Service{}, pods: map[cluster.PodName]*cluster.Pod{}}
	for _, o := range n.services {
		s := o.value.(*service)
		pods := n.selected(s.selector)
		given := n.endpoints[s.model.Name.Name]
		linked := l.service(s, pods, given)
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

func (s *service) podEndpoints(pods []*pod) []cluster.Endpoint {
	var out []cluster.Endpoint
	var shared *cluster.EndpointSlice
	for _, p := range pods {
		// Pods with the same ports, as most have, are in one slice.
		if ports := s.portsOf(p); shared == nil || !slices.Equal(ports, shared.Ports) {
			shared = &cluster.EndpointSlice{Ports: ports}
		}
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

// portsOf finds the numbers of the Service's ports in a Pod. A targetPort that
// the Pod has no port of that name for is left out.
func (s *service) portsOf(p *pod) []cluster.EndpointPort {
	ports := make([]cluster.EndpointPort, 0, len(s.ports))
	for i := range s.ports {
		// The model has the same ports, with the protocol understood.
		model := s.model.Ports[i]
		number, ok := targetPort(&s.ports[i], model.Protocol, p)
		if ok {
			ports = append(ports, cluster.EndpointPort{Name: model.Name, Protocol: model.Protocol, Port: number})
		}
	}
	convert.SortPorts(ports)
	return slices.Clip(ports)
}

func targetPort(port *corev1.ServicePort, protocol cluster.Protocol, p *pod) (uint16, bool) {
	target := port.TargetPort
	switch {
	case target.Type == intstr.Int && target.IntVal != 0:
		return uint16(target.IntVal), true
	case target.Type == intstr.Int || target.StrVal == "":
		return uint16(port.Port), true
	}
	for _, named := range p.ports {
		if named.Name == target.StrVal && named.Protocol == protocol {
			return named.Port, true
		}
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
