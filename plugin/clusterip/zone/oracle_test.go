package zone_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/plugin/clusterip/zone"
	"github.com/miekg/dns"
)

const (
	origin = "cluster.local."
	serial = 7
)

// world is a cluster as plain maps, and the slow twin of zone.Index: it writes
// all records of all Services down as text for every question.
type world struct {
	services   map[cluster.ServiceName]*cluster.Service
	namespaces map[string]bool
	pods       map[cluster.PodName]*cluster.Pod
	options    zone.Options
}

func newWorld(o zone.Options) *world {
	return &world{
		services:   make(map[cluster.ServiceName]*cluster.Service),
		namespaces: make(map[string]bool),
		pods:       make(map[cluster.PodName]*cluster.Pod),
		options:    o,
	}
}

func (w *world) exposed(namespace string) bool {
	return len(w.options.Namespaces) == 0 || slices.Contains(w.options.Namespaces, namespace)
}

// line is one record: its owner, and all of it as miekg/dns prints it.
type line struct {
	owner, qtype, text string
}

func (w *world) line(owner, qtype, data string) line {
	return line{owner, qtype, fmt.Sprintf("%s\t%d\tIN\t%s\t%s", owner, w.options.TTL, qtype, data)}
}

// lines returns the forward records of a Service, following the specification
// section by section.
func (w *world) lines(s *cluster.Service) []line {
	base := fmt.Sprintf("%s.%s.svc.%s", s.Name.Name, s.Name.Namespace, origin)
	var out []line
	srv := make(map[string][]string) // owner to "port target", with repeats
	switch s.Kind {
	case cluster.KindExternalName: // 2.5
		return []line{w.line(base, "CNAME", s.ExternalName+".")}
	case cluster.KindClusterIP: // 2.3
		for _, ip := range s.ClusterIPs {
			if w.options.IgnoreEmpty && len(cluster.Usable(s.Endpoints)) == 0 {
				break
			}
			out = append(out, w.addressLine(base, ip))
			for _, p := range s.Ports {
				srv[base] = append(srv[base], fmt.Sprintf("%d %s", p.Port, base))
				if p.Name != "" {
					owner := "_" + p.Name + "._" + p.Protocol.Lower() + "." + base
					srv[owner] = append(srv[owner], fmt.Sprintf("%d %s", p.Port, base))
				}
			}
		}
	}
	for _, e := range cluster.Usable(s.Endpoints) { // 2.4
		host := w.hostname(e) + "." + base
		out = append(out, w.addressLine(host, e.Addr))
		if s.Kind == cluster.KindHeadless {
			out = append(out, w.addressLine(base, e.Addr))
		}
		for _, p := range e.Ports {
			data := fmt.Sprintf("%d %s", p.Port, host)
			srv[host] = append(srv[host], data)
			if s.Kind != cluster.KindHeadless {
				continue
			}
			srv[base] = append(srv[base], data)
			if p.Name != "" {
				owner := "_" + p.Name + "._" + p.Protocol.Lower() + "." + base
				srv[owner] = append(srv[owner], data)
			}
		}
	}
	for owner, all := range srv {
		for _, data := range all {
			out = append(out, w.line(owner, "SRV", fmt.Sprintf("0 %d %s", max(100/len(all), 1), data)))
		}
	}
	return out
}

func (w *world) addressLine(owner string, ip netip.Addr) line {
	if ip.Is4() {
		return w.line(owner, "A", ip.String())
	}
	return w.line(owner, "AAAA", ip.String())
}

func (w *world) hostname(e cluster.Endpoint) string {
	if e.Hostname != "" {
		return e.Hostname
	}
	if w.options.EndpointPodNames && e.PodName != "" && len(e.PodName) < 64 && !strings.Contains(e.PodName, ".") {
		return e.PodName
	}
	dashed := strings.NewReplacer(".", "-", ":", "-").Replace(e.Addr.String())
	if strings.HasSuffix(dashed, "-") {
		dashed += "0"
	}
	return dashed
}

func reverseName(ip netip.Addr) string {
	name, err := dns.ReverseAddr(ip.String())
	if err != nil {
		panic(err)
	}
	return name
}

// reverseLines returns all PTR records; an address that is a ClusterIP has no
// others.
func (w *world) reverseLines() []line {
	var out []line
	virtual := make(map[netip.Addr]bool)
	for _, s := range w.sorted() {
		for _, ip := range s.ClusterIPs {
			if !virtual[ip] {
				out = append(out, w.line(reverseName(ip), "PTR", fmt.Sprintf("%s.%s.svc.%s", s.Name.Name, s.Name.Namespace, origin)))
			}
			virtual[ip] = true
		}
	}
	for _, s := range w.sorted() {
		if s.Kind == cluster.KindExternalName {
			continue
		}
		for _, e := range cluster.Usable(s.Endpoints) {
			if !virtual[e.Addr] {
				target := fmt.Sprintf("%s.%s.%s.svc.%s", w.hostname(e), s.Name.Name, s.Name.Namespace, origin)
				out = append(out, w.line(reverseName(e.Addr), "PTR", target))
			}
		}
	}
	return out
}

