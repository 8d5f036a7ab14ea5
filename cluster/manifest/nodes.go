package manifest

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/cluster/convert"
	"github.com/clusterip/clusterip/cluster/validation"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// node is a Node as linking needs it.
type node struct {
	model *cluster.Node
	// ready is its condition, controlPlane its role: other Nodes' CPUs count for
	// topology-mode Auto.
	ready, controlPlane bool
	cpu                 resource.Quantity // allocatable
}

func convertNode(n *corev1.Node) (*node, error) {
	model, err := convert.Node(n)
	out := &node{model: model, cpu: *n.Status.Allocatable.Cpu()}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			out.ready = c.Status == corev1.ConditionTrue
			break
		}
	}
	_, isControlPlane := n.Labels["node-role.kubernetes.io/control-plane"]
	_, isMaster := n.Labels["node-role.kubernetes.io/master"]
	out.controlPlane = isControlPlane || isMaster
	return out, errors.Join(append(validation.Node(n), err)...)
}

// nodes is what the Nodes of the folder say, together. It is immutable.
type nodes struct {
	models map[string]*cluster.Node
	// zones has the Nodes that are in one. The endpoints on a Node share what is here.
	zones    map[string]*cluster.Topology
	capacity capacity
}

// capacity is how the CPUs of the Nodes are spread over zones, by which topology-mode
// Auto shares out endpoints.
type capacity struct {
	shares  []share // by name of the zone; none if they are not known
	unknown string  // why
}

// share is the part of all CPUs that are in a zone.
type share struct {
	zone string
	part float64 // all together 1
}

func newNodes(all map[string]*node) nodes {
	out := nodes{models: make(map[string]*cluster.Node, len(all)), zones: map[string]*cluster.Topology{}, capacity: newCapacity(all)}
	for name, n := range all {
		out.models[name] = n.model
		if n.model.Zone != "" {
			out.zones[name] = &cluster.Topology{NodeName: name, Zone: n.model.Zone}
		}
	}
	return out
}

// newCapacity counts as SetNodes of k8s.io/endpointslice/topologycache does: one Node
// of which something is not known makes all unknown.
func newCapacity(all map[string]*node) capacity {
	if len(all) == 0 {
		return capacity{unknown: "there are no Nodes here, whose zones and CPUs it goes by: write them"}
	}
	var total resource.Quantity
	zones := map[string]*resource.Quantity{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		n := all[name]
		switch {
		case n.controlPlane || !n.ready:
			continue
		case n.model.Zone == "":
			return capacity{unknown: fmt.Sprintf("Node %s has no label %s", name, corev1.LabelTopologyZone)}
		case n.cpu.Sign() <= 0:
			return capacity{unknown: fmt.Sprintf("Node %s has no status.allocatable.cpu", name)}
		case zones[n.model.Zone] == nil:
			zones[n.model.Zone] = &resource.Quantity{}
		}
		zones[n.model.Zone].Add(n.cpu)
		total.Add(n.cpu)
	}
	switch names := slices.Sorted(maps.Keys(zones)); len(names) {
	case 0:
		return capacity{unknown: `no Node counts: that takes the condition Ready "True", and no role of a control plane`}
	case 1:
		return capacity{unknown: fmt.Sprintf("all Nodes that are ready are in zone %s", names[0])}
	default:
		var c capacity
		for _, zone := range names {
			c.shares = append(c.shares, share{zone, float64(zones[zone].MilliValue()) / float64(total.MilliValue())})
		}
		return c
	}
}

func (c capacity) equal(o capacity) bool {
	return c.unknown == o.unknown && slices.Equal(c.shares, o.shares)
}

// rezoned returns the Nodes that were in another zone before, or in none, and those that
// have come or gone: notices tell a Node without a zone from one that is not there.
func (n nodes) rezoned(before nodes) map[string]bool {
	out := map[string]bool{}
	for _, name := range differing(before.models, n.models, func(_, _ *cluster.Node) bool { return true }) {
		out[name] = true
	}
	sameZone := func(a, b *cluster.Topology) bool { return a.Zone == b.Zone }
	for _, name := range differing(before.zones, n.zones, sameZone) {
		out[name] = true
	}
	return out
}

// place gives the zone of its Node to each endpoint that does not say one itself.
func (n nodes) place(endpoints []cluster.Endpoint) {
	for i := range endpoints {
		if e := &endpoints[i]; e.Zone() == "" {
			if at := n.zones[e.NodeName()]; at != nil {
				e.Topology = at
			}
		}
	}
}

// whyZoneless says why an endpoint is in no zone.
func (n nodes) whyZoneless(e *cluster.Endpoint) string {
	switch name := e.NodeName(); {
	case name == "" && e.PodName != "":
		return fmt.Sprintf("endpoint %s is in no zone: give its Pod, %s, the name of a Node in spec.nodeName", e.Addr, e.PodName)
	case name == "":
		return fmt.Sprintf("endpoint %s is in no zone: say it in its EndpointSlice", e.Addr)
	case n.models[name] == nil:
		return fmt.Sprintf("endpoint %s is in no zone: write its Node, %s, with the label %s", e.Addr, name, corev1.LabelTopologyZone)
	default:
		return fmt.Sprintf("endpoint %s is in no zone: give its Node, %s, the label %s", e.Addr, name, corev1.LabelTopologyZone)
	}
}
