package zone_test

import (
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/plugin/clusterip/zone"
	"github.com/clusterip/clusterip/test/clustertest"
	"github.com/google/go-cmp/cmp"
)

func TestList(t *testing.T) {
	hostname := clustertest.Ready("10.42.0.7", "fd01::7")
	hostname[0].Hostname, hostname[1].Hostname = "db-0", "db-0"
	weighted := cluster.Service{Name: clustertest.Name("a/db"), Kind: cluster.KindHeadless, Weights: []cluster.WeightRule{{Zone: "far", Weight: 3}}}
	far := clustertest.Ready("10.42.0.8")
	far[0].Topology = &cluster.Topology{Zone: "far"}
	for _, c := range []struct {
		name    string
		origins []string
		options zone.Options
		service *cluster.Service
		want    []zone.Listed
	}{
		{
			name: "a ClusterIP", origins: []string{"cluster.local.", "in-addr.arpa."}, service: cluster.New(clustertest.Service("a/web", "10.43.0.7", "fd00::7"), clustertest.Ready("10.42.0.7")),
			want: []zone.Listed{
				{Name: "_http._tcp.web.a.svc.cluster.local", Type: "SRV", Values: []string{"80 web.a.svc.cluster.local"}},
				{Name: "web.a.svc.cluster.local", Type: "A", Values: []string{"10.43.0.7"}},
				{Name: "web.a.svc.cluster.local", Type: "AAAA", Values: []string{"fd00::7"}},
			},
		},
		{
			name: "hostnames are names, addresses are not", origins: []string{"cluster.local."}, service: cluster.New(cluster.Service{Name: clustertest.Name("a/db"), Kind: cluster.KindHeadless}, hostname, clustertest.Ready("10.42.0.9")),
			want: []zone.Listed{
				{Name: "_http._tcp.db.a.svc.cluster.local", Type: "SRV", Values: []string{"8080 10-42-0-9.db.a.svc.cluster.local", "8080 db-0.db.a.svc.cluster.local"}},
				{Name: "db-0.db.a.svc.cluster.local", Type: "A", Values: []string{"10.42.0.7"}},
				{Name: "db-0.db.a.svc.cluster.local", Type: "AAAA", Values: []string{"fd01::7"}},
				{Name: "db.a.svc.cluster.local", Type: "A", Values: []string{"10.42.0.7", "10.42.0.9"}},
				{Name: "db.a.svc.cluster.local", Type: "AAAA", Values: []string{"fd01::7"}},
			},
		},
		{
			name: "a port without a name", origins: []string{"cluster.local."},
			service: cluster.New(cluster.Service{Name: clustertest.Name("a/web"), Kind: cluster.KindClusterIP, ClusterIPs: clustertest.Addrs("10.43.0.7"), Ports: []cluster.Port{{Protocol: cluster.TCP, Port: 80}}}),
			want: []zone.Listed{
				{Name: "web.a.svc.cluster.local", Type: "A", Values: []string{"10.43.0.7"}},
				{Name: "web.a.svc.cluster.local", Type: "SRV", Values: []string{"80 web.a.svc.cluster.local"}},
			},
		},
		{
			name: "weights that differ", origins: []string{"cluster.local."}, service: cluster.New(weighted, clustertest.Ready("10.42.0.7"), far),
			want: []zone.Listed{
				{Name: "_http._tcp.db.a.svc.cluster.local", Type: "SRV", Values: []string{"8080 10-42-0-7.db.a.svc.cluster.local weight 1", "8080 10-42-0-8.db.a.svc.cluster.local weight 3"}},
				{Name: "db.a.svc.cluster.local", Type: "A", Values: []string{"10.42.0.7", "10.42.0.8"}},
			},
		},
		{
			name: "two zones, of which one has the names of the other", origins: []string{"local.", "cluster.local."}, service: cluster.New(cluster.Service{Name: clustertest.Name("a/out"), Kind: cluster.KindExternalName, ExternalName: "example.org"}),
			want: []zone.Listed{
				{Name: "out.a.svc.local", Type: "CNAME", Values: []string{"example.org"}},
				{Name: "out.a.svc.cluster.local", Type: "CNAME", Values: []string{"example.org"}},
			},
		},
		{name: "a namespace that is not served", origins: []string{"cluster.local."}, options: zone.Options{Namespaces: []string{"b"}}, service: cluster.New(clustertest.Service("a/web", "10.43.0.7"))},
		{name: "ignored without endpoints", origins: []string{"cluster.local."}, options: zone.Options{IgnoreEmpty: true}, service: cluster.New(clustertest.Service("a/web", "10.43.0.7"))},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, zone.New(c.origins, c.options).List(c.service)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
