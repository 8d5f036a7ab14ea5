package clusterip

import (
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/plugin/clusterip/zone"
	"github.com/coredns/coredns/plugin/metadata"
	"github.com/coredns/coredns/plugin/test"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
)

// queryFrom is a query as plugins see it.
func queryFrom(client, name string) request.Request {
	return request.Request{W: &test.ResponseWriter{RemoteIP: client}, Req: new(dns.Msg).SetQuestion(name, dns.TypeA)}
}

// clientHandler knows pods: p in default, with labels, and two in kube-system and
// other that share their node's address.
func clientHandler(change ...func(*Options)) *Handler {
	verified := func(o *Options) { o.Pods = zone.PodsVerified }
	h := testHandler(append([]func(*Options){verified}, change...)...)
	h.search = []string{"example.net."}
	var u cluster.Update
	for _, name := range []cluster.PodName{{Namespace: "kube-system", Name: "proxy"}, {Namespace: "other", Name: "agent"}} {
		u.Pods = append(u.Pods, cluster.PodUpdate{Name: name, Pod: &cluster.Pod{Name: name, IPs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}})
	}
	h.store.Apply(u)
	return h
}

func TestAutoPath(t *testing.T) {
	const want = "default.svc.cluster.local. svc.cluster.local. cluster.local. example.net. ."
	other := strings.ReplaceAll(want, "default", "other")
	none := func(*Options) {}
	for _, c := range []struct {
		what, client, name string
		change             func(*Options)
		want               string
	}{
		{"a pod", "10.42.0.7", "www.example.com.default.svc.cluster.local.", none, want},
		{"its other address", "fd00::7", "WWW.example.com.Default.svc.cluster.local.", none, want},
		{"a pod of another namespace", "10.42.0.7", "www.example.com.other.svc.cluster.local.", none, ""},
		{"no pod", "10.42.0.8", "www.example.com.default.svc.cluster.local.", none, ""},
		{"the second pod on a node's address", "192.0.2.1", "www.example.com.other.svc.cluster.local.", none, other},
		{"further on in the search path", "10.42.0.7", "www.example.com.svc.cluster.local.", none, ""},
		{"the namespace itself", "10.42.0.7", "default.svc.cluster.local.", none, ""},
		{"a pod name", "10.42.0.7", "a.default.pod.cluster.local.", none, ""},
		{"a reverse name", "10.42.0.7", "a.default.svc.in-addr.arpa.", none, ""},
		{"not our zone", "10.42.0.7", "a.default.svc.example.com.", none, ""},
		{"pods are not verified", "10.42.0.7", "a.default.svc.cluster.local.", func(o *Options) { o.Pods = zone.PodsInsecure }, ""},
		{"a namespace that is not served", "10.42.0.7", "a.default.svc.cluster.local.", func(o *Options) { o.Namespaces = []string{"other"} }, want},
		{"the root zone", "10.42.0.7", "a.default.svc.", func(o *Options) { o.Zones = []string{"."} }, "default.svc. svc. . example.net. ."},
	} {
		t.Run(c.what, func(t *testing.T) {
			got := clientHandler(c.change).AutoPath(queryFrom(c.client, c.name))
			if n := len(got); n > 0 && got[n-1] == "" {
				got[n-1] = "." // legible
			} else if n > 0 {
				t.Errorf("%q does not end as autopath wants it", got)
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestHostSearchPath(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("search Example.NET corp.example.\nnameserver 192.0.2.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := hostSearchPath(file), []string{"example.net.", "corp.example."}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := hostSearchPath(file + ".none"); got != nil {
		t.Errorf("without a file: %q", got)
	}
}

// The values are those of CoreDNS's kubernetes plugin; empty ones are labels too.
func TestMetadata(t *testing.T) {
	zonal := func(o *Options) { o.Zonal = true }
	set := func(o *Options) { o.Zones, o.Multicluster, o.Zonal = []string{"set."}, []string{"set."}, true }
	none := func(*Options) {}
	for _, c := range []struct {
		name   string
		change func(*Options)
		want   string // in the order port-name protocol endpoint service namespace kind
	}{
		{"web.default.svc.cluster.local.", none, "- - - web default svc"},
		{"_http._tcp.Web.default.svc.cluster.local.", none, "http tcp - web default svc"},
		{"web-0.web.default.svc.cluster.local.", none, "- - web-0 web default svc"},
		{"10-42-0-7.default.pod.cluster.local.", none, "- - - 10-42-0-7 default pod"},
		{"default.svc.cluster.local.", none, "- - - - default svc"},
		{"svc.cluster.local.", none, "- - - - - -"},
		{"cluster.local.", none, "- - - - - -"},
		{"dns-version.cluster.local.", none, "parse-error=invalid query name"},
		{"10.0.43.10.in-addr.arpa.", none, "parse-error=invalid query name"},
		{"a.pin._zone.web.default.svc.cluster.local.", none, "parse-error=invalid query name"},
		{"web.default.svc.cluster.local.", zonal, "- - - web default svc zone="},
		{"corp.a.pin._zone.web.default.svc.cluster.local.", zonal, "- - - web default svc zone=corp.a"},
		{"a.near._zone.web.default.svc.cluster.local.", zonal, "parse-error=invalid query name"},
		{"a.pin._zone.web.default.pod.cluster.local.", zonal, "parse-error=invalid query name"},
		{"web-0.east.web.default.svc.set.", set, "- - web-0 web default svc cluster=east zone="},
		{"_http._tcp.web.default.svc.set.", set, "http tcp - web default svc cluster= zone="},
		{"a.pin._zone.web.default.svc.set.", set, "parse-error=invalid query name"},
		{"www.example.com.", none, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := labelsOf(t, testHandler(c.change), "192.0.2.99", c.name)
			want := make(map[string]string)
			order := []string{"port-name", "protocol", "endpoint", "service", "namespace", "kind"}
			words := strings.Fields(c.want)
			if strings.HasPrefix(c.want, "parse-error=") {
				words, order = []string{c.want}, nil
			}
			for i, word := range words {
				if i < len(order) {
					want[order[i]] = strings.Trim(word, "-")
					if strings.Contains(word, "0-7") || word == "web-0" {
						want[order[i]] = word
					}
					continue
				}
				label, value, _ := strings.Cut(word, "=")
				want[label] = value
			}
			if !maps.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestMetadataOfClients(t *testing.T) {
	h := clientHandler()
	p := map[string]string{
		"client-namespace": "default", "client-pod-name": "p", "client-label/app": "web", "client-label/example.com/tier": "front",
	}
	twin := cluster.PodName{Namespace: "default", Name: "twin"}
	h.store.Apply(cluster.Update{Pods: []cluster.PodUpdate{{Name: twin, Pod: &cluster.Pod{Name: twin, IPs: []netip.Addr{netip.MustParseAddr("fd00::7")}}}}})
	for client, want := range map[string]map[string]string{
		"10.42.0.7": p,
		"10.42.0.8": {},
		"192.0.2.1": {}, // pods of two namespaces
		"fd00::7":   {"client-namespace": "default"},
	} {
		if got := labelsOf(t, h, client, "www.example.com."); !maps.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", client, got, want)
		}
	}
}

// labelsOf returns the metadata of a query, without the prefix.
func labelsOf(t *testing.T, h *Handler, client, name string) map[string]string {
	t.Helper()
	ctx := h.Metadata(metadata.ContextWithMetadata(t.Context()), queryFrom(client, name))
	out := make(map[string]string)
	for label, value := range metadata.ValueFuncs(ctx) {
		short, ok := strings.CutPrefix(label, "kubernetes/")
		if !ok {
			t.Errorf("label %s", label)
		}
		out[short] = value()
	}
	return out
}
