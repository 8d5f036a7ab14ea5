package plan

import (
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
	// Proxy selects the Services that are for this one.
	Proxy cluster.Proxy
}

// Node is the Node that the plan is for, as far as plans depend on it. The zero
// value: nothing is local, and no hint is meant for this node.
type Node struct {
	Name, Zone string
	Addresses  []netip.Addr
	PodCIDRs   []netip.Prefix
}

// NodeOf returns what plans need of a Node object.
func NodeOf(n *cluster.Node) Node {
	return Node{Name: n.Name, Zone: n.Zone, Addresses: n.Addresses, PodCIDRs: n.PodCIDRs}
}

// Equal reports whether plans for two Nodes are the same.
func (n Node) Equal(o Node) bool {
	return n.Name == o.Name && n.Zone == o.Zone && slices.Equal(n.Addresses, o.Addresses) && slices.Equal(n.PodCIDRs, o.PodCIDRs)
}

// isOf reports whether an endpoint is on the node.
func (n *Node) isOf(e *cluster.Endpoint) bool { return n.Name != "" && e.NodeName() == n.Name }

// Compute returns the plan for a Service in one IP family on a node. What the
// Service asks for beyond the bounds (MaxFrontends, MaxRules) is left out.
func Compute(service *cluster.Service, family cluster.Family, node Node, options Options) Service {
	return compute(service, &choice{family: family, node: node}, options)
}

func compute(service *cluster.Service, c *choice, options Options) Service {
	out := Service{Name: service.Name}
	vip := service.ClusterIP(c.family)
	if service.Proxy != options.Proxy || !vip.IsValid() {
		return out
	}
	var over excess
	outside := options.outside(service, c)
	ports := boundPorts(service.Ports, &outside, &over)
	out.expand(ports, vip, service, options.treatments(service, &outside, c), &outside, &over)
	c.pool = -1
	taking := c.takingPackets(service)
	if port := service.External.HealthCheckNodePort; port != 0 {
		out.HealthCheck = HealthCheck{NodePort: port, Local: readyHere(taking, c)}
	}
	c.prepare(taking)
	out.fill(ports, boundPairs(taking, len(ports), c, &over), c, &over)
	out.Excess = over.String()
	return out
}

// outside is how clients outside the cluster reach a Service, but for its NodePorts.
type outside struct {
	ips, loadBalancers []netip.Addr
	sources            []netip.Prefix
	fromNode           bool
}

func (o *Options) outside(service *cluster.Service, c *choice) outside {
	given := &service.External
	other := func(a netip.Addr) bool { return cluster.FamilyOf(a) != c.family }
	out := outside{
		ips:           slices.DeleteFunc(slices.Clone(given.IPs), other),
		loadBalancers: slices.DeleteFunc(slices.Clone(given.LoadBalancerIPs), other),
	}
	if o.NoExternalIPs {
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

// treatments are those of a Service's frontends by their kind.
func (o *Options) treatments(service *cluster.Service, out *outside, c *choice) (of [NodePort + 1]*Treatment) {
	pods := o.pods(c)
	of[ClusterIP] = &Treatment{Local: service.InternalLocal, Masquerade: Masquerade{Outside: pods}}
	if o.MasqueradeAll {
		of[ClusterIP].Masquerade = Masquerade{All: true}
	}
	// The endpoint may be on another node, which would answer past this one.
	external := Treatment{Masquerade: Masquerade{All: true}}
	if service.External.Local {
		external = Treatment{Local: true, Inside: pods}
	}
	of[ExternalIP], of[LoadBalancer], of[NodePort] = &external, &external, &external
	if len(out.sources) > 0 {
		restricted := external
		restricted.Sources, restricted.FromNode = out.sources, out.fromNode
		of[LoadBalancer] = &restricted
	}
	return of
}

// pods says who the pods are.
func (o *Options) pods(c *choice) Clients {
	ranges := o.ClusterCIDRs
	switch {
	case o.PodInterface != "":
		return Clients{Interface: o.PodInterface}
	case o.NodeCIDR:
		ranges = c.node.PodCIDRs
	}
	for _, cidr := range ranges {
		if cluster.FamilyOf(cidr.Addr()) == c.family {
			return Clients{Range: cidr}
		}
	}
	return Clients{}
}

// expand makes the frontends of all ports, each Key once, and the pools, which are
// empty. An address that is both external and a load balancer's is external.
func (s *Service) expand(ports []cluster.Port, vip netip.Addr, service *cluster.Service, of [NodePort + 1]*Treatment, out *outside, over *excess) {
	each := 1 + len(out.ips) + len(out.loadBalancers)
	if hasNodePort(ports) {
		each++
	}
	seen := make(map[Key]int)
	s.Frontends = make([]Frontend, 0, len(ports)*each)
	for i, port := range ports {
		s.Pools = append(s.Pools, Pool{Port: port.Name, Protocol: port.Protocol, AffinitySeconds: service.AffinitySeconds})
		add := func(key Key, kind Kind) {
			first, again := seen[key]
			switch {
			case again && first != i:
				over.add("%s is asked for by two ports: the port %q, which comes first, has it, and the port %q does not", key, ports[first].Name, port.Name)
			case !again:
				seen[key] = i
				s.Frontends = append(s.Frontends, Frontend{Key: key, Kind: kind, Pool: i, Treatment: of[kind]})
			}
		}
		at := func(addr netip.Addr) Key { return Key{netip.AddrPortFrom(addr, port.Port), port.Protocol} }
		add(at(vip), ClusterIP)
		for _, ip := range out.ips {
			add(at(ip), ExternalIP)
		}
		for _, ip := range out.loadBalancers {
			add(at(ip), LoadBalancer)
		}
		if port.NodePort != 0 {
			add(NodePortKey(vip, port.NodePort, port.Protocol), NodePort)
		}
	}
	s.Frontends = slices.Clip(s.Frontends)
}

// fill gives each pool its endpoints, and the frontends their verdicts.
func (s *Service) fill(ports []cluster.Port, among []cluster.Endpoint, c *choice, over *excess) {
	most := endpointsFor(len(s.Frontends), len(ports), len(s.Pools) > 0 && s.Pools[0].AffinitySeconds > 0)
	found := 0
	for i := range s.Pools {
		frontends := s.Of(i)
		var uses uses
		for _, f := range frontends {
			uses.local = uses.local || f.Local
			uses.everywhere = uses.everywhere || !f.Local || f.Kind != ClusterIP
		}
		c.pool = i
		verdicts, n := s.Pools[i].fill(ports[i], among, c, uses, most)
		for j := range frontends {
			frontends[j].Verdict = verdicts.of(frontends[j].Local)
		}
		found = max(found, n)
	}
	switch {
	case found <= most:
	case most == MaxEndpoints:
		over.add("a port has %d endpoints, and may have %d: each node uses that many of them, and not all the same; divide the pods between several Services", found, most)
	default:
		over.add("a port has %d endpoints, and may have %d with so many ports and addresses: each node uses that many of them, and not all the same; spread the ports or the addresses over several Services", found, most)
	}
}

// readyHere counts the ready endpoints on the node.
func readyHere(taking []cluster.Endpoint, c *choice) (n int) {
	var last netip.Addr
	for i := range taking {
		// They are sorted by address; one with several lists of ports is one.
		if e := &taking[i]; e.Ready && c.node.isOf(e) && e.Addr != last {
			last = e.Addr
			n++
		}
	}
	return n
}
