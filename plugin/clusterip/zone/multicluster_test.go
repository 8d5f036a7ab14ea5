package zone_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/plugin/clusterip/zone"
	"github.com/miekg/dns"
)

// imports has one Service of each kind that can be imported.
func imports() cluster.Update {
	api := service("default", "api", cluster.KindClusterIP)
	api.ClusterIPs = []netip.Addr{netip.MustParseAddr("10.99.0.1")}
	api.Ports = []cluster.Port{{Name: "http", Protocol: cluster.TCP, Port: 80}}
	db := service("far", "db", cluster.KindHeadless)
	ports := []cluster.EndpointPort{{Name: "sql", Protocol: cluster.TCP, Port: 5432}}
	endpoint := func(in string) cluster.Endpoint {
		return cluster.Endpoint{Addr: netip.MustParseAddr("10.42.0.8"), Hostname: "db-0", Slice: &cluster.EndpointSlice{Ports: ports, Cluster: in}, Topology: &cluster.Topology{Zone: "z"}, Ready: true}
	}
	waiting := service("default", "new", cluster.KindClusterIP)
	waiting.Ports = api.Ports
	u := update(cluster.New(api), cluster.New(waiting), cluster.New(db, []cluster.Endpoint{endpoint("east"), endpoint("west")}))
	return cluster.Update{Imports: u.Services}
}

func TestMulticluster(t *testing.T) {
	x := zone.New([]string{"clusterset.local.", origin, "10.in-addr.arpa."}, zone.Options{TTL: 5, Zonal: true, Multicluster: []string{"clusterset.local."}})
	x.Apply(example())
	x.Track()
	changes := x.Apply(imports())
	if len(changes) != 1 || changes[0].Zone.Origin() != "clusterset.local." {
		t.Errorf("imports changed %v, want one zone", changes)
	}
	const set = "svc.clusterset.local."
	nodata := "nodata\n" + strings.ReplaceAll(soa, "cluster.local", "clusterset.local")
	nxdomain := strings.Replace(nodata, "nodata", "nxdomain", 1)
	for _, c := range []struct {
		name  string
		qtype uint16
		want  string
	}{
		{"api.default." + set, dns.TypeA, "success\napi.default." + set + " 5 IN A 10.99.0.1\n"},
		{"_http._tcp.api.default." + set, dns.TypeSRV, "success\n_http._tcp.api.default." + set + " 5 IN SRV 0 100 80 api.default." + set + "\napi.default." + set + " 5 IN A 10.99.0.1\n"},
		{"db.far." + set, dns.TypeA, "success\ndb.far." + set + " 5 IN A 10.42.0.8\n"},
		{"_sql._tcp.db.far." + set, dns.TypeSRV, "success\n_sql._tcp.db.far." + set + " 5 IN SRV 0 50 5432 db-0.east.db.far." + set +
			"\n_sql._tcp.db.far." + set + " 5 IN SRV 0 50 5432 db-0.west.db.far." + set +
			"\ndb-0.east.db.far." + set + " 5 IN A 10.42.0.8\ndb-0.west.db.far." + set + " 5 IN A 10.42.0.8\n"},
		{"db-0.west.db.far." + set, dns.TypeA, "success\ndb-0.west.db.far." + set + " 5 IN A 10.42.0.8\n"},
		{"west.db.far." + set, dns.TypeA, nodata},
		{"_http._tcp.api.default." + set, dns.TypeA, "success\n_http._tcp.api.default." + set + " 5 IN A 10.99.0.1\n"},
		{"sql._tcp.db.far." + set, dns.TypeA, "success\nsql._tcp.db.far." + set + " 5 IN A 10.42.0.8\n"},
		{"_sql.tcp.db.far." + set, dns.TypeA, "success\n_sql.tcp.db.far." + set + " 5 IN A 10.42.0.8\n"},
		{"sql.tcp.db.far." + set, dns.TypeA, nxdomain}, // an endpoint sql in a cluster tcp
		{`x\..db.far.` + set, dns.TypeA, nxdomain},     // a dot inside a label, which ends there
		{`_\..db.far.` + set, dns.TypeA, nxdomain},
		{"new.default." + set, dns.TypeA, nodata},
		{"_http._tcp.new.default." + set, dns.TypeSRV, nodata},
		{"db-0.db.far." + set, dns.TypeA, nxdomain},
		{"z.pin._zone.db.far." + set, dns.TypeA, nxdomain},
		{"far." + set, dns.TypeA, nodata},
		{"web.default." + set, dns.TypeA, nxdomain},
		{"api.default.svc." + origin, dns.TypeA, "nxdomain\n" + soa},
		{"1.0.99.10.in-addr.arpa.", dns.TypePTR, "nxdomain\n10.in-addr.arpa. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 7 7200 1800 86400 5\n"},
	} {
		if got := look(x, c.name, c.qtype); got != c.want {
			t.Errorf("%s %s: got\n%swant\n%s", c.name, dns.TypeToString[c.qtype], got, c.want)
		}
	}
	var carried []string
	for records := range x.Zone("clusterset.local.").Snapshot().Records() {
		carried = append(carried, records[0].Header().Name)
	}
	if !slices.Contains(carried, "db-0.west.db.far."+set) {
		t.Errorf("the transfer has no endpoint of an import; it has %v", carried)
	}
	gone := imports()
	for i := range gone.Imports {
		gone.Imports[i].Service = nil
	}
	x.Apply(gone)
	if got := look(x, "far."+set, dns.TypeA); got != nxdomain {
		t.Errorf("a namespace without imports: %s", got)
	}
}

// Where a block has imported Services only, those of this cluster have reverse
// names, and no others.
func TestMulticlusterAlone(t *testing.T) {
	x := zone.New([]string{"clusterset.local.", "10.in-addr.arpa."}, zone.Options{TTL: 5, Multicluster: []string{"clusterset.local."}})
	x.Track()
	for _, c := range x.Apply(example()) {
		if c.Zone.Origin() == "clusterset.local." {
			t.Errorf("a Service of this cluster changes clusterset.local: %v", c.Come())
		}
	}
	x.Apply(imports())
	for name, want := range map[string]string{
		"web.default.svc.clusterset.local.": "nxdomain",
		"api.default.svc.clusterset.local.": "success",
	} {
		if got, _, _ := strings.Cut(look(x, name, dns.TypeA), "\n"); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if got, want := look(x, "10.0.43.10.in-addr.arpa.", dns.TypePTR), "success\n10.0.43.10.in-addr.arpa. 5 IN PTR web.default.svc.clusterset.local.\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
