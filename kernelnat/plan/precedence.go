package plan

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"sort"

	"github.com/clusterip/clusterip/cluster"
)

// precedence settles who has a frontend that several Services ask for. A ClusterIP that
// exists comes before every other address, at whatever port. External and load balancer
// addresses and NodePorts are chosen by people: the oldest Service has one, so that all
// nodes agree. Where ages are not known, as in manifests written by hand, the one that
// had it first keeps it, and at a start the one whose name sorts first. A
// healthCheckNodePort is decided with the NodePorts of TCP: this node answers there itself.
type precedence struct {
	family     cluster.Family
	healthz    uint16                  // the TCP port that is this program's own; 0: none
	asked      map[Key][]*entry        // in the order of precedence
	at         map[netip.Addr][]*entry // who asks for an address as an external one, whatever the port
	clusterIPs map[netip.Addr]int      // how many Services have it, those without frontends too
	closed     []netip.Prefix          // ranges of ClusterIPs in which no other address is taken
	broadcasts []netip.Addr            // of this node's networks
}

func newPrecedence(family cluster.Family, healthz uint16) precedence {
	return precedence{family: family, healthz: healthz, asked: make(map[Key][]*entry), at: make(map[netip.Addr][]*entry), clusterIPs: make(map[netip.Addr]int)}
}

// set replaces what an entry asks for, nil for nothing, and its age. touch is called for each
// other entry that loses or gets a frontend by it.
func (p *precedence) set(e *entry, service *cluster.Service, asked *Service, touch func(*entry)) {
	p.own(e.service.ClusterIP(p.family), service.ClusterIP(p.family), touch)
	same := e.service != nil && service != nil && e.service.Created.Equal(service.Created)
	before := e.asked
	e.service, e.asked = service, asked
	if same && slices.EqualFunc(before.frontends(), asked.frontends(), sameClaim) && before.healthCheck(p.family) == asked.healthCheck(p.family) {
		return
	}
	stays := make(map[claim]bool)
	if same {
		for c := range p.claims(asked) {
			stays[c] = false // not known yet
		}
	}
	for c := range p.claims(before) {
		if _, asks := stays[c]; asks {
			stays[c] = true
		} else {
			p.leave(e, c.Key, touch)
		}
	}
	for c := range p.claims(asked) {
		if !stays[c] {
			p.join(e, c.Key, touch)
		}
	}
	p.setAddresses(e, before.frontends(), asked.frontends())
}

// claims are what a plan, which may be nil, asks for: frontends, and a healthCheckNodePort as
// if it were a NodePort.
func (p *precedence) claims(s *Service) iter.Seq[claim] {
	return func(yield func(claim) bool) {
		for _, f := range s.frontends() {
			if !yield(claim{f.Key, f.Kind == ClusterIP}) {
				return
			}
		}
		if key := s.healthCheck(p.family); key != (Key{}) {
			yield(claim{Key: key})
		}
	}
}

// frontends are those of a plan that may be nil.
func (s *Service) frontends() []Frontend {
	if s == nil {
		return nil
	}
	return s.Frontends
}

// healthCheck is where this node tells load balancers of a Service, in a plan that may be
// nil; the zero Key for nowhere.
func (s *Service) healthCheck(family cluster.Family) Key {
	if s == nil || s.HealthCheckNodePort == 0 {
		return Key{}
	}
	return NodePortKey(family, s.HealthCheckNodePort, cluster.TCP)
}

// claim is what decides over precedence, besides the Service.
type claim struct {
	Key
	clusterIP bool
}

// sameClaim is for frontends of one Service, of which each Key has one.
func sameClaim(a, b Frontend) bool { return a.Key == b.Key && a.Kind == b.Kind }

// own notes that a Service has another ClusterIP. Either may be the zero Addr.
func (p *precedence) own(before, now netip.Addr, touch func(*entry)) {
	if before == now {
		return
	}
	if before.IsValid() {
		if p.clusterIPs[before]--; p.clusterIPs[before] == 0 {
			delete(p.clusterIPs, before)
			touchAll(p.at[before], touch)
		}
	}
	if now.IsValid() {
		if p.clusterIPs[now]++; p.clusterIPs[now] == 1 {
			touchAll(p.at[now], touch)
		}
	}
}

func touchAll(all []*entry, touch func(*entry)) {
	for _, e := range all {
		touch(e)
	}
}

func (p *precedence) leave(e *entry, key Key, touch func(*entry)) {
	asked := p.asked[key]
	first := asked[0] == e
	asked = slices.DeleteFunc(asked, func(o *entry) bool { return o == e })
	if p.asked[key] = asked; len(asked) == 0 {
		delete(p.asked, key)
	} else if first {
		touch(asked[0])
	}
}

func (p *precedence) join(e *entry, key Key, touch func(*entry)) {
	asked := p.asked[key]
	at := sort.Search(len(asked), func(i int) bool { return e.precedes(asked[i], key) })
	if at == 0 && len(asked) > 0 {
		touch(asked[0])
	}
	p.asked[key] = slices.Insert(asked, at, e)
}

// precedes reports whether a Service that asks for a frontend comes before one that has
// asked for it already: with its ClusterIP, or if it is older. Of those that were created
// in one second all nodes, whenever they started, choose the same; those of unknown age
// come last.
func (e *entry) precedes(o *entry, key Key) bool {
	if x, y := e.owns(key), o.owns(key); x != y {
		return x
	}
	x, y := e.service.Created, o.service.Created
	if x.IsZero() || y.IsZero() {
		return !x.IsZero()
	}
	return cmp.Or(x.Compare(y), e.service.Name.Compare(o.service.Name)) < 0
}

