package plan

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
)

// Options are the settings that shape plans; they are the same for all Services.
type Options struct {
	// ClusterCIDRs are the pod ranges, at most one of each family. Clients
	// outside the range of their family are masqueraded on their way to a
	// ClusterIP. Without a range none is.
	ClusterCIDRs []netip.Prefix
	// NodeCIDR has the Node's own pod ranges count in place of ClusterCIDRs.
	NodeCIDR bool
	// PodInterface has packets from this interface count as pods' instead; see
	// Clients.
	PodInterface string
	// MasqueradeAll masquerades every client of a ClusterIP.
	MasqueradeAll bool
	// NoExternalIPs leaves spec.externalIPs out: whoever may create a Service can
	// take over any address with them (CVE-2020-8554).
	NoExternalIPs bool
	// Healthz is the TCP port at which this program tells how it is; 0: none. No Service
	// gets it on this node.
	Healthz uint16
	// Proxy selects the Services that are for this one.
	Proxy cluster.Proxy
	// Bounds are those of the backend.
	Bounds Bounds
	// Policy is that of Services that do not say theirs.
	Policy cluster.Policy
	// Lacks are the policies that the backend does not have.
	Lacks []cluster.Policy
	// Missing, if not nil, says why the kernel cannot choose by a policy that the backend has.
	Missing func(cluster.Policy) error
	// StickyAtRandom says that the backend chooses at random, by weights, where clients keep
	// their endpoint.
	StickyAtRandom bool
}

// Node is the Node that the plan is for, as far as plans depend on it. The zero
// value: nothing is local, and no hint is meant for this node.
type Node struct {
	Name, Zone string
	Addresses  []netip.Addr
	PodCIDRs   []netip.Prefix
}

// NodeOf returns what plans need of the Node of that name, nil if there is none.
func NodeOf(name string, n *cluster.Node) Node {
	if n == nil {
		return Node{Name: name}
	}
	return Node{Name: n.Name, Zone: n.Zone, Addresses: n.Addresses, PodCIDRs: n.PodCIDRs}
}

// Equal reports whether plans for two Nodes are the same.
func (n Node) Equal(o Node) bool {
	return n.Name == o.Name && n.Zone == o.Zone && slices.Equal(n.Addresses, o.Addresses) && slices.Equal(n.PodCIDRs, o.PodCIDRs)
}

// isOf reports whether an endpoint is on the node.
func (n *Node) isOf(e *cluster.Endpoint) bool { return n.Name != "" && e.NodeName() == n.Name }

// Compute returns the plan for a Service in one IP family on a node. What the
// Service asks for beyond the bounds (MaxFrontends, Options.Bounds) is left out.
func Compute(service *cluster.Service, family cluster.Family, node Node, options Options) Service {
	return compute(service, &choice{family: family, node: node}, options)
}

func compute(service *cluster.Service, chosen *choice, options Options) Service {
	c := computation{choice: chosen, options: &options, service: service, clusterIP: service.ClusterIP(chosen.family), out: Service{Name: service.Name}}
	if service.Proxy != options.Proxy || !c.clusterIP.IsValid() {
		return c.out
	}
	c.out.HealthCheckNodePort = service.External.HealthCheckNodePort
	c.outside = c.outsideOf()
	bounds := options.Bounds
	if bounds == (Bounds{}) {
		bounds = DefaultBounds
	}
	ports := bounds.boundPorts(service.Ports, &c.outside, &c.over)
	c.treatments = c.treatmentsOf()
	c.expand(ports, c.policy())
	c.checkHealth()
	c.pool = -1
	if service.HasWeights() {
		chosen.weight = service.WeightOf
	}
	taking := c.takingPackets(service)
	c.prepare(taking)
	c.fill(ports, boundPairs(taking, len(ports), c.choice, &c.over), bounds)
	bounds.boundSlots(&c.out, &c.over)
	c.out.Excess = c.over.String()
	return c.out
}

// computation is the making of one plan.
type computation struct {
	*choice
	options    *Options
	service    *cluster.Service
	clusterIP  netip.Addr
	outside    outside
	treatments [NodePort + 1]*Treatment // of frontends, by their kind
	over       excess
	out        Service
}

// outside is how clients outside the cluster reach a Service, but for its NodePorts.
type outside struct {
	ips, loadBalancers []netip.Addr
	sources            []netip.Prefix
	fromNode           bool
}

func (c *computation) outsideOf() outside {
	given := &c.service.External
	other := func(a netip.Addr) bool { return cluster.FamilyOf(a) != c.family }
	out := outside{
		ips:           slices.DeleteFunc(slices.Clone(given.IPs), other),
		loadBalancers: slices.DeleteFunc(slices.Clone(given.LoadBalancerIPs), other),
	}
	if c.options.NoExternalIPs {
		out.ips = nil
	}
	for _, r := range given.SourceRanges {
		switch {
		case cluster.FamilyOf(r.Addr()) != c.family:
		case r.Bits() == 0:
			// One range that holds everybody is as good as none.
			out.sources, out.fromNode = nil, false
			return out
		default:
			out.sources = append(out.sources, r)
			out.fromNode = out.fromNode || slices.ContainsFunc(c.node.Addresses, r.Contains)
		}
	}
	return out
}

