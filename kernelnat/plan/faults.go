package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
)

// Fault is what is wrong with a Service on every node alike, and its owner can mend. It stays
// the same as long as it is the same fault, however many endpoints come and go.
type Fault struct {
	Why  FaultReason
	Text string // what is wrong, what comes of it, and what mends it
}

// FaultReason is the reason of an Event, as Kubernetes writes them.
type FaultReason string

const (
	// PortWithoutEndpoints: there are usable endpoints, and none has the port.
	PortWithoutEndpoints FaultReason = "PortWithoutEndpoints"
	// PolicyWithoutNodes: under the policy Local there is no endpoint on any node.
	PolicyWithoutNodes FaultReason = "PolicyWithoutNodes"
	// HintsIgnored: some endpoints have topology hints, and since others have none, nobody
	// heeds them.
	HintsIgnored FaultReason = "HintsIgnored"
)

// Faults returns those of a Service, in the order of the reasons above. There are none of a
// Service that is somebody else's, or has more ports and endpoints than are looked at.
func Faults(service *cluster.Service, proxy cluster.Proxy) []Fault {
	if service.Kind != cluster.KindClusterIP || service.Proxy != proxy || len(service.Ports)*len(service.Endpoints) > maxPairs {
		return nil
	}
	e := everywhere{service: service, served: make([]bool, len(service.Ports))}
	for _, ip := range service.ClusterIPs {
		e.look(&choice{family: cluster.FamilyOf(ip)})
	}
	return slices.Concat(e.ports(), e.policy(), e.hints())
}

// everywhere is what is seen of a Service on every node.
type everywhere struct {
	service *cluster.Service
	usable  bool   // there is an endpoint that counts
	served  []bool // by port: there is an endpoint that has it
	located bool   // there is one that counts, has a port and says on which node it is
	has     bool   // there is one that counts and has a port
	mixed   [2]bool
}

// hintKinds are those that mixed is of.
var hintKinds = [...]struct {
	name string
	of   func(*cluster.Endpoint) []string
}{{"nodes", (*cluster.Endpoint).NodeHints}, {"zones", (*cluster.Endpoint).ZoneHints}}

// look takes the endpoints of one IP family in.
func (e *everywhere) look(c *choice) {
	taking := c.takingPackets(e.service)
	c.prepare(taking)
	e.usable = e.usable || len(cluster.Usable(taking)) > 0
	for i, port := range e.service.Ports {
		all := c.withPort(taking, port)
		e.served[i] = e.served[i] || len(all) > 0
		usable := c.usable(all)
		e.has = e.has || len(usable) > 0
		e.located = e.located || slices.ContainsFunc(usable, func(p cluster.Endpoint) bool { return p.NodeName() != "" })
		for kind, hint := range hintKinds {
			e.mixed[kind] = e.mixed[kind] || isMixed(all, hint.of)
		}
	}
}

// isMixed reports whether some of the ready endpoints have hints of a kind, and others none.
func isMixed(all []cluster.Endpoint, of func(*cluster.Endpoint) []string) bool {
	with, without := false, false
	for i := range all {
		if all[i].Ready {
			has := len(of(&all[i])) > 0
			with, without = with || has, without || !has
		}
	}
	return with && without
}

// maxPorts is how many ports a Fault names.
const maxPorts = 5

func (e *everywhere) ports() []Fault {
	if !e.usable {
		return nil
	}
	var without []string
	for i, p := range e.service.Ports {
		if !e.served[i] {
			without = append(without, strings.TrimSpace(fmt.Sprintf("%s %d/%s", p.Name, p.Port, p.Protocol)))
		}
	}
	if len(without) == 0 {
		return nil
	}
	more := ""
	if n := len(without) - maxPorts; n > 0 {
		without, more = without[:maxPorts], fmt.Sprintf(" and %d more", n)
	}
	return []Fault{{PortWithoutEndpoints, fmt.Sprintf("no endpoint has the port %s%s, so connections to it are refused: "+
		"a targetPort that is a name must be one of a container's ports, and a port of an EndpointSlice must have the name and the protocol that the Service's has",
		strings.Join(without, ", "), more)}}
}

func (e *everywhere) policy() (all []Fault) {
	if !e.has || e.located {
		return nil
	}
	for _, policy := range []struct {
		is         bool
		name, what string
	}{
		{e.service.InternalLocal, "internalTrafficPolicy", "to the ClusterIP"},
		{e.service.External.Local && e.isExternal(), "externalTrafficPolicy", "from outside the cluster"},
	} {
		if policy.is {
			all = append(all, Fault{PolicyWithoutNodes, fmt.Sprintf("%s is Local, and no endpoint has a nodeName, so every node drops connections %s: "+
				"give the endpoints in the EndpointSlices a nodeName, or choose the policy Cluster", policy.name, policy.what)})
		}
	}
	return all
}

func (e *everywhere) isExternal() bool {
	s := e.service
	return hasNodePort(s.Ports) || len(s.External.IPs)+len(s.External.LoadBalancerIPs) > 0
}

func (e *everywhere) hints() (all []Fault) {
	if e.service.InternalLocal && !e.isExternal() {
		return nil // nobody asks for them
	}
	for kind, hint := range hintKinds {
		if e.mixed[kind] {
			all = append(all, Fault{HintsIgnored, fmt.Sprintf("some ready endpoints have hints for %s and others have none, so no node heeds any of these: "+
				"give all endpoints hints, or none; those of an EndpointSlice that a controller has not made are mostly the ones without", hint.name)})
		}
	}
	return all
}
