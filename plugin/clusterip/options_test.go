package clusterip

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster/feed"
	"github.com/clusterip/clusterip/cluster/kubernetes"
	"github.com/clusterip/clusterip/cluster/manifest"
	"github.com/clusterip/clusterip/plugin/clusterip/zone"
	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin/pkg/fall"
)

func TestParseOptions(t *testing.T) {
	v4 := []netip.Prefix{netip.MustParsePrefix("10.43.0.0/16")}
	for _, c := range []struct {
		name, in string
		want     Options
	}{
		{
			"defaults",
			"clusterip cluster.local {\n manifests /srv/m\n}",
			Options{Zones: []string{"cluster.local."}, TTL: 5, StartupTimeout: 5 * time.Second, Manifest: manifest.Options{Dir: "/srv/m", ServiceCIDRs: v4}},
		},
		{
			"in a cluster",
			"clusterip cluster.local",
			Options{Zones: []string{"cluster.local."}, TTL: 5, StartupTimeout: 5 * time.Second},
		},
		{
			"everything of an API server",
			`clusterip cluster.local clusterset.local {
				kubeconfig /etc/kubeconfig staging
				endpoint https://10.0.0.1:6443 https://10.0.0.2:6443
				tls cert.pem key.pem ca.pem
				apiserver_qps 7.5
				apiserver_burst 20
				apiserver_max_inflight 3
				labels environment in (staging, qa),application=nginx
				namespace_labels istio-injection=enabled
				noendpoints
				stale_after 10m
				multicluster ClusterSet.local
				startup_timeout 1m
			}`,
			Options{
				Zones: []string{"cluster.local.", "clusterset.local."}, TTL: 5, StartupTimeout: time.Minute, StaleAfter: 10 * time.Minute,
				Multicluster: []string{"clusterset.local."},
				API: kubernetes.Options{
					Kubeconfig: "/etc/kubeconfig", Context: "staging", Endpoint: "https://10.0.0.1:6443 https://10.0.0.2:6443",
					CertFile: "cert.pem", KeyFile: "key.pem", CAFile: "ca.pem",
					QPS: 7.5, Burst: 20, MaxInflight: 3, NoEndpoints: true,
					Labels: "application=nginx,environment in (qa,staging)", NamespaceLabels: "istio-injection=enabled",
				},
				Warnings: []string{
					"Testfile:3: endpoint has no effect beside kubeconfig, which says where the API server is: keep one",
				},
			},
		},
		{
			"given twice, as CoreDNS's plugin takes it",
			`clusterip cluster.local clusterset.local {
				namespaces a b
				namespaces b c
				kubeconfig k staging
				kubeconfig l
				apiserver_qps 1
				apiserver_qps 2
				apiserver_burst 1
				apiserver_burst 2
				apiserver_max_inflight 1
				apiserver_max_inflight 2
				labels a=b
				labels c=d
				noendpoints
				noendpoints
				startup_timeout 1s
				startup_timeout 2s
				ttl 1
				ttl 2
				pods verified
				pods insecure
				endpoint_pod_names
				endpoint_pod_names
				multicluster cluster.local
				multicluster clusterset.local
				fallthrough a.arpa
				fallthrough b.arpa
			}`,
			Options{
				Zones: []string{"cluster.local.", "clusterset.local."}, TTL: 2, StartupTimeout: 2 * time.Second,
				API:        kubernetes.Options{Kubeconfig: "l", QPS: 2, Burst: 2, MaxInflight: 2, Labels: "c=d", NoEndpoints: true},
				Namespaces: []string{"a", "b", "c"}, Pods: zone.PodsInsecure, EndpointPodNames: true,
				Multicluster: []string{"clusterset.local."}, Fall: fall.F{Zones: []string{"b.arpa."}},
			},
		},
		{
			"the rest given twice",
			`clusterip cluster.local {
				endpoint e
				endpoint f
				tls a b c
				tls d e f
				namespace_labels a=b
				namespace_labels c=d
				ignore empty_service
				ignore empty_service
				zonal
				zonal
			}`,
			Options{
				Zones: []string{"cluster.local."}, TTL: 5, StartupTimeout: 5 * time.Second, IgnoreEmpty: true, Zonal: true,
				API: kubernetes.Options{Endpoint: "f", CertFile: "d", KeyFile: "e", CAFile: "f", NamespaceLabels: "c=d"},
			},
		},
		{
			"everything",
			`clusterip Cluster.Local 10.43.0.0/16 {
				manifests /srv/m
				service_cidr 10.96.0.0/12 fd00:43::/112 172.20.0.0/16
				state /var/lib/clusterip/state.json
				ttl 0
				pods verified
				namespaces a b
				endpoint_pod_names
				ptr first
				ignore empty_service
				zonal
				fallthrough in-addr.arpa
			}`,
			Options{
				Zones: []string{"cluster.local.", "43.10.in-addr.arpa."},
				Manifest: manifest.Options{
					Dir:          "/srv/m",
					ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12"), netip.MustParsePrefix("fd00:43::/112"), netip.MustParsePrefix("172.20.0.0/16")},
					State:        "/var/lib/clusterip/state.json",
				},
				StartupTimeout: 5 * time.Second,
				Pods:           zone.PodsVerified, Namespaces: []string{"a", "b"}, EndpointPodNames: true, PTRFirst: true, IgnoreEmpty: true, Zonal: true,
				Fall: fall.F{Zones: []string{"in-addr.arpa."}},
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseOptions(caddy.NewTestController("dns", c.in), "")
			if err != nil {
				t.Fatal(err)
			}
			got.Stanza = nil
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got\n%+v\nwant\n%+v", got, c.want)
			}
		})
	}
}