// sorted returns the Services served, sorted by their DNS names.
func (w *world) sorted() []*cluster.Service {
	all := slices.Collect(maps.Values(w.services))
	all = slices.DeleteFunc(all, func(s *cluster.Service) bool { return !w.exposed(s.Name.Namespace) })
	slices.SortFunc(all, func(a, b *cluster.Service) int {
		return strings.Compare(a.Name.Name+"."+a.Name.Namespace+".", b.Name.Name+"."+b.Name.Namespace+".")
	})
	return all
}

// lookup is the slow twin of Zone.Lookup: all records, the names that exist
// though they have none, and a search through both.
func (w *world) lookup(name, qtype string) (zone.Outcome, []string) {
	if _, _, ok := w.narrow(name); ok {
		return w.lookupZonal(name, qtype)
	}
	all := w.reverseLines()
	var empty []string
	empty = append(empty, origin, "svc."+origin, "pod."+origin, "ns.dns."+origin, "10.in-addr.arpa.", "ip6.arpa.")
	all = append(all, line{"dns-version." + origin, "TXT", "dns-version." + origin + "\t28800\tIN\tTXT\t\"1.1.0\""})
	namespaces := maps.Clone(w.namespaces)
	for _, s := range w.sorted() {
		all = append(all, w.lines(s)...)
		namespaces[s.Name.Namespace] = true
	}
	for namespace, exists := range namespaces {
		if exists && w.exposed(namespace) {
			empty = append(empty, namespace+".svc."+origin)
			if w.options.Pods != zone.PodsDisabled {
				empty = append(empty, namespace+".pod."+origin)
			}
		}
	}
	for podName, pod := range w.pods {
		for _, ip := range pod.IPs {
			if w.options.Pods == zone.PodsVerified && w.exposed(podName.Namespace) && namespaces[podName.Namespace] {
				dashed := strings.NewReplacer(".", "-", ":", "-").Replace(ip.String())
				all = append(all, w.addressLine(fmt.Sprintf("%s.%s.pod.%s", dashed, podName.Namespace, origin), ip))
			}
		}
	}
	return search(all, empty, name, qtype)
}

// narrow reads a zonal name. It returns the Service's own name and a world in
// which the Service has only the endpoints meant; no world for the names that
// exist just above zonal ones.
func (w *world) narrow(name string) (narrowed *world, base string, ok bool) {
	left, base, found := strings.Cut(name, "_zone.")
	labels := strings.Split(base, ".")
	if !w.options.Zonal || !found || len(labels) < 3 || !strings.HasSuffix(base, ".svc."+origin) {
		return nil, "", false
	}
	s := w.services[cluster.ServiceName{Namespace: labels[1], Name: labels[0]}]
	if s == nil || s.Kind != cluster.KindHeadless || !w.exposed(labels[1]) || strings.Count(base, ".") != 5 {
		return nil, "", false
	}
	topology, prefer := strings.CutSuffix(left, ".prefer.")
	if !prefer {
		topology, found = strings.CutSuffix(left, ".pin.")
	}
	if !found {
		return nil, base, left == "" || left == "pin." || left == "prefer."
	}
	var there, all []cluster.Endpoint
	for _, e := range cluster.Usable(s.Endpoints) {
		e.Ready = true
		all = append(all, e)
		if strings.EqualFold(e.Zone, topology) {
			there = append(there, e)
		}
	}
	if prefer && len(there) == 0 {
		there = all
	}
	narrowed = newWorld(w.options)
	narrowed.services[s.Name] = cluster.New(cluster.Service{Name: s.Name, Kind: s.Kind, Ports: s.Ports}, there)
	return narrowed, base, true
}

// lookupZonal is lookup for a zonal name.
func (w *world) lookupZonal(name, qtype string) (zone.Outcome, []string) {
	narrowed, base, _ := w.narrow(name)
	if narrowed == nil {
		return zone.NoData, nil
	}
	outcome, records := narrowed.lookup(base, qtype)
	for i, record := range records {
		records[i] = strings.Replace(record, base, name, 1)
	}
	if outcome == zone.NXDomain {
		outcome = zone.NoData
	}
	slices.Sort(records)
	return outcome, records
}

