package manifest

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/cluster/allocator"
	"github.com/clusterip/clusterip/cluster/convert"
	"github.com/clusterip/clusterip/cluster/validation"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
)

// objectKey identifies an object of the folder.
type objectKey struct {
	kind, namespace, name string
}

// String returns "Service testing/echo", or "Node worker-1", or for an object without a
// name "Service without a name in namespace testing".
func (k objectKey) String() string {
	switch {
	case k.name == "" && k.namespace == "":
		return k.kind + " without a name"
	case k.name == "":
		return k.kind + " without a name in namespace " + k.namespace
	case k.namespace == "":
		return k.kind + " " + k.name
	}
	return k.kind + " " + k.namespace + "/" + k.name
}

// object is what is kept of one object: as much as linking needs, since a folder
// may hold a hundred thousand Pods. It is immutable; an unchanged file keeps its
// objects, so that comparing pointers finds what changed.
type object struct {
	objectKey
	file string
	line int
	// One of *service, *endpoints, *pod, *node, or nil for a Namespace.
	value any
}

func (o *object) problem(severity Severity, err error) Problem {
	return Problem{File: o.file, Line: o.line, Object: o.String(), Err: err, Severity: severity}
}

// service is a Service before it has endpoints and allocated addresses.
type service struct {
	model    cluster.Service // ClusterIPs are those the manifest demands
	families []cluster.Family
	created  time.Time
	selector map[string]string
	ports    []corev1.ServicePort
	// namesTargets means that a targetPort is the name of a port of the Pods.
	namesTargets bool
	// publishNotReady is spec.publishNotReadyAddresses.
	publishNotReady bool
	distribution    distribution
}

// endpoints are those of one EndpointSlice or Endpoints.
type endpoints struct {
	owner cluster.ServiceName
	list  []cluster.Endpoint
	origin
}

// pod is a Pod as a candidate for endpoints.
type pod struct {
	model              *cluster.Pod // without IPs: no endpoint
	labels             map[string]string
	ports              []cluster.EndpointPort // the named container ports
	hostname           string
	subdomain          string
	topology           *cluster.Topology
	ready, terminating bool
	finished           bool // whose addresses are no longer its own
	statefulSet        bool
}

// convertService validates what convert.Service leaves to the API server or to
// whoever allocates addresses.
func (p *parser) convertService(s *corev1.Service) (*service, error) {
	model, err := convert.Service(s)
	errs := append(validation.Service(s), err)
	out := &service{
		model:           model,
		created:         s.CreationTimestamp.Time,
		selector:        s.Spec.Selector,
		ports:           s.Spec.Ports,
		publishNotReady: s.Spec.PublishNotReadyAddresses,
		distribution:    distributionOf(s),
	}
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return out, errors.Join(errs...)
	}
	for i, port := range s.Spec.Ports {
		errs = append(errs, checkTargetPort(fmt.Sprintf("spec.ports[%d].targetPort", i), port.TargetPort))
		_, numeric := numericTarget(&port)
		out.namesTargets = out.namesTargets || !numeric
	}
	out.families, err = allocator.Families(&s.Spec, model.ClusterIPs, p.families)
	return out, errors.Join(append(errs, err)...)
}

// oddities are what Kubernetes takes as well, and what will not do what somebody
// may expect.
func oddities(s *corev1.Service) []error {
	var odd []error
	_, err := netip.ParseAddr(strings.TrimSuffix(s.Spec.ExternalName, "."))
	if s.Spec.Type == corev1.ServiceTypeExternalName && err == nil {
		odd = append(odd, fmt.Errorf("spec.externalName %s is an address, but DNS looks it up as a name and finds nothing: give a name, or make this a headless Service with an EndpointSlice", s.Spec.ExternalName))
	}
	odd = append(odd, convert.BeyondDNS(s)...)
	onNodes := s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer
	for i, p := range s.Spec.Ports {
		switch {
		case s.Spec.Type == corev1.ServiceTypeNodePort && p.NodePort == 0 && s.Spec.ClusterIP != corev1.ClusterIPNone:
			odd = append(odd, fmt.Errorf("spec.ports[%d].nodePort is missing: none is allocated here, so choose one from 30000-32767", i))
		case onNodes && p.NodePort != 0 && (p.NodePort < 30000 || p.NodePort > 32767):
			odd = append(odd, fmt.Errorf("spec.ports[%d].nodePort %d is outside 30000-32767: what listens on that port of a node gets no new connections from outside any more", i, p.NodePort))
		}
	}
	return odd
}