// What is needed of a source. To tell pods apart, names and pointers need to know which
// pod an endpoint is.
func TestNeeds(t *testing.T) {
	for block, want := range map[string]feed.Needs{
		"ttl 5":                               {},
		"ptr all":                             {},
		"ptr first":                           {PodNames: true},
		"endpoint_pod_names":                  {PodNames: true},
		"pods insecure":                       {},
		"pods verified":                       {Pods: true},
		"pods verified\n pods_on_node node-1": {Pods: true, PodsNode: "node-1"},
		"multicluster cluster.local":          {Imports: true},
	} {
		o, err := ParseOptions(caddy.NewTestController("dns", "clusterip cluster.local {\n "+block+"\n}"), "")
		if err != nil {
			t.Fatal(err)
		}
		if got := o.needs(); got != want {
			t.Errorf("%s: needed is %+v, want %+v", block, got, want)
		}
	}
}

// Relative paths start at the root directive, as those of the file plugin do.
func TestRoot(t *testing.T) {
	c := caddy.NewTestController("dns", "clusterip cluster.local {\n manifests m\n state s/state.json\n}")
	o, err := ParseOptions(c, "/srv")
	if err != nil {
		t.Fatal(err)
	}
	if o.Manifest.Dir != "/srv/m" || o.Manifest.State != "/srv/s/state.json" {
		t.Errorf("paths are %s and %s", o.Manifest.Dir, o.Manifest.State)
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct {
		block, want string
	}{
		{"manifests", "manifests takes one folder"},
		{"manifests a b", "manifests takes one folder"},
		{"manifests m\n manifests m", "Testfile:3 - Error during parsing: option manifests is given twice"},
		{"manifests m\n state s\n state s", "Testfile:4 - Error during parsing: option state is given twice"},
		{"manifests m\n service_cidr 10.0.0.0/8\n service_cidr fd00::/64", "option service_cidr is given twice"},
		{"stale_after 1m\n stale_after 1m", "option stale_after is given twice"},
		{"ttl 5\n ttl 3601", "Testfile:3 - Error during parsing: ttl"},
		{"namespaces a\n namespaces b\n namespace_labels a=b", "keep one"},
		{"nonsense", "the options are apiserver_burst, apiserver_max_inflight, apiserver_qps, endpoint"},
		{"manifests m\n endpoint https://10.0.0.1", "option endpoint is for an API server"},
		{"state s", "option state is for a folder of YAML"},
		{"namespaces a\n namespace_labels a=b", "keep one"},
		{"noendpoints\n ignore empty_service", "ignore empty_service looks at endpoints"},
		{"noendpoints\n zonal", "zonal answers from endpoints"},
		{"kubeconfig", "kubeconfig takes a file"},
		{"kubeconfig a b c", "kubeconfig takes a file"},
		{`kubeconfig "" staging`, "an empty file name"},
		{`manifests ""`, "manifests takes one folder"},
		{`manifests m
 state ""`, "state takes one file"},
		{"endpoint", "endpoint takes the URL"},
		{"tls a b", "tls takes three files"},
		{"apiserver_qps many", `apiserver_qps "many": give one number`},
		{"apiserver_qps -1", `apiserver_qps "-1": give one number`},
		{"apiserver_burst 1.5", `apiserver_burst "1.5": give one number`},
		{"apiserver_max_inflight", `apiserver_max_inflight "": give one number`},
		{"labels", "labels takes a label selector"},
		{"labels a in", "is no label selector"},
		{"noendpoints please", "takes no arguments"},
		{"stale_after 10ms", "of at least 1s"},
		{"pods_on_node \"\"", "pods_on_node takes the name of the Node"},
		{"startup_timeout soon", `startup_timeout "soon": give one duration`},
		{"service_cidr", "service_cidr takes CIDRs such as 10.43.0.0/16"},
		{"service_cidr 127.0.0.0/16", "addresses that no Service can have"},
		{"service_cidr 10.43.0.0/16 ff02::/64", "service_cidr ff02::/64 has addresses that no Service can have"},
		{"service_cidr 240.0.0.0/16", "give a private range such as 10.43.0.0/16"},
		{"service_cidr 10.0.0.0/8 fd00::/64 10.1.0.0/16", "service CIDRs 10.0.0.0/8 and 10.1.0.0/16 have addresses in common"},
		{"service_cidr fd00::/48", "the shortest IPv6 prefix is /64"},
		{"service_cidr 10.0.0.0", `"10.0.0.0" is not a CIDR`},
		{"service_cidr 10.0.0.1/8", "write 10.0.0.0/8"},
		{"state", "state takes one file"},
		{"ttl", "ttl takes one number"},
		{"ttl 3601", `"3601" is no number of seconds from 0 to 3600`},
		{"ttl -1", "from 0 to 3600"},
		{"ttl soon", "from 0 to 3600"},
		{"pods", "disabled, insecure, verified"},
		{"pods sometimes", "disabled, insecure, verified"},
		{"namespaces", "at least one namespace"},
		{"namespaces Foo,bar", `"Foo,bar" cannot be the name of a namespace`},
		{"endpoint_pod_names yes", "takes no arguments"},
		{"ptr", "give one of all, first"},
		{"ptr last", `ptr "last": give one of all, first`},
		{"ptr all\n ptr first", "option ptr is given twice"},
		{"ignore everything", "only empty_service can be ignored"},
		{"multicluster clusterset.local", "multicluster zone clusterset.local. is none of the zones of clusterip"},
		{"manifests m\n multicluster cluster.local", "option multicluster is for an API server"},
		{"multicluster b..d", `zone "b..d" is neither`},
		{"zonal yes", "zonal takes no arguments"},
		{"fallthrough in-addr..arpa", `zone "in-addr..arpa" is neither`},
		{"manifests m {\n }", "option manifests takes no block: remove the {"},
	} {
		t.Run(c.block, func(t *testing.T) {
			_, err := ParseOptions(caddy.NewTestController("dns", "clusterip cluster.local {\n "+c.block+"\n}"), "")
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "Testfile:") {
				t.Errorf("got error %v, want Testfile:line and %q", err, c.want)
			}
		})
	}
	for _, in := range []string{
		"clusterip 10.0.0.0/8 {\n manifests m\n}",
		"clusterip in-addr.arpa {\n manifests m\n}",
		"clusterip cluster.local {\n manifests m\n}\nclusterip cluster.local {\n manifests m\n}",
	} {
		if o, err := ParseOptions(caddy.NewTestController("dns", in), ""); err == nil {
			t.Errorf("%s\nwas taken as %+v", in, o)
		}
	}
}

