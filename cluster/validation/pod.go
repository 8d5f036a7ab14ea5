package validation

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster/convert"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Pod returns what is wrong with a Pod.
func Pod(p *corev1.Pod) []error {
	f := metadata(&p.ObjectMeta)
	if p.Spec.NodeName != "" {
		f.nodeName("spec.nodeName", p.Spec.NodeName)
	}
	if p.Spec.Subdomain != "" {
		f.label("spec.subdomain", p.Spec.Subdomain)
	}
	f.containers("spec.containers", p.Spec.Containers)
	f.containers("spec.initContainers", p.Spec.InitContainers)
	for i, c := range p.Spec.InitContainers {
		known := []corev1.ContainerRestartPolicy{corev1.ContainerRestartPolicyAlways, corev1.ContainerRestartPolicyNever, corev1.ContainerRestartPolicyOnFailure}
		if c.RestartPolicy != nil && !slices.Contains(known, *c.RestartPolicy) {
			f.add("spec.initContainers[%d].restartPolicy %q is none of Always, Never, OnFailure", i, *c.RestartPolicy)
		}
	}
	f.podIPs(convert.PodIPs(&p.Status))
	return f
}

// containers judges the names of ports, by which a targetPort finds them.
func (f *faults) containers(where string, containers []corev1.Container) {
	for i, c := range containers {
		names := make(map[string]bool, len(c.Ports))
		for j, p := range c.Ports {
			if p.Name == "" {
				continue
			}
			at := fmt.Sprintf("%s[%d].ports[%d].name", where, i, j)
			for _, msg := range validation.IsValidPortName(p.Name) {
				f.add("%s %q is no name of a port: %s", at, p.Name, msg)
			}
			if names[p.Name] {
				f.add("%s %q is given twice in this container: rename one", at, p.Name)
			}
			names[p.Name] = true
		}
	}
}

func (f *faults) podIPs(given []corev1.PodIP) {
	ips := make([]netip.Addr, len(given))
	for i, text := range given {
		if ips[i], _ = netip.ParseAddr(text.IP); ips[i].Is4In6() {
			f.add("status.podIPs[%d] %q is an IPv4 address in the form of an IPv6 one: write %s", i, text.IP, ips[i].Unmap())
		}
	}
	if n := len(ips); n > 2 || n == 2 && ips[0].Is4() == ips[1].Is4() && ips[0].IsValid() && ips[1].IsValid() {
		f.add("status.podIPs has more than one address of a family: keep one IPv4 and one IPv6 address")
	}
}
