package zone_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/plugin/clusterip/zone"
	"github.com/miekg/dns"
)

// candidate is an endpoint that an address could lead to.
type candidate struct {
	class       int // the place of its kind of name in the order
	target, pod string
}

// candidates returns all endpoints at an address, in the order of their records, with
// repeats.
func (w *world) candidates(ip netip.Addr) []candidate {
	var all []candidate
	for _, s := range w.sorted() {
		if s.Kind == cluster.KindExternalName {
			continue
		}
		for _, e := range cluster.Usable(s.Endpoints) {
			if e.Addr != ip {
				continue
			}
			classes := map[[2]bool]int{{true, true}: 1, {true, false}: 2, {false, true}: 3, {false, false}: 4}
			c := candidate{class: classes[[2]bool{s.Kind == cluster.KindHeadless, e.Hostname != ""}]}
			c.target = fmt.Sprintf("%s.%s.%s.svc.%s", w.hostname(e), s.Name.Name, s.Name.Namespace, origin)
			if e.PodName != "" {
				c.pod = s.Name.Namespace + "/" + e.PodName
			}
			all = append(all, c)
		}
	}
	slices.SortFunc(all, func(a, b candidate) int {
		return strings.Compare(fmt.Sprint(a.class, a.target), fmt.Sprint(b.class, b.target))
	})
	return all
}

// pointers returns the names that an address leads to, in order.
func (w *world) pointers(ip netip.Addr) []string {
	var targets, pods []string
	all := w.candidates(ip)
	anyPod := slices.ContainsFunc(all, func(c candidate) bool { return c.pod != "" })
	for _, c := range all {
		if w.options.PTRFirst && (slices.Contains(pods, c.pod) || anyPod && c.pod == "") {
			continue
		}
		pods = append(pods, c.pod)
		if !slices.Contains(targets, c.target) {
			targets = append(targets, c.target)
		}
	}
	return targets
}

// Pointers come in the order of the twin's, in answers and, with one for each pod, in
// transfers as well.
func TestPointersOracle(t *testing.T) {
	for _, o := range []zone.Options{{TTL: 5}, {TTL: 5, EndpointPodNames: true}, {TTL: 5, PTRFirst: true}, {TTL: 5, PTRFirst: true, EndpointPodNames: true}} {
		t.Run(fmt.Sprintf("%+v", o), func(t *testing.T) {
			r := rand.New(rand.NewPCG(2, 3))
			w := newWorld(o)
			x := zone.New([]string{"10.in-addr.arpa.", origin, "ip6.arpa."}, o)
			several := 0
			for range 100 {
				x.Apply(w.randomUpdate(r))
				for range 20 {
					ip := randomPodIP(r)
					name := reverseName(ip)
					var got []string
					if z := x.Match(name); z != nil {
						for _, rr := range z.Lookup(name, dns.TypePTR, serial).Answer {
							got = append(got, rr.(*dns.PTR).Ptr)
						}
					}
					if want := w.pointers(ip); !slices.Equal(got, want) {
						t.Fatalf("%s leads to %q, want %q", ip, got, want)
					}
					if len(got) > 1 {
						several++
					}
				}
			}
			if several < 50 {
				t.Errorf("only %d random addresses led to several names: they test too little", several)
			}
		})
	}
}

// The names of one pod of a StatefulSet, which also has a Service with a ClusterIP of its
// own and shares its address with another pod, as on the network of their node.
func TestPointers(t *testing.T) {
	ip := netip.MustParseAddr("10.42.0.7")
	endpoint := func(hostname, pod string) []cluster.Endpoint {
		return []cluster.Endpoint{{Addr: ip, Hostname: hostname, PodName: pod, Ready: true}}
	}
	var u cluster.Update
	for _, s := range []struct {
		name     string
		kind     cluster.Kind
		endpoint []cluster.Endpoint
	}{
		{"a-0", cluster.KindClusterIP, endpoint("", "store-0")},
		{"any", cluster.KindHeadless, endpoint("", "store-0")},
		{"clip", cluster.KindClusterIP, endpoint("store-0", "store-0")},
		{"store", cluster.KindHeadless, endpoint("store-0", "store-0")},
		{"other", cluster.KindHeadless, endpoint("", "other")},
		{"by-hand", cluster.KindHeadless, endpoint("", "")},
	} {
		made := cluster.New(service("shop", s.name, s.kind), s.endpoint)
		u.Services = append(u.Services, cluster.ServiceUpdate{Name: made.Name, Service: made})
	}
	for first, want := range map[bool]string{
		false: "store-0.store 10-42-0-7.any 10-42-0-7.by-hand 10-42-0-7.other store-0.clip 10-42-0-7.a-0",
		true:  "store-0.store 10-42-0-7.other",
	} {
		x := zone.New([]string{"in-addr.arpa.", origin}, zone.Options{PTRFirst: first})
		x.Apply(u)
		for range 5 {
			var got []string
			for _, rr := range x.Match("7.0.42.10.in-addr.arpa.").Lookup("7.0.42.10.in-addr.arpa.", dns.TypePTR, serial).Answer {
				got = append(got, strings.TrimSuffix(rr.(*dns.PTR).Ptr, ".shop.svc."+origin))
			}
			if strings.Join(got, " ") != want {
				t.Errorf("first %v: %q, want %q", first, got, want)
			}
		}
	}
}
