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
		if s.ExternalName == ipTarget || s.ExternalName == longTarget {
			return nil
		}
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
		for _, p := range e.Ports() {
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
	return append(out, w.srvLines(srv)...)
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
		for _, e := range s.Endpoints {
			if virtual[e.Addr] {
				continue
			}
			virtual[e.Addr] = true // it is done
			for _, target := range w.pointers(e.Addr) {
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
		if strings.HasSuffix(name, "."+s.Name.Name+"."+s.Name.Namespace+".svc."+origin) {
			all = append(all, w.portLines(s)...) // too many to write down for all
		}
		if s.ExternalName == longTarget {
			empty = append(empty, fmt.Sprintf("_._.%s.%s.svc.%s", s.Name.Name, s.Name.Namespace, origin))
		}
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
				owner := fmt.Sprintf("%s.%s.pod.%s", dashed, podName.Namespace, origin)
				all = append(all, w.addressLine(owner, ip), w.line(owner, "SRV", "0 100 0 "+owner))
			}
		}
	}
	return search(all, empty, name, qtype)
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

func TestOracle(t *testing.T) {
	types := []string{"A", "AAAA", "SRV", "PTR", "TXT", "CNAME", "MX", "HTTPS", "TYPE65280"}
	for _, o := range []zone.Options{
		{TTL: 5},
		{TTL: 0, Pods: zone.PodsVerified, EndpointPodNames: true},
		{TTL: 30, Zonal: true, IgnoreEmpty: true, PTRFirst: true},
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