func (c *computation) treatmentsOf() (of [NodePort + 1]*Treatment) {
	pods := c.pods()
	of[ClusterIP] = &Treatment{Local: c.service.InternalLocal, Masquerade: Masquerade{Outside: pods}}
	if c.options.MasqueradeAll {
		of[ClusterIP].Masquerade = Masquerade{All: true}
	}
	// The endpoint may be on another node, which would answer past this one.
	external := Treatment{Masquerade: Masquerade{All: true}}
	if c.service.External.Local {
		external = Treatment{Local: true, Inside: pods}
	}
	of[ExternalIP], of[LoadBalancer], of[NodePort] = &external, &external, &external
	if len(c.outside.sources) > 0 {
		restricted := external
		restricted.Sources, restricted.FromNode = c.outside.sources, c.outside.fromNode
		of[LoadBalancer] = &restricted
	}
	return of
}

// pods says who the pods are.
func (c *computation) pods() Clients {
	ranges := c.options.ClusterCIDRs
	switch {
	case c.options.PodInterface != "":
		return Clients{Interface: c.options.PodInterface}
	case c.options.NodeCIDR:
		ranges = c.node.PodCIDRs
	}
	for _, cidr := range ranges {
		if cluster.FamilyOf(cidr.Addr()) == c.family {
			return Clients{Range: cidr}
		}
	}
	return Clients{}
}

// policy is how endpoints take turns. Random takes the place of what the backend or the kernel lacks.
func (c *computation) policy() cluster.Policy {
	policy, own := c.options.Policy, c.service.Policy
	if own != nil {
		policy = *own
	}
	lacks := c.options.lacking(policy)
	if own != nil {
		switch {
		case lacks != nil:
			c.over.add("annotation clusterip.io/load-balancing: %v, so connections go to random endpoints: choose another policy, or another backend", lacks)
		case policy != cluster.Random && c.options.StickyAtRandom && c.service.AffinitySeconds > 0:
			c.over.add("annotation clusterip.io/load-balancing %q: with sessionAffinity ClientIP this backend chooses a client's endpoint at random, by weights: take the annotation or sessionAffinity off, or say random", policy)
		}
	}
	if lacks != nil {
		return cluster.Random
	}
	return policy
}

// lacking says why endpoints cannot take turns so, nil if they can.
func (o *Options) lacking(policy cluster.Policy) error {
	if slices.Contains(o.Lacks, policy) {
		return fmt.Errorf("this backend has no %s", policy)
	}
	if o.Missing == nil {
		return nil
	}
	return o.Missing(policy)
}

// expand makes the frontends of all ports, each Key once, and the pools, which are
// empty. An address that is both external and a load balancer's is external.
func (c *computation) expand(ports []cluster.Port, policy cluster.Policy) {
	each := 1 + len(c.outside.ips) + len(c.outside.loadBalancers)
	if hasNodePort(ports) {
		each++
	}
	seen := make(map[Key]int)
	frontends := make([]Frontend, 0, len(ports)*each)
	for i, port := range ports {
		c.out.Pools = append(c.out.Pools, Pool{Port: port.Name, Protocol: port.Protocol, AffinitySeconds: c.service.AffinitySeconds, Policy: policy})
		add := func(key Key, kind Kind) {
			first, again := seen[key]
			switch {
			case again && first != i:
				c.over.add("%s is asked for by two ports: the first, %q, has it; give the port %q another", key, ports[first].Name, port.Name)
			case !again:
				seen[key] = i
				frontends = append(frontends, Frontend{Key: key, Kind: kind, Pool: i, Treatment: c.treatments[kind]})
			}
		}
		at := func(addr netip.Addr) Key { return Key{netip.AddrPortFrom(addr, port.Port), port.Protocol} }
		add(at(c.clusterIP), ClusterIP)
		for _, ip := range c.outside.ips {
			add(at(ip), ExternalIP)
		}
		for _, ip := range c.outside.loadBalancers {
			add(at(ip), LoadBalancer)
		}
		if port.NodePort != 0 {
			add(NodePortKey(c.family, port.NodePort, port.Protocol), NodePort)
		}
	}
	c.out.Frontends = slices.Clip(frontends)
}

// checkHealth leaves a healthCheckNodePort out that is a NodePort of the Service itself.
func (c *computation) checkHealth() {
	key := c.out.healthCheck(c.family)
	if slices.ContainsFunc(c.out.Frontends, func(f Frontend) bool { return f.Key == key }) {
		c.over.add("healthCheckNodePort %d is a NodePort of the Service itself: give one of them another", key.At.Port())
		c.out.HealthCheckNodePort = 0
	}
}

// fill gives each pool its endpoints, and the frontends their verdicts.
func (c *computation) fill(ports []cluster.Port, among []cluster.Endpoint, bounds Bounds) {
	most := bounds.endpointsFor(len(c.out.Frontends), len(ports), c.service.AffinitySeconds > 0)
	found := 0
	for i := range c.out.Pools {
		frontends := c.out.Of(i)
		var uses uses
		for _, f := range frontends {
			uses.local = uses.local || f.Local
			uses.everywhere = uses.everywhere || !f.Local || f.Kind != ClusterIP
		}
		c.pool = i
		verdicts, n := c.out.Pools[i].fill(ports[i], among, c.choice, uses, most)
		for j := range frontends {
			frontends[j].Verdict = verdicts.of(frontends[j].Local)
		}
		found = max(found, n)
	}
	switch {
	case found <= most:
	case most == bounds.Endpoints:
		c.over.add("a port has %d endpoints, and may have %d: each node uses that many of them, and not all the same; divide the pods between several Services", found, most)
	default:
		c.over.add("a port has %d endpoints, and may have %d with so many ports and addresses: each node uses that many of them, and not all the same; spread the ports or the addresses over several Services", found, most)
	}
}