// What CoreDNS's plugin takes without effect is taken, and said to have none.
func TestIdleOptions(t *testing.T) {
	for _, c := range []struct{ block, want string }{
		{`kubeconfig ""`, "Testfile:2: kubeconfig is empty and has no effect"},
		{`endpoint ""`, "Testfile:2: endpoint is empty and has no effect"},
		{"tls a b c", "Testfile:2: tls has no effect without endpoint"},
		{"kubeconfig k\n tls a b c", "Testfile:3: tls has no effect beside kubeconfig"},
		{"kubeconfig k\n endpoint e\n tls a b c", "Testfile:3: endpoint has no effect beside kubeconfig"},
		{"pods insecure\n pods_on_node n", "Testfile:3: pods_on_node has no effect without pods verified"},
		{"pods verified\n pods_on_node n", ""},
		{"noendpoints\n ttl 30 60", "Testfile:3: ttl has 2 arguments and only the first, 30, is used"},
		{"startup_timeout 1m please", "Testfile:2: startup_timeout has 2 arguments"},
		{"ignore empty_service and more", "Testfile:2: ignore has 3 arguments"},
		{`labels ""`, "Testfile:2: labels is empty and selects everything"},
		{`namespace_labels ""`, "Testfile:2: namespace_labels is empty and selects everything"},
		{"ignore", "Testfile:2: ignore without an argument has no effect"},
		{"endpoint e\n tls a b c", ""},
		{"kubeconfig k", ""},
	} {
		o, err := ParseOptions(caddy.NewTestController("dns", "clusterip cluster.local {\n "+c.block+"\n}"), "")
		if err != nil {
			t.Errorf("%s: %v", c.block, err)
		}
		if got := strings.Join(o.Warnings, "\n"); !strings.HasPrefix(got, c.want) || len(o.Warnings) != min(len(c.want), 1) {
			t.Errorf("%s: the warnings are %q, want %q", c.block, got, c.want)
		}
	}
}

