package clusterip

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/plugin/clusterip/wire"
	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/acl"
	_ "github.com/coredns/coredns/plugin/any"
	_ "github.com/coredns/coredns/plugin/autopath"
	_ "github.com/coredns/coredns/plugin/bufsize"
	_ "github.com/coredns/coredns/plugin/erratic"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/header"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/local"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/loop"
	_ "github.com/coredns/coredns/plugin/metadata"
	_ "github.com/coredns/coredns/plugin/metrics"
	_ "github.com/coredns/coredns/plugin/multisocket"
	_ "github.com/coredns/coredns/plugin/nsid"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
	_ "github.com/coredns/coredns/plugin/rewrite"
	_ "github.com/coredns/coredns/plugin/template"
	"github.com/coredns/coredns/plugin/test"
	_ "github.com/coredns/coredns/plugin/transfer"
	_ "github.com/coredns/coredns/plugin/view"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
)

// laneOf starts a server block with other plugins, and returns the lane that it has.
func laneOf(t *testing.T, plugins string) (l *lane, why string) {
	t.Helper()
	dir := t.TempDir()
	instance, err := caddy.Start(corefile(dir, "fastpath off", plugins+"\natend"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		instance.ShutdownCallbacks()
		instance.Stop()
	}()
	config := atEndConfig
	return newLane(config.Handler(pluginName).(*Handler), config)
}

// TestFronts has what may stand in front of the directive, and what may not.
func TestFronts(t *testing.T) {
	for _, plugins := range []string{
		"", "errors", "cache 30", "loadbalance", "loadbalance round_robin", "prometheus 127.0.0.1:0", "bufsize 1232", "metadata", "any", "loop", "ready 127.0.0.1:0", "health 127.0.0.1:0",
		"log {\nclass error\n}", "hosts {\n192.0.2.1 host.example.com\nfallthrough\n}", "hosts {\n192.0.2.1 host.example.com\nfallthrough cluster.local\n}",
		"acl {\nallow net 127.0.0.0/8\nblock\n}", "autopath @clusterip", "autopath @kubernetes", "transfer {\nto *\n}", "multisocket 2",
	} {
		if _, why := laneOf(t, plugins); why != "" {
			t.Errorf("%q keeps the fast path off: %s", plugins, why)
		}
	}
	if l, _ := laneOf(t, "autopath @nobody"); l.search != nil {
		t.Error("there is a search path where autopath has none")
	}
	for plugins, want := range map[string]string{
		"log":                                                   "the plugin log is in front of it and logs more than class error",
		"log {\nclass denial error\n}":                          "the plugin log is in front of it and logs more than class error",
		"hosts {\n192.0.2.1 a.cluster.local\n}":                 "the plugin hosts is in front of it and does not fall through for cluster.local.",
		"rewrite name a.example.com b.example.com":              "the plugin rewrite is in front of it",
		"template ANY ANY example.com {\nrcode NXDOMAIN\n}":     "the plugin template is in front of it",
		"nsid here":                                             "the plugin nsid is in front of it",
		"local":                                                 "the plugin local is in front of it",
		"header {\nresponse set ra\n}":                          "the plugin header is in front of it",
		"foreign another":                                       "the plugin another is in front of it",
		"foreign errors":                                        "the plugin errors is in front of it and is not the one that is known",
		"errors\nforeign cache\ncache 30":                       "the plugin cache is in front of it and is not the one that is known",
		"foreign kubernetes\nautopath @kubernetes":              "the plugin kubernetes is in front of it",
		"erratic\nautopath @erratic":                            "the plugin autopath is in front of it and may have the search path of erratic",
		"view v4 {\nexpr incidr(client_ip(), '127.0.0.0/8')\n}": "view chooses among server blocks",
	} {
		if _, why := laneOf(t, plugins); (want == "") != (why == "") || !strings.HasPrefix(why, want) || want != "" && !strings.Contains(why[len(want):], ": ") {
			t.Errorf("%q: %q, want %q with a mend", plugins, why, want)
		}
	}
}

// foreign is a plugin from elsewhere, whose name is not that of its directive.
type foreign struct {
	plugin.Handler
	called string
}

func (f foreign) Name() string { return f.called }

// AutoPath implements autopath.AutoPather.
func (foreign) AutoPath(request.Request) []string { return nil }

// TestAllowsAsACL decides random questions by random rules as the acl plugin does.
func TestAllowsAsACL(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	zones := []string{".", "cluster.local", "svc.cluster.local", "a.svc.cluster.local", "example.com"}
	nets := []string{"10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "0.0.0.0/0", "192.168.0.0/16", "fd00::/8", "fd00:1::/32", "::1", "::/0", "*"}
	addresses := []string{"10.1.2.3", "10.1.2.4", "10.2.0.1", "192.168.1.1", "172.16.0.1", "fd00::1", "fd00:1::1", "::1", "2001:db8::1", "fe80::1"}
	for range 300 {
		var text strings.Builder
		for range 1 + r.IntN(3) {
			fmt.Fprintf(&text, "acl %s {\n", pick(zones...))
			for range r.IntN(4) {
				text.WriteString(pick("allow", "allow", "block", "filter", "drop"))
				if r.IntN(2) == 0 {
					text.WriteString(" type " + pick("A", "AAAA", "SRV A", "*"))
				}
				if r.IntN(4) > 0 {
					text.WriteString(" net " + pick(nets...) + " " + pick(nets...))
				}
				text.WriteString("\n")
			}
			text.WriteString("}\n")
		}
		plugged := aclOf(t, text.String())
		rules, ok := readACL(plugged)
		if !ok {
			t.Fatal("the rules of the acl plugin cannot be read")
		}
		for range 50 {
			q := wire.Question{Name: pick("web.a.svc.cluster.local.", "b.svc.cluster.local.", "cluster.local.", "example.com.", "10.in-addr.arpa."), Type: []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypePTR}[r.IntN(4)]}
			from := pick(addresses...)
			passed := false
			plugged.Next = plugin.HandlerFunc(func(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) {
				passed = true
				return dns.RcodeSuccess, nil
			})
			w := &test.ResponseWriter{RemoteIP: from}
			plugged.ServeDNS(t.Context(), w, new(dns.Msg).SetQuestion(q.Name, q.Type))
			if got := allows(rules, &q, netip.MustParseAddr(from)); got != passed {
				t.Fatalf("%s %d from %s: allowed %v, by the plugin %v, with\n%s", q.Name, q.Type, from, got, passed, &text)
			}
		}
	}
}

// aclOf returns the handler of the acl plugin with such rules.
func aclOf(t *testing.T, text string) acl.ACL {
	t.Helper()
	c := caddy.NewTestController("dns", text)
	setup, err := caddy.DirectiveAction("dns", "acl")
	if err != nil {
		t.Fatal(err)
	}
	if err := setup(c); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return dnsserver.GetConfig(c).Plugin[0](nil).(acl.ACL)
}
