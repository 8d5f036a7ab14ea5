package plan

import (
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
)

// choice chooses endpoints for a Service on a node. Each step leaves some out.
type choice struct {
	family cluster.Family
	node   Node
	// weight is what an endpoint weighs; nil if nothing is said of any.
	weight func(*cluster.Endpoint) cluster.Weight
	// numbers has the ports of slices that have many.
	numbers map[*cluster.EndpointSlice]map[namedPort]uint16
	last    numbered // mostly many endpoints of a slice come one after the other

	// What each step has left out, if somebody wants to know, and what is chosen for.
	dropped *[]Dropped
	pool    int
	local   bool
}

// keep is a step: it returns the endpoints for which there is no reason to leave them
// out, which is the zero Reason. It copies only when it must.
func (c *choice) keep(all []cluster.Endpoint, without func(*cluster.Endpoint) Reason) []cluster.Endpoint {
	kept, told := 0, 0
	for i := range all {
		why := without(&all[i])
		if why == 0 {
			kept++
		} else if c.dropped != nil && (len(*c.dropped) < maxDropped || told < alwaysTold) {
			told++
			*c.dropped = append(*c.dropped, Dropped{c.pool, c.local, all[i], why})
		}
	}
	switch kept {
	case len(all):
		return all
	case 0:
		return nil
	}
	out := make([]cluster.Endpoint, 0, kept)
	for i := range all {
		if without(&all[i]) == 0 {
			out = append(out, all[i])
		}
	}
	return out
}

type namedPort struct {
	name     string
	protocol cluster.Protocol
}

// manyPorts is how many a slice has that are worth an index.
const manyPorts = 16

// prepare makes the index of ports.
func (c *choice) prepare(endpoints []cluster.Endpoint) {
	for i := range endpoints {
		s := endpoints[i].Slice
		if s == nil || len(s.Ports) < manyPorts || c.numbers[s] != nil {
			continue
		}
		numbers := make(map[namedPort]uint16, len(s.Ports))
		for _, p := range slices.Backward(s.Ports) { // of several the first counts
			numbers[namedPort{p.Name, p.Protocol}] = p.Port
		}
		if c.numbers == nil {
			c.numbers = make(map[*cluster.EndpointSlice]map[namedPort]uint16)
		}
		c.numbers[s] = numbers
	}
}

// number returns the port's number inside an endpoint. Slices may differ in their
// ports, and pods in what a named targetPort means.
func (c *choice) number(e *cluster.Endpoint, port cluster.Port) (uint16, bool) {
	if last := &c.last; e.Slice == nil || e.Slice != last.slice || port != last.port {
		*last = numbered{slice: e.Slice, port: port}
		if numbers := c.numbers[e.Slice]; numbers != nil {
			last.number, last.has = numbers[namedPort{port.Name, port.Protocol}]
		} else {
			last.number, last.has = e.PortFor(port)
		}
	}
	return c.last.number, c.last.has
}

// numbered is the number of a port in a slice, if it is there.
type numbered struct {
	slice  *cluster.EndpointSlice
	port   cluster.Port
	number uint16
	has    bool
}

// takingPackets returns the endpoints of the family that packets may be sent to.
func (c *choice) takingPackets(service *cluster.Service) []cluster.Endpoint {
	return c.keep(service.Endpoints, func(e *cluster.Endpoint) Reason {
		switch {
		case cluster.FamilyOf(e.Addr) != c.family:
			return OtherFamily
		case e.NamesOnly():
			return NamesOnly
		}
		return 0
	})
}

// withPort returns the endpoints that have a port of the Service.
func (c *choice) withPort(all []cluster.Endpoint, port cluster.Port) []cluster.Endpoint {
	return c.keep(all, func(e *cluster.Endpoint) Reason {
		if _, has := c.number(e, port); !has {
			return NoSuchPort
		}
		return 0
	})
}

// usable returns the endpoints that count; package cluster decides.
func (c *choice) usable(all []cluster.Endpoint) []cluster.Endpoint {
	counts := cluster.Counting(all)
	return c.keep(all, func(e *cluster.Endpoint) Reason {
		if counts(e) {
			return 0
		}
		return condition(e)
	})
}

// condition is why an endpoint does not count.
func condition(e *cluster.Endpoint) Reason {
	if e.Terminating {
		return Leaving
	}
	return NotReady
}

// here returns the endpoints on the node.
func (c *choice) here(all []cluster.Endpoint) []cluster.Endpoint {
	return c.keep(all, func(e *cluster.Endpoint) Reason {
		if !c.node.isOf(e) {
			return OtherNode
		}
		return 0
	})
}

// near returns the endpoints that hints mean for this node: those of the node if
// all ready ones have hints for nodes and one is for this one, else likewise for
// its zone, else all (KEP-2433, KEP-4444).
func (c *choice) near(all []cluster.Endpoint) []cluster.Endpoint {
	for _, hint := range []struct {
		name string
		of   func(*cluster.Endpoint) []string
		why  Reason
	}{
		{c.node.Name, (*cluster.Endpoint).NodeHints, OtherNode},
		{c.node.Zone, (*cluster.Endpoint).ZoneHints, OtherZone},
	} {
		meant, unhinted := false, false
		for i := range all {
			if hints := hint.of(&all[i]); all[i].Ready {
				unhinted = unhinted || len(hints) == 0
				meant = meant || slices.Contains(hints, hint.name)
			}
		}
		if meant && !unhinted {
			return c.keep(all, func(e *cluster.Endpoint) Reason {
				switch {
				case !e.Ready:
					return condition(e)
				case !slices.Contains(hint.of(e), hint.name):
					return hint.why
				}
				return 0
			})
		}
	}
	return all
}

// bounded returns where the port is at these endpoints, or at as many as there may be, and
// how many there are.
func (c *choice) bounded(all []cluster.Endpoint, port cluster.Port, most int) (targets []netip.AddrPort, found int) {
	targets = c.targets(all, port)
	if found = len(targets); found <= most {
		return targets, found
	}
	targets = choose(targets, most, c.node)
	if c.dropped != nil {
		c.keep(all, func(e *cluster.Endpoint) Reason {
			if number, _ := c.number(e, port); !Contains(targets, netip.AddrPortFrom(e.Addr, number)) {
				return BeyondBounds
			}
			return 0
		})
	}
	return targets, found
}

// targets returns where the port is at each of these endpoints, sorted, each once.
func (c *choice) targets(endpoints []cluster.Endpoint, port cluster.Port) []netip.AddrPort {
	out := make([]netip.AddrPort, 0, len(endpoints))
	for i := range endpoints {
		out = append(out, c.target(&endpoints[i], port))
	}
	return sorted(out)
}

// target returns where the port is at an endpoint.
func (c *choice) target(e *cluster.Endpoint, port cluster.Port) netip.AddrPort {
	number, _ := c.number(e, port)
	return netip.AddrPortFrom(e.Addr, number)
}

// sorted sorts targets, each once.
func sorted(targets []netip.AddrPort) []netip.AddrPort {
	slices.SortFunc(targets, netip.AddrPort.Compare)
	return slices.Compact(targets)
}