func search(all []line, empty []string, name, qtype string) (zone.Outcome, []string) {
	var found []string
	exists := false
	for _, l := range all {
		if l.owner == name && (l.qtype == qtype || l.qtype == "CNAME") {
			found = append(found, l.text)
		}
		exists = exists || l.owner == name || strings.HasSuffix(l.owner, "."+name)
	}
	for _, e := range empty {
		exists = exists || e == name || strings.HasSuffix(e, "."+name)
	}
	slices.Sort(found)
	switch {
	case len(found) > 0:
		return zone.Success, slices.Compact(found)
	case exists:
		return zone.NoData, nil
	}
	return zone.NXDomain, nil
}

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
		s.ExternalName = []string{"www.example.com", "a.b.svc.cluster.local"}[r.IntN(2)]
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
		e.Zone = []string{"", "a", "B", "eu.north"}[r.IntN(4)]
		e.PodName = []string{"", "pod-a", "pod.dotted", strings.Repeat("x", 70)}[r.IntN(4)]
		for i, p := range s.Ports {
			e.Ports = append(e.Ports, cluster.EndpointPort{Name: p.Name, Protocol: p.Protocol, Port: uint16(5678 + i/2)})
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
		"_http._tcp.", "_dns._udp.", "_sctp._sctp.", "_http._udp.", "http.tcp.", "x._http._tcp.", "nope.",
		"a.pin._zone.", "b.prefer._zone.", "eu.north.pin._zone.", "x.pin._zone.", "x.north.prefer._zone.", "pin._zone.", "_zone.", "a.near._zone.")
	return sub + pick("a.", "b.", "web.", "c.", "") + pick("ns1.", "ns1.", "ns1.", "ns1.", "ns2.", "ns3.", "empty.", "none.") + "svc." + origin
}

func TestOracle(t *testing.T) {
	types := []string{"A", "AAAA", "SRV", "PTR", "TXT", "CNAME", "MX", "HTTPS", "TYPE65280"}
	for _, o := range []zone.Options{
		{TTL: 5},
		{TTL: 0, Pods: zone.PodsVerified, EndpointPodNames: true},
		{TTL: 30, Zonal: true, IgnoreEmpty: true},
		{TTL: 3600, Pods: zone.PodsVerified, Namespaces: []string{"ns1", "empty"}},
	} {
		t.Run(fmt.Sprintf("%+v", o), func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, uint64(o.TTL)))
			w := newWorld(o)
			x := zone.New([]string{"10.in-addr.arpa.", origin, "ip6.arpa."}, o)
			outcomes := make(map[zone.Outcome]int)
			for range 150 {
				x.Apply(w.randomUpdate(r))
				for range 40 {
					name, qtype := randomName(r), types[r.IntN(len(types))]
					outcomes[compare(t, w, x, name, qtype)]++
				}
			}
			t.Logf("outcomes: %v", outcomes)
			for _, o := range []zone.Outcome{zone.Success, zone.NoData, zone.NXDomain} {
				if outcomes[o] < 50 {
					t.Errorf("only %d random questions had outcome %d: they test too little", outcomes[o], o)
				}
			}
		})
	}
}

func compare(t *testing.T, w *world, x *zone.Index, name, qtype string) zone.Outcome {
	t.Helper()
	outcome, records := w.lookup(name, qtype)
	number := dns.StringToType[qtype]
	if qtype == "TYPE65280" {
		number = 65280
	}
	z := x.Match(name)
	if z == nil {
		t.Fatalf("no zone matches %s", name)
	}
	got := z.Lookup(name, number, serial)
	var gotRecords []string
	for _, rr := range got.Answer {
		gotRecords = append(gotRecords, rr.String())
	}
	slices.Sort(gotRecords)
	if got.Outcome != outcome || !slices.Equal(gotRecords, records) {
		t.Fatalf("%s %s:\n got outcome %d %q\nwant outcome %d %q", name, qtype, got.Outcome, gotRecords, outcome, records)
	}
	for _, s := range [][]dns.RR{got.Answer, got.Authority, got.Extra} {
		if cap(s) != len(s) {
			t.Fatalf("%s %s: a slice of the answer has spare capacity, which queries would race for", name, qtype)
		}
	}
	if (outcome == zone.Success) == (len(got.Authority) > 0) {
		t.Fatalf("%s %s: outcome %d with authority %v", name, qtype, outcome, got.Authority)
	}
	if narrowed, _, _ := w.narrow(name); narrowed != nil {
		w = narrowed
	}
	checkExtra(t, w, got)
	return outcome
}

// checkExtra demands the addresses of every SRV target, and nothing else.
func checkExtra(t *testing.T, w *world, got zone.Answer) {
	t.Helper()
	want := make(map[string]bool)
	for _, rr := range got.Answer {
		if srv, ok := rr.(*dns.SRV); ok {
			for _, qtype := range []string{"A", "AAAA"} {
				_, addresses := w.lookup(srv.Target, qtype)
				for _, text := range addresses {
					want[text] = true
				}
			}
		}
	}
	have := make(map[string]bool)
	for _, rr := range got.Extra {
		have[rr.String()] = true
	}
	if !maps.Equal(have, want) || len(have) != len(got.Extra) {
		t.Fatalf("extra records of %v:\n got %v\nwant %v", got.Answer, got.Extra, want)
	}
}