// owns reports whether a frontend is at the entry's own ClusterIP.
func (e *entry) owns(key Key) bool {
	return e.service.ClusterIP(cluster.FamilyOf(key.At.Addr())) == key.At.Addr()
}

// setAddresses notes at which external addresses an entry has frontends.
func (p *precedence) setAddresses(e *entry, before, now []Frontend) {
	for addr := range externalAddresses(before) {
		if p.at[addr] = slices.DeleteFunc(p.at[addr], func(o *entry) bool { return o == e }); len(p.at[addr]) == 0 {
			delete(p.at, addr)
		}
	}
	for addr := range externalAddresses(now) {
		p.at[addr] = append(p.at[addr], e)
	}
}

func externalAddresses(frontends []Frontend) map[netip.Addr]bool {
	out := make(map[netip.Addr]bool)
	for _, f := range frontends {
		if f.Kind == ExternalIP || f.Kind == LoadBalancer {
			out[f.At.Addr()] = true
		}
	}
	return out
}

// grant returns the plan of an entry without the frontends, and without the
// healthCheckNodePort, that it does not get.
func (p *precedence) grant(e *entry) (*Service, []Refusal) {
	var refused []Refusal
	for _, f := range e.asked.frontends() {
		if r, is := p.refuses(e, f); is {
			refused = append(refused, r)
		}
	}
	left := refused
	checked := e.asked.healthCheck(p.family)
	r, unchecked := p.refusesCheck(e, checked)
	if unchecked {
		refused = append(refused, r)
	}
	if len(refused) == 0 {
		return e.asked, nil
	}
	out := *e.asked
	if unchecked {
		out.HealthCheckNodePort = 0
	}
	out.Frontends = slices.DeleteFunc(slices.Clone(out.Frontends), func(f Frontend) bool {
		lost := len(left) > 0 && left[0].Key == f.Key
		if lost {
			left = left[1:]
		}
		return lost
	})
	return &out, refused
}

// refuses says why an entry does not get a frontend.
func (p *precedence) refuses(e *entry, f Frontend) (Refusal, bool) {
	r := Refusal{Key: f.Key}
	external := f.Kind == ExternalIP || f.Kind == LoadBalancer
	addr := f.At.Addr()
	switch {
	case external && slices.Contains(p.broadcasts, addr):
		r.Why = IsBroadcast
	case external && (p.clusterIPs[addr] > 0 || slices.ContainsFunc(p.closed, func(c netip.Prefix) bool { return c.Contains(addr) })):
		r.Why = IsClusterIP
	default:
		return p.withholds(e, r)
	}
	return r, true
}

// refusesCheck says why an entry does not get its healthCheckNodePort, of which the zero Key
// is none.
func (p *precedence) refusesCheck(e *entry, key Key) (Refusal, bool) {
	if key == (Key{}) {
		return Refusal{}, false
	}
	return p.withholds(e, Refusal{Key: key, HealthCheck: true})
}

// withholds completes a Refusal, if the node itself or another Service has what it is about.
func (p *precedence) withholds(e *entry, r Refusal) (Refusal, bool) {
	if p.healthz != 0 && r.Key == NodePortKey(p.family, p.healthz, cluster.TCP) {
		r.Why = IsHealthz
		return r, true
	}
	holder := p.asked[r.Key][0]
	if holder == e {
		return r, false
	}
	r.Why, r.Holder, r.HolderChecks = IsHeld, holder.service.Name, holder.asked.healthCheck(p.family) == r.Key
	return r, true
}

// close replaces the ranges of ClusterIPs in which no other address is taken, and the
// broadcast addresses.
func (p *precedence) close(ranges []netip.Prefix, broadcasts []netip.Addr, touch func(*entry)) {
	if slices.Equal(ranges, p.closed) && slices.Equal(broadcasts, p.broadcasts) {
		return
	}
	p.closed, p.broadcasts = ranges, broadcasts
	for all := range maps.Values(p.at) {
		touchAll(all, touch)
	}
}

// Refusal is a frontend, or a healthCheckNodePort, that a Service asks for and does not get.
type Refusal struct {
	Key
	HealthCheck bool // it is the healthCheckNodePort, not a frontend
	Why         RefusalReason
	Holder      cluster.ServiceName // if it IsHeld: who had it when this Service was last looked at
	// HolderChecks says that it is the Holder's healthCheckNodePort.
	HolderChecks bool
}

// RefusalReason says why a Service does not get a frontend. The zero value is invalid.
type RefusalReason uint8

const (
	// IsHeld: another Service has it.
	IsHeld RefusalReason = iota + 1
	// IsClusterIP: the address is one, or in a range of them.
	IsClusterIP
	// IsBroadcast: the address is that of all hosts of a network of this node.
	IsBroadcast
	// IsHealthz: at that port the program tells how it is itself.
	IsHealthz
)

// String says why, for a log.
func (r Refusal) String() string {
	switch r.Why {
	case IsBroadcast:
		return fmt.Sprintf("%s is the broadcast address of a network of this node: choose an address of its own", r.Key)
	case IsClusterIP:
		return fmt.Sprintf("%s is a ClusterIP, or in the range of them: choose an address outside it", r.Key)
	}
	what := r.Key.String()
	if r.HealthCheck {
		what = fmt.Sprintf("healthCheckNodePort %d", r.At.Port())
	}
	switch {
	case r.Why == IsHealthz:
		return fmt.Sprintf("%s is where kernelnat answers /healthz: choose another, or change the option healthz", what)
	case r.HolderChecks && !r.HealthCheck:
		what += " is the healthCheckNodePort of"
	case r.HealthCheck && !r.HolderChecks:
		what += " is a NodePort of"
	default:
		what += " belongs to"
	}
	return fmt.Sprintf("%s Service %s, which is older or had it first: choose another", what, r.Holder)
}
