package kernelnat

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// NodeOptions are what is said of this node where it is configured.
type NodeOptions struct {
	Name string
	// Registered says that every node has a Node object, as at an API server. In a
	// folder it has one if any has.
	Registered bool
	// NodeCIDR is that of plan.Options.
	NodeCIDR bool
	// Nowhere, if not nil, says if NodePorts are at no address of this node.
	Nowhere func(plan.Node) error
}

// NodeFault is something wrong with the Node, or with what is said of this node.
type NodeFault struct {
	error
	// Option is the one of kernelnat that mends it.
	Option string
	// Doubt says that all may be as it should.
	Doubt bool
}

// NodeFaults says what is wrong with the Node in a state of the Store.
func NodeFaults(u cluster.Update, options NodeOptions) (all []NodeFault) {
	v := newNodeView(options)
	v.apply(u)
	if err := v.missing(); err != nil {
		all = append(all, NodeFault{err, "node_name", false})
	} else if err := v.lacksPodCIDRs(); err != nil { // which follows from the other
		all = append(all, NodeFault{err, "detect_local", false})
	}
	if err := v.unused(); err != nil {
		all = append(all, NodeFault{err, "node_name", true})
	}
	if err := v.nowhere(); err != nil {
		all = append(all, NodeFault{err, "nodeport_addresses", true})
	}
	return all
}

// PlanNode returns what plans know of the Node of that name, in a state of the Store.
func PlanNode(u cluster.Update, name string) plan.Node {
	v := newNodeView(NodeOptions{Name: name})
	v.apply(cluster.Update{Nodes: u.Nodes})
	return plan.NodeOf(name, v.node)
}

// AwaitsNode says what has to come, in a state of the Store, before anything is written.
func AwaitsNode(u cluster.Update, options NodeOptions) error {
	v := newNodeView(options)
	v.apply(u)
	return v.waitsFor()
}

// nodeView is what the objects say of this node.
type nodeView struct {
	NodeOptions
	node       *cluster.Node
	kept       []netip.Prefix               // of its podCIDRs, see keepPodCIDRs
	others     map[string]bool              // names of other Nodes; it is true of each, as below
	local      map[cluster.ServiceName]bool // Services whose policy is Local
	here       map[cluster.ServiceName]bool // Services that have endpoints on this node
	incomplete bool
	begun      bool // it has been known who is a pod
	asked      time.Time
	lost       error // what Nowhere said then
}

func newNodeView(o NodeOptions) nodeView {
	return nodeView{NodeOptions: o, others: make(map[string]bool), local: make(map[cluster.ServiceName]bool), here: make(map[cluster.ServiceName]bool)}
}

// apply takes over an Update.
func (v *nodeView) apply(u cluster.Update) {
	v.incomplete = u.Incomplete
	for _, c := range u.Nodes {
		switch {
		case c.Name == v.Name:
			if v.node = c.Node; c.Node != nil {
				v.kept = keepPodCIDRs(v.kept, c.Node.PodCIDRs)
			}
		case c.Node != nil:
			v.others[c.Name] = true
		default:
			delete(v.others, c.Name)
		}
	}
	v.begun = v.begun || v.lacksPodCIDRs() == nil
	if !v.Registered { // or else nothing is told by Services
		v.applyServices(u.Services)
	}
}

func (v *nodeView) applyServices(changed []cluster.ServiceUpdate) {
	for _, c := range changed {
		delete(v.local, c.Name)
		delete(v.here, c.Name)
		if c.Service == nil {
			continue
		}
		if slices.ContainsFunc(c.Service.Endpoints, func(e cluster.Endpoint) bool { return e.NodeName() == v.Name }) {
			v.here[c.Name] = true
		}
		if s := c.Service; len(s.Endpoints) > 0 && s.Kind == cluster.KindClusterIP && (s.InternalLocal || s.External.Local) {
			v.local[c.Name] = true
		}
	}
}

// missing says that there is no Node of the name, though there should be.
func (v *nodeView) missing() error {
	switch {
	case v.node != nil || v.incomplete || !v.Registered && len(v.others) == 0:
		return nil
	case v.Registered:
		return fmt.Errorf("no Node is called %q: %s. %s", v.Name, effectOfMissing, mendName)
	}
	names := slices.Sorted(maps.Keys(v.others))
	more := ""
	if n := len(names) - maxShown; n > 0 {
		names, more = names[:maxShown], fmt.Sprintf(" and %d more", n)
	}
	return fmt.Errorf("no Node is called %q, only %s%s: %s. %s", v.Name, strings.Join(names, ", "), more, effectOfMissing, mendName)
}

