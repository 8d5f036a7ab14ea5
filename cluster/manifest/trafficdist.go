package manifest

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// distribution is which clients a Service asks its endpoints to be kept for. The
// EndpointSlice controller of Kubernetes makes hints of it, for the slices that it
// makes of Pods; here they are made as its version 1.37 does.
type distribution uint8

const (
	toAll distribution = iota
	// sameZone is trafficDistribution PreferSameZone, or PreferClose by its older name.
	sameZone
	// sameNode is trafficDistribution PreferSameNode: those of the node, or else of
	// the zone.
	sameNode
	// byCPU is topology-mode Auto: those of a zone, to which as many endpoints are
	// given as it has of all CPUs.
	byCPU
)

// distributionOf reads the annotations, which win over the field, as the controller
// does.
func distributionOf(s *corev1.Service) distribution {
	mode, given := s.Annotations[corev1.DeprecatedAnnotationTopologyAwareHints]
	if !given {
		mode = s.Annotations[corev1.AnnotationTopologyMode]
	}
	if mode == "Auto" || mode == "auto" {
		return byCPU
	}
	switch ptr.Deref(s.Spec.TrafficDistribution, "") {
	case corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone:
		return sameZone
	case corev1.ServiceTrafficDistributionPreferSameNode:
		return sameNode
	}
	return toAll
}

// hint gives hints to the endpoints that the controller would have in its slices, in
// place of those that they have. It says why proxies will not be led by them.
func (d distribution) hint(endpoints []cluster.Endpoint, n nodes) []error {
	if d == byCPU && len(n.models) == 0 && !slices.ContainsFunc(endpoints, isUnhinted) {
		return nil // made where the Nodes are, and exported
	}
	for i := range endpoints {
		endpoints[i].Hints = nil
	}
	switch d {
	case sameZone, sameNode:
		return d.hintNear(endpoints, n)
	case byCPU:
		return hintByCPU(endpoints, n)
	}
	return nil
}

func isUnhinted(e cluster.Endpoint) bool { return e.Ready && e.Hints == nil }

// hintNear means each endpoint that is ready for the clients in its zone, and on its
// node.
func (d distribution) hintNear(endpoints []cluster.Endpoint, n nodes) []error {
	made := map[cluster.Topology]*cluster.Hints{}
	var lacking error
	for i := range endpoints {
		e := &endpoints[i]
		if !e.Ready {
			continue
		}
		switch {
		case lacking != nil:
		case d == sameNode && e.NodeName() == "":
			lacking = fmt.Errorf("spec.trafficDistribution PreferSameNode has no effect: endpoint %s is on no Node: give it a nodeName", e.Addr)
		case d == sameZone && e.Zone() == "":
			lacking = fmt.Errorf("spec.trafficDistribution has no effect: %s", n.whyZoneless(e))
		}
		at := cluster.Topology{Zone: e.Zone()}
		if d == sameNode {
			at.NodeName = e.NodeName()
		}
		if made[at] == nil {
			made[at] = hintsFor(at)
		}
		e.Hints = made[at]
	}
	if lacking != nil {
		return []error{lacking}
	}
	return nil
}

// hintsFor returns nil for no place at all.
func hintsFor(at cluster.Topology) *cluster.Hints {
	if at == (cluster.Topology{}) {
		return nil
	}
	var h cluster.Hints
	if at.Zone != "" {
		h.Zones = []string{at.Zone}
	}
	if at.NodeName != "" {
		h.Nodes = []string{at.NodeName}
	}
	return &h
}

