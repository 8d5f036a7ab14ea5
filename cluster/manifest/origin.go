package manifest

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// origin is what an EndpointSlice or Endpoints is, and what it was made of. In a
// cluster only EndpointSlices lead anywhere, and controllers make most of them; in a
// folder, mostly an export, what they have made may outlive what they made it of.
type origin uint8

const (
	// ofAnyone is an EndpointSlice that no controller of Kubernetes made.
	ofAnyone origin = iota
	// ofPods is an EndpointSlice made of the Pods that a selector matches.
	ofPods
	// ofEndpoints is an EndpointSlice made of the Endpoints that have the name of the
	// Service: a mirror of them.
	ofEndpoints
	// isEndpoints is Endpoints. For a Service with a selector it is the endpoints
	// controller that makes them, of its Pods: it overwrites those of anyone else, and
	// before version 1.33 leaves no label by which to know its own.
	isEndpoints
	// isUnmirrored is Endpoints with the label skip-mirror: whoever made them, such as
	// the API server for the Service kubernetes, makes the EndpointSlices too.
	isUnmirrored
	// isLock is Endpoints by which processes elect a leader.
	isLock

	origins
)

// leaderAnnotation is on Endpoints that are a lock: client-go had these up to version
// 0.26, and the mirroring controller still knows them.
const leaderAnnotation = "control-plane.alpha.kubernetes.io/leader"

func originOfSlice(s *discoveryv1.EndpointSlice) origin {
	switch s.Labels[discoveryv1.LabelManagedBy] {
	case "endpointslice-controller.k8s.io":
		return ofPods
	case "endpointslicemirroring-controller.k8s.io":
		return ofEndpoints
	}
	return ofAnyone
}

func originOfEndpoints(e *corev1.Endpoints) origin {
	_, isLeader := e.Annotations[leaderAnnotation]
	switch {
	case isLeader:
		return isLock
	case e.Labels[discoveryv1.LabelSkipMirror] == "true":
		return isUnmirrored
	}
	return isEndpoints
}

// counting returns those of a Service's EndpointSlices and Endpoints that count. What
// is made of other objects counts only where these are not there.
func (l *linked) counting() []*object {
	there := l.origins()
	return slices.DeleteFunc(slices.Clone(l.given), func(o *object) bool {
		return l.inPlaceOf(o.value.(*endpoints).origin, there) != ""
	})
}

// origins says of which there is an EndpointSlice or Endpoints for the Service.
func (l *linked) origins() (there [origins]bool) {
	for _, o := range l.given {
		there[o.value.(*endpoints).origin] = true
	}
	return there
}

// inPlaceOf says why objects of an origin do not count, beside those of the origins that
// are there; "" if they do.
func (l *linked) inPlaceOf(made origin, there [origins]bool) string {
	selects := len(l.object.value.(*service).selector) > 0
	switch {
	case made == ofAnyone:
		return ""
	case made == isLock:
		return fmt.Sprintf("the annotation %s makes this a lock, by which a leader is elected: if these are endpoints, remove it", leaderAnnotation)
	case len(l.pods) > 0:
		return "the Pods that the selector of the Service matches are here and count, and none of them has it: write its Pod or an EndpointSlice of your own, or remove it here"
	case made == ofPods:
		return ""
	case selects && there[ofPods]:
		return "EndpointSlices made of the Pods of the Service are here and count, and none of them has it: write its Pod or an EndpointSlice of your own, or remove it here"
	case made == ofEndpoints && (there[isEndpoints] || there[isUnmirrored] || there[isLock]):
		return "this is a mirror of the Endpoints with the name of the Service, which are here and count: write it there, or remove it here"
	case made == isUnmirrored && !selects && (there[ofAnyone] || there[ofPods]):
		return fmt.Sprintf("with the label %s the EndpointSlices of the Service are here and count, and none of them has it: write it in one, or remove the label", discoveryv1.LabelSkipMirror)
	}
	return ""
}

// leftOut tells the addresses that the Service would have if all that is given counted.
func (l *linked) leftOut() (told []Problem) {
	there := l.origins()
	for _, o := range l.given {
		e := o.value.(*endpoints)
		why := l.inPlaceOf(e.origin, there)
		if why == "" {
			continue
		}
		switch lost := l.without(e.list); len(lost) {
		case 0:
		case 1:
			told = append(told, o.problem(Notice, fmt.Errorf("address %s is left out: %s", lost[0], why)))
		default:
			told = append(told, o.problem(Notice, fmt.Errorf("address %s (and %d more) is left out: %s", lost[0], len(lost)-1, why)))
		}
	}
	return told
}

// without returns the addresses in a list that the Service does not have.
func (l *linked) without(list []cluster.Endpoint) []netip.Addr {
	var lost []netip.Addr
	for i := range list {
		addr := list[i].Addr
		_, has := slices.BinarySearchFunc(l.service.Endpoints, addr, func(e cluster.Endpoint, a netip.Addr) int { return e.Addr.Compare(a) })
		if !has {
			lost = append(lost, addr)
		}
	}
	slices.SortFunc(lost, netip.Addr.Compare)
	return slices.Compact(lost)
}
