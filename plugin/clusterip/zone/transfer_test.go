package zone_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/plugin/clusterip/zone"
	"github.com/miekg/dns"
)

// carried returns the records of a transfer, as text; each is there once and can
// be sent.
func carried(t *testing.T, z *zone.Zone) map[string]bool {
	t.Helper()
	all, packed := make(map[string]bool), make([]byte, 1024)
	for set := range z.Snapshot().Records() {
		for _, rr := range set {
			text := rr.String()
			if all[text] {
				t.Fatalf("zone %s: %s is there twice", z.Origin(), text)
			}
			if !strings.HasSuffix(rr.Header().Name, z.Origin()) {
				t.Fatalf("zone %s: %s does not belong there", z.Origin(), text)
			}
			if _, err := dns.PackRR(rr, packed, 0, nil, false); err != nil {
				t.Fatalf("zone %s: %s cannot be sent: %v", z.Origin(), text, err)
			}
			all[text] = true
		}
	}
	return all
}

// carried is the slow twin: all lines of the zone, in a map.
func (w *world) carried(z *zone.Zone) map[string]bool {
	all := make(map[string]bool)
	add := func(lines []line) {
		for _, l := range lines {
			if strings.HasSuffix(l.owner, "."+z.Origin()) {
				all[l.text] = true
			}
		}
	}
	add(w.reverseLines())
	for _, s := range w.sorted() {
		add(w.lines(s))
	}
	all[w.line(z.Origin(), "NS", "ns.dns."+origin).text] = true
	if z.Origin() == origin {
		all["dns-version."+origin+"\t28800\tIN\tTXT\t\"1.1.0\""] = true
		all[w.addressLine("ns.dns."+origin, netip.MustParseAddr("192.0.2.53")).text] = true
	}
	return all
}

// A transfer has what the oracle has after every update, and whoever applies the
// changes to what there was before has it too.
func TestTransferOracle(t *testing.T) {
	for _, o := range []zone.Options{{TTL: 5}, {TTL: 7, Zonal: true, IgnoreEmpty: true, PTRFirst: true, Namespaces: []string{"ns1", "ns3"}}} {
		t.Run(fmt.Sprintf("%+v", o), func(t *testing.T) {
			o.Nameservers = []netip.Addr{netip.MustParseAddr("192.0.2.53")}
			r := rand.New(rand.NewPCG(2, uint64(o.TTL)))
			w := newWorld(o)
			x := zone.New([]string{"in-addr.arpa.", origin, "ip6.arpa."}, o)
			if changes := x.Apply(w.randomUpdate(r)); changes != nil {
				t.Fatalf("changes %v though nobody asked for them", changes)
			}
			x.Track()
			followed := make(map[*zone.Zone]map[string]bool)
			for _, z := range x.Zones() {
				followed[z] = carried(t, z)
			}
			steps := 0
			for range 100 {
				for _, c := range x.Apply(w.randomUpdate(r)) {
					follow(t, followed[c.Zone], c)
					steps++
				}
				for _, z := range x.Zones() {
					got := carried(t, z)
					if want := w.carried(z); !maps.Equal(got, want) {
						t.Fatalf("zone %s: got\n%v\nwant\n%v", z.Origin(), got, want)
					}
					if !maps.Equal(got, followed[z]) {
						t.Fatalf("zone %s: got\n%v\nby following the changes\n%v", z.Origin(), got, followed[z])
					}
				}
			}
			if steps < 100 {
				t.Errorf("only %d changes: they test too little", steps)
			}
		})
	}
}

// follow applies a Change strictly: what goes was there, what comes was not.
func follow(t *testing.T, records map[string]bool, c zone.Change) {
	t.Helper()
	if len(c.Gone())+len(c.Come()) == 0 {
		t.Fatalf("zone %s: a change of nothing", c.Zone.Origin())
	}
	for _, rr := range c.Gone() {
		if !records[rr.String()] {
			t.Fatalf("%s goes and was not there", rr)
		}
		delete(records, rr.String())
	}
	for _, rr := range c.Come() {
		if records[rr.String()] {
			t.Fatalf("%s comes and is there already", rr)
		}
		records[rr.String()] = true
	}
}

// The name server's addresses are those of a Service, and change with it.
func TestNameserverChanges(t *testing.T) {
	x := zone.New([]string{origin}, zone.Options{TTL: 5, Nameservers: []netip.Addr{netip.MustParseAddr("10.42.0.7")}})
	x.Track()
	got := ""
	for _, c := range x.Apply(example()) {
		for _, rr := range slices.Concat(c.Gone(), c.Come()) {
			if rr.Header().Name == "ns.dns."+origin {
				got += strings.ReplaceAll(rr.String(), "\t", " ") + "\n"
			}
		}
	}
	want := "ns.dns.cluster.local. 5 IN A 10.42.0.7\nns.dns.cluster.local. 5 IN A 10.43.0.10\nns.dns.cluster.local. 5 IN AAAA fd00:43::10\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// A zone does not carry what another zone of the same server answers for.
func TestTransferOfNestedZones(t *testing.T) {
	x := zone.New([]string{".", "in-addr.arpa.", "10.in-addr.arpa."}, zone.Options{TTL: 5})
	x.Apply(example())
	for origin, want := range map[string]bool{".": false, "in-addr.arpa.": false, "10.in-addr.arpa.": true} {
		found := false
		for set := range x.Zone(origin).Snapshot().Records() {
			found = found || set[0].Header().Name == "10.0.43.10.in-addr.arpa." && set[0].Header().Rrtype == dns.TypePTR
		}
		if found != want {
			t.Errorf("zone %s carries the reverse name of a ClusterIP: %v, want %v", origin, found, want)
		}
	}
	if x.Zone("arpa.") != nil {
		t.Error("arpa. is taken for a zone")
	}
}

// Zones inside each other each have their own: what is applied to one is what its
// transfer has, though names of the outer one's are in the inner one.
func TestTransfersOfNestedZones(t *testing.T) {
	for _, origins := range [][]string{
		{origin, "svc." + origin}, {origin, "ns1.svc." + origin}, {origin, "local."}, {".", "arpa.", "10.in-addr.arpa."},
	} {
		w := newWorld(zone.Options{TTL: 5})
		r := rand.New(rand.NewPCG(3, uint64(len(origins))))
		x := zone.New(origins, w.options)
		x.Apply(w.randomUpdate(r))
		x.Track()
		followed := make(map[*zone.Zone]map[string]bool)
		for _, z := range x.Zones() {
			followed[z] = carried(t, z)
		}
		for range 30 {
			for _, c := range x.Apply(w.randomUpdate(r)) {
				for _, rr := range c.Gone() {
					if !followed[c.Zone][rr.String()] {
						t.Fatalf("%v: %s leaves zone %s, where it was not", origins, rr, c.Zone.Origin())
					}
					delete(followed[c.Zone], rr.String())
				}
				for _, rr := range c.Come() {
					followed[c.Zone][rr.String()] = true
				}
			}
			for _, z := range x.Zones() {
				if !maps.Equal(followed[z], carried(t, z)) {
					t.Fatalf("%v: the changes of zone %s lead to another state than its transfer", origins, z.Origin())
				}
			}
		}
	}
}
