package kernelnat

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// claims settles which Service has a frontend that several ask for. ClusterIPs
// have one owner each; external and load balancer addresses and NodePorts are
// chosen by people. The oldest Service has it, so that all nodes agree. Where ages
// are not known, as in manifests written by hand, the one that had it first keeps
// it, and at a start the one whose name sorts first.
type claims struct {
	ranges []netip.Prefix     // of ClusterIPs, in which no other address is taken
	shared []netip.Addr       // of all hosts of a network; see broadcasts
	owned  map[netip.Addr]int // ClusterIPs that Services have, likewise
	wanted map[cluster.ServiceName]claim
	asked  map[frontend][]cluster.ServiceName          // in the order of precedence
	askers map[netip.Addr]map[cluster.ServiceName]bool // of any port of an address
}

// claim is what one Service asks for.
type claim struct {
	created time.Time
	plan    plan.Service
}

// frontend is an address and port that packets are sent to; a NodePort is at the
// unspecified address.
type frontend struct {
	protocol cluster.Protocol
	at       netip.AddrPort
}

// String returns "203.0.113.7:80/TCP", or "NodePort 30080/TCP".
func (f frontend) String() string {
	if f.at.Addr().IsUnspecified() {
		return fmt.Sprintf("NodePort %d/%s", f.at.Port(), f.protocol)
	}
	return fmt.Sprintf("%s/%s", f.at, f.protocol)
}

func newClaims() *claims {
	return &claims{
		owned: make(map[netip.Addr]int), wanted: make(map[cluster.ServiceName]claim),
		asked: make(map[frontend][]cluster.ServiceName), askers: make(map[netip.Addr]map[cluster.ServiceName]bool),
	}
}

// own notes that one Service more, or less, has a ClusterIP. It returns the Services to
// which that makes a difference: those that ask for the same address.
func (c *claims) own(ip netip.Addr, more int) (others []cluster.ServiceName) {
	before := c.owned[ip]
	if c.owned[ip] += more; c.owned[ip] == 0 {
		delete(c.owned, ip)
	}
	if (before == 0) == (c.owned[ip] == 0) {
		return nil
	}
	return slices.Collect(maps.Keys(c.askers[ip]))
}

// setAskers notes who asks for an address, whatever the port.
func (c *claims) setAskers(name cluster.ServiceName, old, now map[frontend]bool) {
	for at := range addressesOf(old) {
		if delete(c.askers[at], name); len(c.askers[at]) == 0 {
			delete(c.askers, at)
		}
	}
	for at := range addressesOf(now) {
		if c.askers[at] == nil {
			c.askers[at] = make(map[cluster.ServiceName]bool)
		}
		c.askers[at][name] = true
	}
}

// addressesOf are those of frontends, but for NodePorts.
func addressesOf(frontends map[frontend]bool) map[netip.Addr]bool {
	out := make(map[netip.Addr]bool)
	for f := range frontends {
		if at := f.at.Addr(); !at.IsUnspecified() {
			out[at] = true
		}
	}
	return out
}

// set replaces what a Service asks for and returns the other Services to which
// that makes a difference: those that lose or get a frontend by it.
func (c *claims) set(name cluster.ServiceName, created time.Time, p plan.Service) (others []cluster.ServiceName) {
	old, known := c.wanted[name]
	holders := make(map[frontend]cluster.ServiceName) // before, of what the Service asks for
	had := make(map[frontend]bool)
	for f := range frontendsOf(old.plan) {
		holders[f] = c.asked[f][0]
		had[f] = known && old.created.Equal(created) && holders[f] == name
	}
	wanted := frontendsOf(p)
	c.setAskers(name, frontendsOf(old.plan), wanted)
	for f := range wanted {
		if asked := c.asked[f]; len(asked) > 0 {
			holders[f] = asked[0]
		}
	}
	if delete(c.wanted, name); slices.ContainsFunc(p.Ports, func(p plan.Port) bool { return p.External.Any() }) {
		c.wanted[name] = claim{created, p}
	}
	for f := range frontendsOf(old.plan) {
		c.asked[f] = slices.DeleteFunc(c.asked[f], func(n cluster.ServiceName) bool { return n == name })
		if len(c.asked[f]) == 0 {
			delete(c.asked, f)
		}
	}
	for f := range wanted {
		c.asked[f] = slices.Insert(c.asked[f], c.placeIn(c.asked[f], name, had[f]), name)
	}
	affected := make(map[cluster.ServiceName]bool)
	for f, before := range holders {
		if asked := c.asked[f]; len(asked) > 0 && asked[0] != before {
			affected[before], affected[asked[0]] = true, true
		}
	}
	delete(affected, name)
	return slices.SortedFunc(maps.Keys(affected), cluster.ServiceName.Compare)
}

// placeIn returns where a Service stands among those that ask for a frontend: after
// those that are older. Where it is not known which that is, it stands after the
// others, unless it had the frontend before.
func (c *claims) placeIn(asked []cluster.ServiceName, name cluster.ServiceName, had bool) int {
	for i, other := range asked {
		if order := c.byAge(name, other); order < 0 || order == 0 && had {
			return i
		}
	}
	return len(asked)
}

