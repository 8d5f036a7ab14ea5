package zone_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"

	"github.com/clusterip/clusterip/cluster"
)

// Targets of ExternalName Services that no CNAME can have.
const (
	ipTarget   = "192.0.2.1"
	longTarget = "a-label-that-is-longer-than-the-sixty-three-characters-that-dns-allows.example.com"
)

// randomService draws from few names and addresses, so that they collide.
func randomService(r *rand.Rand, name cluster.ServiceName) *cluster.Service {
	ports := []cluster.Port{{Name: "http", Protocol: cluster.TCP, Port: 80}, {Name: "dns", Protocol: cluster.UDP, Port: 53},
		{Name: "dns-tcp", Protocol: cluster.TCP, Port: 53}, {Name: "sctp", Protocol: cluster.SCTP, Port: 80}}
	s := cluster.Service{Name: name, Ports: ports[:r.IntN(len(ports)+1)]}
	if len(s.Ports) == 1 && r.IntN(2) == 0 {
		s.Ports = []cluster.Port{{Protocol: cluster.TCP, Port: 8080}}
	}
	switch s.Kind = cluster.Kind(1 + r.IntN(3)); s.Kind {
	case cluster.KindExternalName:
		s.ExternalName = []string{"www.example.com", "a.b.svc.cluster.local", ipTarget, longTarget}[r.IntN(4)]
		return cluster.New(s)
	case cluster.KindClusterIP:
		// One address for each Service, as the allocator has it.
		n := byte(len(name.Name))*16 + name.Namespace[len(name.Namespace)-1]
		s.ClusterIPs = append(s.ClusterIPs, netip.AddrFrom4([4]byte{10, 43, n, name.Name[len(name.Name)-1]}))
		if r.IntN(2) == 0 {
			s.ClusterIPs = append(s.ClusterIPs, netip.MustParseAddr(fmt.Sprintf("fd00:43::%x:%x", n, name.Name[len(name.Name)-1])))
		}
	}
	var endpoints []cluster.Endpoint
	for range r.IntN(6) {
		e := cluster.Endpoint{Addr: randomPodIP(r), Ready: r.IntN(3) > 0}
		e.Serving, e.Terminating = e.Ready || r.IntN(2) == 0, r.IntN(2) == 0
		e.Hostname = []string{"", "", "web-0", "web-1"}[r.IntN(4)]
		e.Topology = &cluster.Topology{Zone: []string{"", "a", "B", "eu.north"}[r.IntN(4)]}
		e.PodName = []string{"", "pod-a", "pod.dotted", strings.Repeat("x", 70)}[r.IntN(4)]
		e.Slice = new(cluster.EndpointSlice)
		for i, p := range s.Ports {
			e.Slice.Ports = append(e.Slice.Ports, cluster.EndpointPort{Name: p.Name, Protocol: p.Protocol, Port: uint16(5678 + i/2)})
		}
		endpoints = append(endpoints, e)
	}
	return cluster.New(s, endpoints)
}

func randomPodIP(r *rand.Rand) netip.Addr {
	if r.IntN(3) == 0 {
		return netip.MustParseAddr([]string{"fd00:42::1", "fd00:42::2", "fd00:42:1::", "2001:db8::42"}[r.IntN(4)])
	}
	return netip.AddrFrom4([4]byte{10, 42, byte(r.IntN(2)), byte(r.IntN(6))})
}

// randomUpdate changes some of the world and returns what it changed.
func (w *world) randomUpdate(r *rand.Rand) cluster.Update {
	var u cluster.Update
	for range 1 + r.IntN(4) {
		name := cluster.ServiceName{Namespace: []string{"ns1", "ns2", "ns3"}[r.IntN(3)], Name: []string{"a", "b", "web"}[r.IntN(3)]}
		if r.IntN(4) == 0 {
			delete(w.services, name)
		} else {
			w.services[name] = randomService(r, name)
		}
		u.Services = append(u.Services, cluster.ServiceUpdate{Name: name, Service: w.services[name]})
	}
	namespace := []string{"ns1", "ns3", "empty"}[r.IntN(3)]
	w.namespaces[namespace] = r.IntN(3) > 0
	u.Namespaces = append(u.Namespaces, cluster.NamespaceUpdate{Name: namespace, Exists: w.namespaces[namespace]})
	pod := cluster.PodName{Namespace: []string{"ns1", "ns2"}[r.IntN(2)], Name: []string{"p", "q"}[r.IntN(2)]}
	if r.IntN(4) == 0 {
		delete(w.pods, pod)
	} else {
		w.pods[pod] = &cluster.Pod{Name: pod, IPs: []netip.Addr{randomPodIP(r), netip.MustParseAddr("fd00:42::9")}}
	}
	u.Pods = append(u.Pods, cluster.PodUpdate{Name: pod, Pod: w.pods[pod]})
	return u
}

// randomName puts parts of real names together, rightly and wrongly.
func randomName(r *rand.Rand) string {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	switch r.IntN(8) {
	case 0:
		name := reverseName(randomPodIP(r))
		for range r.IntN(4) {
			_, name, _ = strings.Cut(name, ".")
		}
		return pick("", "", "", "x.") + name
	case 1:
		return pick("", "1.", "10.", "97.", "01.", "256.", "99.168.", "98.168.") + pick("43.10.in-addr.arpa.", "42.10.in-addr.arpa.", "10.in-addr.arpa.")
	case 2:
		return pick("", "10-42-0-1.", "10-42-1-3.", "fd00-42--1.", "fd00-42--9.", "fd00-42-1--.", "10-42-0.", "x.10-42-0-1.") +
			pick("ns1.", "ns2.", "empty.", "none.", "") + "pod." + origin
	case 3:
		return pick("", "dns.", "dns-version.", "svc.", "pod.", "x.", "other.dns.", "x.dns-version.", "a\\.ns1.svc.") + origin
	}
	sub := pick("", "", "", "", "", "", "web-0.", "web-1.", "pod-a.", "10-42-0-1.", "10-42-1-2.", "fd00-42--1.", "fd00-42-1--0.", "_tcp.", "_udp.",
		"_http._tcp.", "_dns._udp.", "_sctp._sctp.", "_http._udp.", "http.tcp.", "_dns.udp.", "dns-tcp._tcp.", "_._tcp.", "_http._.", "_._.", "_.", "tcp.", "x._http._tcp.", "nope.",
		"a.pin._zone.", "b.prefer._zone.", "eu.north.pin._zone.", "x.pin._zone.", "x.north.prefer._zone.", "pin._zone.", "_zone.", "a.near._zone.")
	return sub + pick("a.", "b.", "web.", "c.", "") + pick("ns1.", "ns1.", "ns1.", "ns1.", "ns2.", "ns3.", "empty.", "none.") + "svc." + origin
}
