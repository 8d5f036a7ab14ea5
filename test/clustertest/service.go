// Package clustertest has what tests of several packages share: builders of Services
// and of what a Store is told of them, and Eventually.
package clustertest

import (
	"net/netip"
	"strings"

	"github.com/clusterip/clusterip/cluster"
)

// Service returns one called "namespace/name" that has the port http, 80/TCP. With
// ClusterIPs it is of KindClusterIP, without any of KindHeadless. The caller may change
// it before cluster.New.
func Service(name string, clusterIPs ...string) cluster.Service {
	s := cluster.Service{
		Name: Name(name), Kind: cluster.KindHeadless,
		Ports: []cluster.Port{{Name: "http", Protocol: cluster.TCP, Port: 80}},
	}
	if len(clusterIPs) > 0 {
		s.Kind, s.ClusterIPs = cluster.KindClusterIP, Addrs(clusterIPs...)
	}
	return s
}

// Ready returns endpoints of one EndpointSlice that are ready and have the port http at
// 8080/TCP.
func Ready(addrs ...string) []cluster.Endpoint {
	slice := &cluster.EndpointSlice{Ports: []cluster.EndpointPort{{Name: "http", Protocol: cluster.TCP, Port: 8080}}}
	var out []cluster.Endpoint
	for _, a := range Addrs(addrs...) {
		out = append(out, cluster.Endpoint{Addr: a, Slice: slice, Ready: true, Serving: true})
	}
	return out
}

// Changed says that Services are new, or as they are now.
func Changed(services ...*cluster.Service) []cluster.ServiceUpdate {
	var out []cluster.ServiceUpdate
	for _, s := range services {
		out = append(out, cluster.ServiceUpdate{Name: s.Name, Service: s})
	}
	return out
}

// Gone says that the Services of these names, "namespace/name", are there no more.
func Gone(names ...string) []cluster.ServiceUpdate {
	var out []cluster.ServiceUpdate
	for _, n := range names {
		out = append(out, cluster.ServiceUpdate{Name: Name(n)})
	}
	return out
}

// Name parses "namespace/name".
func Name(text string) cluster.ServiceName {
	namespace, name, ok := strings.Cut(text, "/")
	if !ok {
		panic("no namespace in " + text)
	}
	return cluster.ServiceName{Namespace: namespace, Name: name}
}

// Addrs parses addresses.
func Addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, text := range texts {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}