// byAge puts the older Service first, and those of unknown age last. Of those that
// were created in one second all nodes, whenever they started, choose the same.
func (c *claims) byAge(a, b cluster.ServiceName) int {
	x, y := c.wanted[a].created, c.wanted[b].created
	switch {
	case x.IsZero() && y.IsZero():
		return 0
	case x.IsZero():
		return 1
	case y.IsZero():
		return -1
	}
	return cmp.Or(x.Compare(y), a.Compare(b))
}

func frontendsOf(p plan.Service) map[frontend]bool {
	out := make(map[frontend]bool)
	for _, port := range p.Ports {
		e := &port.External
		for _, ip := range slices.Concat(e.IPs, e.LoadBalancers) {
			out[frontend{port.Protocol, netip.AddrPortFrom(ip, port.Frontend.Port())}] = true
		}
		if e.NodePort != 0 {
			out[nodePort(port.Frontend.Addr(), port.Protocol, e.NodePort)] = true
		}
	}
	return out
}

func nodePort(like netip.Addr, protocol cluster.Protocol, port uint16) frontend {
	unspecified := netip.IPv4Unspecified()
	if like.Is6() {
		unspecified = netip.IPv6Unspecified()
	}
	return frontend{protocol, netip.AddrPortFrom(unspecified, port)}
}

// refusal is a frontend that a Service does not get.
type refusal struct {
	frontend frontend
	holder   cluster.ServiceName // whose it is; zero: it is a ClusterIP or in the range of them
	shared   bool                // it is every host's
}

// String says why, for a log.
func (r refusal) String() string {
	if r.shared {
		return fmt.Sprintf("%s is the broadcast address of a network of this node: choose an address of its own", r.frontend)
	}
	if r.holder == (cluster.ServiceName{}) {
		return fmt.Sprintf("%s is a ClusterIP, or in the range of them: choose an address outside it", r.frontend)
	}
	return fmt.Sprintf("%s belongs to Service %s, which is older or had it first: choose another", r.frontend, r.holder)
}

// grant returns the plan of a Service without the frontends that it does not get.
func (c *claims) grant(p plan.Service) (plan.Service, []refusal) {
	if _, any := c.wanted[p.Name]; !any {
		return p, nil
	}
	var refused []refusal
	lost := func(f frontend) bool {
		r := refusal{frontend: f}
		if r.shared = slices.Contains(c.shared, f.at.Addr()); r.shared {
			refused = append(refused, r)
			return true
		}
		taken := c.owned[f.at.Addr()] > 0 || slices.ContainsFunc(c.ranges, func(r netip.Prefix) bool { return r.Contains(f.at.Addr()) })
		if holder := c.asked[f][0]; !taken && holder != p.Name {
			r.holder, taken = holder, true
		}
		if taken {
			refused = append(refused, r)
		}
		return taken
	}
	out := p
	out.Ports = slices.Clone(p.Ports)
	for i := range out.Ports {
		port := &out.Ports[i]
		e := &port.External
		lostIP := func(ip netip.Addr) bool {
			return lost(frontend{port.Protocol, netip.AddrPortFrom(ip, port.Frontend.Port())})
		}
		e.IPs = slices.DeleteFunc(slices.Clone(e.IPs), lostIP)
		e.LoadBalancers = slices.DeleteFunc(slices.Clone(e.LoadBalancers), lostIP)
		if e.NodePort != 0 && lost(nodePort(port.Frontend.Addr(), port.Protocol, e.NodePort)) {
			e.NodePort = 0
		}
		if !e.Any() {
			*e = plan.External{}
		}
	}
	return out, refused
}

// maxRefusals is how many frontends that one Service does not get are told one by one.
const maxRefusals = 5

// shortfall is what a Service asks for and does not get, in words.
type shortfall struct {
	texts     []string
	frontends int
}

// shortfallOf describes what a Service does not get: frontends that others have, and
// what is more than one Service may have.
func shortfallOf(p plan.Service, refused []refusal) shortfall {
	out := shortfall{frontends: len(refused)}
	for _, r := range refused[:min(len(refused), maxRefusals)] {
		out.texts = append(out.texts, r.String())
	}
	if n := len(refused) - maxRefusals; n > 0 {
		out.texts = append(out.texts, fmt.Sprintf("%d more frontends are refused for such reasons", n))
	}
	if p.Excess != "" {
		out.texts = append(out.texts, p.Excess)
	}
	return out
}

// Refusals says what Services would not get at a start, in words.
func Refusals(u cluster.Update, family cluster.Family, options Options) []string {
	c := newClaims()
	options.Family = family
	c.ranges = rangesOf(u, &options).undisputed()
	var plans []plan.Service
	for _, s := range u.Services {
		if ip := clusterIP(s.Service, family); ip.IsValid() {
			c.own(ip, 1)
		}
		p := plan.Compute(s.Service, family, plan.Node{Name: options.NodeName}, options.Plan)
		c.set(p.Name, s.Service.Created, p)
		plans = append(plans, p)
	}
	var out []string
	for _, p := range plans {
		_, refused := c.grant(p)
		for _, text := range shortfallOf(p, refused).texts {
			out = append(out, fmt.Sprintf("Service %s: %s", p.Name, text))
		}
	}
	return out
}