// hintByCPU means each endpoint that is ready for the clients of one zone, mostly its
// own, for each family by itself. It does what AddHints of
// k8s.io/endpointslice/topologycache does to slices that are new. Where that leaves to
// chance which endpoint is given away, and to whom, the order of addresses and zones
// decides: machines that share a folder choose alike.
func hintByCPU(endpoints []cluster.Endpoint, n nodes) (lacking []error) {
	ready := map[cluster.Family][]*cluster.Endpoint{}
	for i := range endpoints {
		if e := &endpoints[i]; e.Ready {
			family := cluster.FamilyOf(e.Addr)
			ready[family] = append(ready[family], e)
		}
	}
	if c := n.capacity; len(c.shares) == 0 && len(ready) > 0 {
		return []error{fmt.Errorf("topology-mode Auto has no effect: %s", c.unknown)}
	}
	for _, family := range []cluster.Family{cluster.IPv4, cluster.IPv6} {
		if len(ready[family]) == 0 {
			continue
		}
		if why := hintFamilyByCPU(ready[family], n); why != "" {
			lacking = append(lacking, fmt.Errorf("topology-mode Auto has no effect for %s: %s", family, why))
		}
	}
	return lacking
}

func hintFamilyByCPU(ready []*cluster.Endpoint, n nodes) (why string) {
	slices.SortStableFunc(ready, func(a, b *cluster.Endpoint) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Hostname, b.Hostname), cmp.Compare(a.PodName, b.PodName))
	})
	wanted, why := n.capacity.wanted(len(ready))
	if why != "" {
		return why
	}
	has := map[string]int{}
	for _, e := range ready {
		if e.Zone() == "" {
			return n.whyZoneless(e)
		}
		has[e.Zone()]++
	}
	gives, receivers := moves(wanted, has)
	made := map[string]*cluster.Hints{}
	for _, e := range ready {
		zone := e.Zone()
		if gives[zone] > 0 {
			gives[zone]--
			zone, receivers = receivers[0], receivers[1:]
		}
		if made[zone] == nil {
			made[zone] = hintsFor(cluster.Topology{Zone: zone})
		}
		e.Hints = made[zone]
	}
	return ""
}

// overload is by how much an endpoint may get more than if zones had no say, as a part
// of that.
const overload = 0.2

// zoneCount is a number of endpoints, of which one may be divided among zones.
type zoneCount struct {
	zone   string
	number float64
}

// wanted is how many of so many endpoints each zone is to have.
func (c capacity) wanted(endpoints int) (wanted []zoneCount, why string) {
	if len(c.shares) > endpoints {
		return nil, fmt.Sprintf("its ready endpoints are %d, and the zones are %d: each zone needs one", endpoints, len(c.shares))
	}
	rest := endpoints
	for _, s := range c.shares {
		desired := s.part * float64(endpoints)
		least := math.Ceil(desired * (1 / (1 + overload)))
		if rest -= int(least); rest < 0 {
			return nil, fmt.Sprintf("its ready endpoints, %d, cannot be divided among %d zones so that each has its share of the CPUs, give or take %.0f %%: run more of them",
				endpoints, len(c.shares), overload*100)
		}
		wanted = append(wanted, zoneCount{s.zone, max(desired, least)})
	}
	return wanted, ""
}

// moves returns how many endpoints zones that have more than they are to have give
// away, and to which zones, in order. Always the one that has most to give gives to the
// one that lacks most; what is less than half an endpoint stays.
func moves(wanted []zoneCount, has map[string]int) (gives map[string]int, receivers []string) {
	var over, under []zoneCount
	for _, w := range wanted {
		have := float64(has[w.zone])
		over = append(over, units(w.zone, have-w.number)...)
		under = append(under, units(w.zone, w.number-have)...)
	}
	mostFirst := func(a, b zoneCount) int {
		return cmp.Or(cmp.Compare(b.number, a.number), cmp.Compare(a.zone, b.zone))
	}
	slices.SortFunc(over, mostFirst)
	slices.SortFunc(under, mostFirst)
	gives = map[string]int{}
	for i := range min(len(over), len(under)) {
		give, take := over[i], under[i]
		if min(give.number, take.number) < 0.5 || max(give.number, take.number) < 1 {
			break
		}
		gives[give.zone]++
		receivers = append(receivers, take.zone)
	}
	return gives, receivers
}

// units is a number of endpoints taken one by one: each with what there was before it.
func units(zone string, number float64) (out []zoneCount) {
	for ; number > 0; number-- {
		out = append(out, zoneCount{zone, number})
	}
	return out
}