const effectOfMissing = "no endpoint of another nodeName counts as local, so Services whose traffic policy is Local may drop connections here, and /healthz tells load balancers to send nothing"

const mendName = "Set the option node_name of kernelnat to the name of this machine's Node (without the option it is $NODE_NAME, or else the host's name), or add the Node"

const mendPodCIDRs = "give the Node spec.podCIDRs, as Kubernetes' controller does with --allocate-node-cidrs, or say who is a pod by cluster_cidr or by another detect_local"

// unused says that no endpoint is on this node, though there are Services whose policy is
// Local.
func (v *nodeView) unused() error {
	if v.Registered || v.node != nil || len(v.others) > 0 || v.incomplete || len(v.local) == 0 || len(v.here) > 0 {
		return nil
	}
	first := slices.MinFunc(slices.Collect(maps.Keys(v.local)), cluster.ServiceName.Compare)
	more := ""
	if n := len(v.local) - 1; n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return fmt.Errorf("no endpoint's nodeName is %q, so Services whose policy is Local drop connections here: %s%s. If this machine has another name as a Node, set the option node_name of kernelnat to it (without the option it is $NODE_NAME, or else the host's name)",
		v.Name, first, more)
}

// nowhere says that NodePorts lead nowhere. The kernel, which has to be asked for that, is
// not asked with each Update.
func (v *nodeView) nowhere() error {
	if v.Nowhere == nil || v.incomplete {
		return nil
	}
	if now := time.Now(); now.Sub(v.asked) >= nodeWait/2 {
		v.asked, v.lost = now, v.Nowhere(plan.NodeOf(v.Name, v.node))
	}
	return v.lost
}

// keepPodCIDRs returns the pod ranges of a Node after a change: where it has none of a
// family any more, those that it had. Without any nobody would be masqueraded, and
// clients outside the pods would get no answers.
func keepPodCIDRs(had, has []netip.Prefix) []netip.Prefix {
	out := slices.Clone(has)
	for _, p := range had {
		if !slices.ContainsFunc(has, func(o netip.Prefix) bool { return cluster.FamilyOf(o.Addr()) == cluster.FamilyOf(p.Addr()) }) {
			out = append(out, p)
		}
	}
	return out
}

// lostPodCIDRs says that a Node has no ranges of a family any more.
func (v *nodeView) lostPodCIDRs() error {
	if !v.NodeCIDR || v.incomplete {
		return nil
	}
	var has []netip.Prefix
	if v.node != nil {
		has = v.node.PodCIDRs
	}
	lost := slices.DeleteFunc(slices.Clone(v.kept), func(p netip.Prefix) bool { return slices.Contains(has, p) })
	if len(lost) == 0 {
		return nil
	}
	return fmt.Errorf("detect_local is node_cidr, and Node %s has no spec.podCIDRs any more of the family of %v, which therefore still say who is a pod, until it has others or kernelnat starts anew: %s", v.Name, lost, mendPodCIDRs)
}

// waitsFor says what has to come before anything is written.
func (v *nodeView) waitsFor() error {
	if v.begun {
		return nil
	}
	return fmt.Errorf("NAT waits, and the kernel's rules stay as they are: %w", v.lacksPodCIDRs())
}

// lacksPodCIDRs says why it is not known who is a pod. As with kube-proxy one range of
// the Node's first family is enough; clients of a family without are not masqueraded.
func (v *nodeView) lacksPodCIDRs() error {
	switch {
	case !v.NodeCIDR:
		return nil
	case v.node == nil:
		return fmt.Errorf("detect_local is node_cidr, and there is no Node %q: correct node_name, or add the Node", v.Name)
	case len(v.node.PodCIDRs) == 0:
		return fmt.Errorf("detect_local is node_cidr, and Node %s has no spec.podCIDRs: %s", v.Name, mendPodCIDRs)
	}
	family := cluster.IPv4
	if len(v.node.Addresses) > 0 {
		family = cluster.FamilyOf(v.node.Addresses[0])
	}
	if !slices.ContainsFunc(v.node.PodCIDRs, func(p netip.Prefix) bool { return cluster.FamilyOf(p.Addr()) == family }) {
		return fmt.Errorf("detect_local is node_cidr, and Node %s, whose first address is of %s, has spec.podCIDRs %v, of the other family alone: %s", v.Name, family, v.node.PodCIDRs, mendPodCIDRs)
	}
	return nil
}