func checkTargetPort(field string, port intstr.IntOrString) error {
	switch {
	case port.Type == intstr.Int && port.IntVal != 0:
		if msgs := utilvalidation.IsValidPortNum(port.IntValue()); len(msgs) > 0 {
			return fmt.Errorf("%s %d is outside 1-65535", field, port.IntVal)
		}
	case port.Type == intstr.String && port.StrVal != "":
		if msgs := utilvalidation.IsValidPortName(port.StrVal); len(msgs) > 0 {
			return fmt.Errorf("%s %q is neither a port number nor the name of a container port: %s", field, port.StrVal, msgs[0])
		}
	}
	return nil
}

func convertSlice(s *discoveryv1.EndpointSlice) (*endpoints, error) {
	owner, list, err := convert.EndpointSlice(s)
	return &endpoints{owner, list, originOfSlice(s)}, errors.Join(append(validation.EndpointSlice(s), err)...)
}

func convertEndpoints(e *corev1.Endpoints) (*endpoints, error) {
	owner, list, err := convert.Endpoints(e)
	return &endpoints{owner, list, originOfEndpoints(e)}, errors.Join(append(validation.Endpoints(e), err)...)
}

func convertPod(p *corev1.Pod) (*pod, error) {
	model, err := convert.Pod(p)
	if err != nil {
		return nil, err
	}
	out := &pod{
		model:       model,
		labels:      p.Labels,
		hostname:    p.Spec.Hostname,
		subdomain:   p.Spec.Subdomain,
		topology:    &cluster.Topology{NodeName: p.Spec.NodeName},
		ready:       isReady(p),
		terminating: p.DeletionTimestamp != nil,
		finished:    p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed,
		statefulSet: ofStatefulSet(p),
	}
	errs := validation.Pod(p)
	for i, ip := range model.IPs {
		if _, err := convert.EndpointAddr(ip.String()); err != nil {
			errs = append(errs, fmt.Errorf("status.podIPs[%d]: %w", i, err))
		}
	}
	if out.hostname != "" {
		errs = append(errs, convert.CheckLabel("spec.hostname", out.hostname))
	}
	out.ports, err = namedPorts(p)
	return out, errors.Join(append(errs, err, checkReady(p))...)
}

// checkReady refuses a status that Kubernetes does not have: somebody may mean it to
// be True.
func checkReady(p *corev1.Pod) error {
	known := []corev1.ConditionStatus{corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown}
	for i, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady && !slices.Contains(known, c.Status) {
			return fmt.Errorf("status.conditions[%d].status %q is none of True, False, Unknown", i, c.Status)
		}
	}
	return nil
}

// readyCondition is the index of the condition Ready; -1 if it is missing.
func readyCondition(p *corev1.Pod) int {
	return slices.IndexFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady })
}

func isReady(p *corev1.Pod) bool {
	i := readyCondition(p)
	return i >= 0 && p.Status.Conditions[i].Status == corev1.ConditionTrue
}

// lacksReady finds Pods written by hand that lack what the kubelet would add.
func lacksReady(p *corev1.Pod) bool {
	return readyCondition(p) < 0 && (len(p.Status.PodIPs) > 0 || p.Status.PodIP != "")
}

// podNameLabel is the label by which the StatefulSet controller names its Pods.
const podNameLabel = "statefulset.kubernetes.io/pod-name"

func ofStatefulSet(p *corev1.Pod) bool {
	return p.Labels[podNameLabel] == p.Name ||
		slices.ContainsFunc(p.OwnerReferences, func(o metav1.OwnerReference) bool { return o.Kind == "StatefulSet" })
}

// namedPorts lists the ports a targetPort can name: those of the containers and
// of sidecars, which are init containers that are restarted always.
func namedPorts(p *corev1.Pod) ([]cluster.EndpointPort, error) {
	containers := slices.Clone(p.Spec.Containers)
	for _, c := range p.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			containers = append(containers, c)
		}
	}
	var ports []cluster.EndpointPort
	var errs []error
	for _, c := range containers {
		for i, port := range c.Ports {
			if port.Name == "" {
				continue
			}
			field := fmt.Sprintf("container %s: ports[%d]", c.Name, i)
			protocol, err := cluster.ParseProtocol(string(port.Protocol))
			if err != nil {
				errs = append(errs, fmt.Errorf("%s.%w", field, err))
				continue
			}
			if port.ContainerPort < 1 || port.ContainerPort > 65535 {
				errs = append(errs, fmt.Errorf("%s.containerPort %d is outside 1-65535", field, port.ContainerPort))
				continue
			}
			ports = append(ports, cluster.EndpointPort{Name: port.Name, Protocol: protocol, Port: uint16(port.ContainerPort)})
		}
	}
	return ports, errors.Join(errs...)
}
