package convert

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/clusterip/clusterip/cluster"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxFaults of one object are told: more help no one, and whoever writes objects
// decides how many there are.
const maxFaults = 100

// join puts the faults of an object together, up to the bound.
func join(faults []error) error {
	return errors.Join(bounded(slices.DeleteFunc(faults, func(err error) bool { return err == nil }))...)
}

// bounded counts the faults beyond the bound.
func bounded(faults []error) []error {
	more := len(faults) - maxFaults
	if more <= 0 {
		return faults
	}
	return append(faults[:maxFaults:maxFaults], fmt.Errorf("there are %d more faults", more))
}

// Pod converts a Pod. A Pod without an address yet comes out with no IPs, which
// is no error; so does one that has ended, since its addresses may be reused. The
// labels are shared with the object: a source that has no use for them removes
// them from it first. On an error the addresses that are sound come out.
func Pod(p *corev1.Pod) (*cluster.Pod, error) {
	out := &cluster.Pod{Name: cluster.PodName{Namespace: p.Namespace, Name: p.Name}, Labels: p.Labels}
	if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return out, nil
	}
	given := PodIPs(&p.Status)
	var errs []error
	seen := make(map[netip.Addr]bool, len(given))
	for i, text := range given {
		ip, err := netip.ParseAddr(text.IP)
		if err != nil || ip.Zone() != "" {
			errs = append(errs, fmt.Errorf("status.podIPs[%d] %q is not an IP address", i, text.IP))
			continue
		}
		if ip = ip.Unmap(); !seen[ip] {
			seen[ip] = true
			out.IPs = append(out.IPs, ip)
		}
	}
	return out, join(errs)
}

// PodIPs returns the addresses of a Pod as they are written. Where the older podIP differs
// from podIPs it wins, as in the API server.
func PodIPs(s *corev1.PodStatus) []corev1.PodIP {
	if s.PodIP != "" && (len(s.PodIPs) == 0 || s.PodIPs[0].IP != s.PodIP) {
		return []corev1.PodIP{{IP: s.PodIP}}
	}
	return s.PodIPs
}

// PodCIDRs returns the ranges of a Node as they are written. Where the older podCIDR differs
// from podCIDRs it wins, as in the API server.
func PodCIDRs(s *corev1.NodeSpec) []string {
	if s.PodCIDR != "" && (len(s.PodCIDRs) == 0 || s.PodCIDRs[0] != s.PodCIDR) {
		return []string{s.PodCIDR}
	}
	return s.PodCIDRs
}

// TriggerTime is when the change was made that had a controller write the object;
// zero if it does not say (annotation endpoints.kubernetes.io/last-change-trigger-time).
func TriggerTime(m metav1.ObjectMeta) time.Time {
	t, _ := time.Parse(time.RFC3339Nano, m.Annotations[corev1.EndpointsLastChangeTriggerTime])
	return t
}

// Node converts a Node. On an error all that is sound comes out.
func Node(n *corev1.Node) (*cluster.Node, error) {
	out := &cluster.Node{Name: n.Name, Zone: n.Labels[corev1.LabelTopologyZone], Leaving: n.DeletionTimestamp != nil}
	for _, taint := range n.Spec.Taints {
		out.Leaving = out.Leaving || taint.Key == "ToBeDeletedByClusterAutoscaler"
	}
	var errs []error
	for i, a := range n.Status.Addresses {
		if a.Type != corev1.NodeInternalIP && a.Type != corev1.NodeExternalIP {
			continue
		}
		ip, err := netip.ParseAddr(a.Address)
		if err != nil {
			errs = append(errs, fmt.Errorf("status.addresses[%d] %q is not an IP address", i, a.Address))
			continue
		}
		out.Addresses = append(out.Addresses, ip)
	}
	for i, text := range PodCIDRs(&n.Spec) {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("spec.podCIDRs[%d] %q is not a CIDR such as 10.42.0.0/24", i, text))
			continue
		}
		out.PodCIDRs = append(out.PodCIDRs, prefix.Masked())
	}
	return out, join(errs)
}