// A zone that is no name is refused, not left out or taken literally.
func TestParseZones(t *testing.T) {
	for _, c := range []struct{ zones, keys, bad string }{
		{"cluster.local cluster..local", "", "cluster..local"},
		{"a_b!c", "", "a_b!c"},
		{"cluster.local 10.43.0.0/33", "", "10.43.0.0/33"},
		{"-x.local", "", "-x.local"},
		{"", "cluster.local:53 dns://b!:53", "dns://b!:53"},
		{"", "dns://cluster.local.:53 10.43.0.0/16 _x.Local .:53", ""},
		{"cluster.local 10.43.0.0/15 fd00:43::/112", "", ""},
	} {
		controller := caddy.NewTestController("dns", "clusterip "+c.zones+" {\n manifests m\n}")
		controller.ServerBlockKeys = strings.Fields(c.keys)
		o, err := ParseOptions(controller, "")
		if c.bad == "" && err != nil || c.bad != "" && (err == nil || !strings.Contains(err.Error(), fmt.Sprintf("Testfile:1 - Error during parsing: zone %q is neither", c.bad))) {
			t.Errorf("%s%s: zones %v, error %v", c.zones, c.keys, o.Zones, err)
		}
	}
}

// The README names every option, with its arguments as the doc comment has them.
func TestReadmeNamesOptions(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for name := range options.Parsers {
		if !strings.Contains(string(readme), "* `"+name) {
			t.Errorf("README.md does not describe option %s", name)
		}
	}
	for _, metric := range []string{"answers_total", "objects", "generation", "manifest_problems"} {
		if !strings.Contains(string(readme), "`coredns_clusterip_"+metric) {
			t.Errorf("README.md does not describe metric %s", metric)
		}
	}
}

// What cannot be read is named, with its place in the Corefile.
func TestSetupNamesWhatIsMissing(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "nowhere")
	for _, option := range []string{"manifests " + missing, "kubeconfig " + missing, "endpoint https://192.0.2.1\n tls a b " + missing} {
		err := setup(caddy.NewTestController("dns", "clusterip cluster.local {\n "+option+"\n}"))
		if err == nil || !strings.Contains(err.Error(), missing) || !strings.Contains(err.Error(), "Testfile:") {
			t.Errorf("%s: got error %v, want one that names Testfile:line and %s", option, err, missing)
		}
	}
}

// A fault has the line of its option, for every option, wherever in the block it is and
// whichever way it was found.
func TestFaultsOnTheirLine(t *testing.T) {
	for name := range options.Parsers {
		for _, fault := range []string{name + " a b c d \"\"", name + " {\n x\n}"} {
			block := "clusterip cluster.local {\n \n " + fault + "\n nonsense\n}"
			_, err := ParseOptions(caddy.NewTestController("dns", block), "")
			if err == nil || !strings.Contains(err.Error(), "unknown option \"nonsense\"") {
				t.Fatalf("%s: %v", block, err)
			}
			if !strings.Contains(err.Error(), "Testfile:3 - Error during parsing: ") && !takesAnything[name] {
				t.Errorf("%s: %v: no fault on line 3", block, err)
			}
		}
	}
	for _, name := range apiOptions {
		_, err := ParseOptions(caddy.NewTestController("dns", "clusterip cluster.local {\n manifests m\n ttl 5\n "+name+" \n ttl 6\n}"), "")
		if want := "Testfile:4 - Error during parsing: option " + name + " is for an API server"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	for _, name := range folderOptions {
		_, err := ParseOptions(caddy.NewTestController("dns", "clusterip cluster.local {\n ttl 5\n "+name+" 10.43.0.0/16\n ttl 6\n}"), "")
		if want := "Testfile:3 - Error during parsing: option " + name + " is for a folder of YAML"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// takesAnything are options that take any number of words, as CoreDNS's plugin does.
var takesAnything = map[string]bool{"endpoint": true}
