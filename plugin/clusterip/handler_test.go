package clusterip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/plugin/clusterip/zone"
	"github.com/clusterip/clusterip/test/clustertest"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
)

// testHandler serves cluster.local, in-addr.arpa and the Services of example.
func testHandler(change ...func(*Options)) *Handler {
	o := Options{Zones: []string{"cluster.local.", "in-addr.arpa."}, TTL: 5}
	for _, c := range change {
		c(&o)
	}
	h := New(o, cluster.NewStore(), []netip.Addr{netip.MustParseAddr("192.0.2.53")})
	h.upstream = outside{}
	h.store.Apply(example())
	return h
}

func example() cluster.Update {
	web := cluster.New(clustertest.Service("default/web", "10.43.0.10"), []cluster.Endpoint{{Addr: netip.MustParseAddr("10.42.0.7"), Ready: true}})
	return cluster.Update{
		Synced:     true,
		Namespaces: []cluster.NamespaceUpdate{{Name: "default", Exists: true}, {Name: "other", Exists: true}},
		Pods: []cluster.PodUpdate{{
			Name: cluster.PodName{Namespace: "default", Name: "p"},
			Pod:  &cluster.Pod{Name: cluster.PodName{Namespace: "default", Name: "p"}, Labels: map[string]string{"app": "web", "example.com/tier": "front"}, IPs: clustertest.Addrs("10.42.0.7", "fd00::7")},
		}},
		Services: clustertest.Changed(
			web,
			alias("near", "web.default.svc.cluster.local"),
			alias("far", "www.example.com"),
			alias("mixed", "WEB.default.svc.Cluster.local"),
			alias("missing", "nope.default.svc.cluster.local"),
			alias("empty", "default.svc.cluster.local"),
			alias("broken", "broken.example.com"),
			alias("gone", "gone.example.com"),
			alias("refused", "refused.example.com"),
			alias("self", "self.default.svc.cluster.local"),
			alias("ping", "pong.default.svc.cluster.local"),
			alias("pong", "ping.default.svc.cluster.local"),
		),
	}
}

// alias is a Service in the namespace default that is another name.
func alias(name, target string) *cluster.Service {
	return cluster.New(cluster.Service{Name: clustertest.Name("default/" + name), Kind: cluster.KindExternalName, ExternalName: target})
}

// outside is what the rest of the server knows of other names.
type outside struct{}

func (outside) Lookup(_ context.Context, _ request.Request, name string, _ uint16) (*dns.Msg, error) {
	m := new(dns.Msg)
	switch name {
	case "www.example.com.":
		m.Answer = []dns.RR{test.A("www.example.com. 300 IN A 192.0.2.80")}
	case "broken.example.com.":
		m.Rcode = dns.RcodeServerFailure
	case "gone.example.com.":
		m.Rcode = dns.RcodeNameError
		m.Ns = []dns.RR{test.SOA("example.com. 60 IN SOA ns.example.com. root.example.com. 1 2 3 4 60")}
	case "refused.example.com.":
		m.Rcode = dns.RcodeRefused
	default:
		return nil, errors.New("no such server")
	}
	return m, nil
}

// ask sends one question and returns the reply, or nil and the code for which
// CoreDNS makes the reply.
func ask(t *testing.T, h *Handler, name string, qtype uint16) (*dns.Msg, int) {
	t.Helper()
	w := dnstest.NewRecorder(&test.ResponseWriter{})
	code, err := h.ServeDNS(t.Context(), w, new(dns.Msg).SetQuestion(name, qtype))
	if err != nil {
		t.Fatalf("ServeDNS: %v", err)
	}
	return w.Msg, code
}

// text is a reply in one line for each record, led by its code.
func text(m *dns.Msg) string {
	lines := []string{dns.RcodeToString[m.Rcode]}
	for _, rr := range slices.Concat(m.Answer, m.Ns, m.Extra) {
		if rr.Header().Rrtype == dns.TypeSOA {
			lines = append(lines, rr.Header().Name+" SOA")
			continue
		}
		lines = append(lines, strings.ReplaceAll(rr.String(), "\t", " "))
	}
	return strings.Join(lines, "\n")
}

func TestAlias(t *testing.T) {
	h := testHandler()
	for _, c := range []struct {
		name  string
		qtype uint16
		want  string
	}{
		{"near", dns.TypeA, "NOERROR\nnear CNAME web.default.svc.cluster.local.\nweb.default.svc.cluster.local. 5 IN A 10.43.0.10"},
		{"near", dns.TypeAAAA, "NOERROR\nnear CNAME web.default.svc.cluster.local.\ncluster.local. SOA"},
		{"near", dns.TypeCNAME, "NOERROR\nnear CNAME web.default.svc.cluster.local."},
		{"mixed", dns.TypeA, "NOERROR\nmixed CNAME WEB.default.svc.Cluster.local.\nWEB.default.svc.Cluster.local. 5 IN A 10.43.0.10"},
		{"far", dns.TypeA, "NOERROR\nfar CNAME www.example.com.\nwww.example.com. 300 IN A 192.0.2.80"},
		{"missing", dns.TypeA, "NXDOMAIN\nmissing CNAME nope.default.svc.cluster.local.\ncluster.local. SOA"},
		{"empty", dns.TypeA, "NOERROR\nempty CNAME default.svc.cluster.local.\ncluster.local. SOA"},
		{"broken", dns.TypeA, "SERVFAIL\nbroken CNAME broken.example.com."},
		{"gone", dns.TypeA, "NXDOMAIN\ngone CNAME gone.example.com.\nexample.com. SOA"},
		{"refused", dns.TypeA, "NOERROR\nrefused CNAME refused.example.com."},
		{"self", dns.TypeA, "NOERROR\ncluster.local. SOA"},
		{"self", dns.TypeCNAME, "NOERROR\nself CNAME self.default.svc.cluster.local."},
		{"ping", dns.TypeA, "NOERROR\ncluster.local. SOA"},
	} {
		t.Run(c.name+" "+dns.TypeToString[c.qtype], func(t *testing.T) {
			m, _ := ask(t, h, c.name+".default.svc.cluster.local.", c.qtype)
			if !m.Authoritative {
				t.Error("AA is not set")
			}
			got := strings.ReplaceAll(text(m), ".default.svc.cluster.local. 5 IN CNAME", " CNAME")
			if got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// A chain is followed through at least as many links as CoreDNS follows, and a loop ends,
// however long it is.
func TestAliasChain(t *testing.T) {
	h := testHandler()
	chain := func(length int, end string) {
		var links []*cluster.Service
		for i := range length {
			target := fmt.Sprintf("link-%d.default.svc.cluster.local", i+1)
			if i == length-1 {
				target = end
			}
			links = append(links, alias(fmt.Sprintf("link-%d", i), target))
		}
		h.store.Apply(cluster.Update{Services: clustertest.Changed(links...)})
	}
	for _, c := range []struct {
		length  int
		end     string
		answers int // besides the CNAMEs; -1 for no data
	}{
		{11, "web.default.svc.cluster.local", 1},
		{12, "web.default.svc.cluster.local", 1},
		{maxAliases, "web.default.svc.cluster.local", 1},
		{maxAliases, "www.example.com", 1},
		{maxAliases + 1, "web.default.svc.cluster.local", -1},
		{1, "link-0.default.svc.cluster.local", -1},
		{2, "Link-0.default.svc.cluster.local", -1},
		{5, "link-3.default.svc.cluster.local", -1},
		{maxAliases, "link-0.default.svc.cluster.local", -1},
	} {
		chain(c.length, c.end)
		m, _ := ask(t, h, "Link-0.default.svc.cluster.local.", dns.TypeA)
		if c.answers < 0 {
			if got, want := text(m), "NOERROR\ncluster.local. SOA"; got != want {
				t.Errorf("%d links to %s: got\n%s\nwant\n%s", c.length, c.end, got, want)
			}
		} else if m.Rcode != dns.RcodeSuccess || len(m.Answer) != c.length+c.answers || len(m.Ns) > 0 {
			t.Errorf("%d links to %s: got\n%s", c.length, c.end, text(m))
		}
	}
}

// A name the chain leads to may be in our zone and yet come from another plugin.
func TestAliasFallsThrough(t *testing.T) {
	h := testHandler(func(o *Options) { o.Fall.SetZonesFromArgs(nil) })
	m, _ := ask(t, h, "missing.default.svc.cluster.local.", dns.TypeA)
	want := "NOERROR\nmissing.default.svc.cluster.local. 5 IN CNAME nope.default.svc.cluster.local."
	if got := text(m); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// When every lookup leads back here, somebody has to stop.
func TestAliasRoundsAreBounded(t *testing.T) {
	h := testHandler()
	w := dnstest.NewRecorder(&test.ResponseWriter{})
	ctx := context.WithValue(t.Context(), roundsKey{}, maxRounds)
	if _, err := h.ServeDNS(ctx, w, new(dns.Msg).SetQuestion("far.default.svc.cluster.local.", dns.TypeA)); err != nil {
		t.Fatal(err)
	}
	if w.Msg.Rcode != dns.RcodeServerFailure {
		t.Errorf("got %s, want SERVFAIL", dns.RcodeToString[w.Msg.Rcode])
	}
}

func TestReply(t *testing.T) {
	h := testHandler()
	w := dnstest.NewRecorder(&test.ResponseWriter{})
	r := new(dns.Msg).SetQuestion("Web.default.svc.cluster.local.", dns.TypeA)
	r.CheckingDisabled = true
	if _, err := h.ServeDNS(t.Context(), w, r); err != nil {
		t.Fatal(err)
	}
	want := new(dns.Msg).SetReply(r)
	want.Authoritative = true
	want.Answer = []dns.RR{test.A("Web.default.svc.cluster.local. 5 IN A 10.43.0.10")}
	if got := w.Msg.String(); got != want.String() {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestPods(t *testing.T) {
	for _, c := range []struct {
		name string
		mode zone.PodMode
		want int
	}{
		{"10-42-0-7.default", zone.PodsDisabled, dns.RcodeNameError},
		{"default", zone.PodsDisabled, dns.RcodeNameError},
		{"10-42-0-7.default", zone.PodsInsecure, dns.RcodeSuccess},
		{"10-99-0-7.other", zone.PodsInsecure, dns.RcodeSuccess},
		{"10-99-0-7.none", zone.PodsInsecure, dns.RcodeNameError},
		{"010-99-0-7.other", zone.PodsInsecure, dns.RcodeNameError},
		{"nonsense.other", zone.PodsInsecure, dns.RcodeNameError},
		{"--ffff-102-304.other", zone.PodsInsecure, dns.RcodeNameError},
		{"10-42-0-7.default", zone.PodsVerified, dns.RcodeSuccess},
		{"fd00--7.default", zone.PodsVerified, dns.RcodeSuccess},
		{"10-42-0-7.other", zone.PodsVerified, dns.RcodeNameError},
		{"10-42-0-8.default", zone.PodsVerified, dns.RcodeNameError},
		{"default", zone.PodsVerified, dns.RcodeSuccess},
	} {
		h := testHandler(func(o *Options) { o.Pods = c.mode })
		name := c.name + ".pod.Cluster.local."
		qtype := dns.TypeA
		if strings.HasPrefix(c.name, "fd") {
			qtype = dns.TypeAAAA
		}
		m, _ := ask(t, h, name, qtype)
		if m.Rcode != c.want {
			t.Errorf("mode %d: %s is %s, want %s", c.mode, c.name, dns.RcodeToString[m.Rcode], dns.RcodeToString[c.want])
		}
		if len(m.Answer) > 0 && m.Answer[0].Header().Name != name {
			t.Errorf("the owner of %s is %s", name, m.Answer[0].Header().Name)
		}
	}
}

// next stands for the plugins after ours.
var next = plugin.HandlerFunc(func(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) {
	return dns.RcodeBadAlg, nil
})

func TestWhoAnswers(t *testing.T) {
	const nextPlugin = dns.RcodeBadAlg
	through := func(zones ...string) func(*Options) {
		return func(o *Options) { o.Fall.SetZonesFromArgs(zones) }
	}
	none := func(*Options) {}
	for _, c := range []struct {
		what   string
		change func(*Options)
		name   string
		qtype  uint16
		want   int
	}{
		{"another zone", none, "example.com.", dns.TypeA, nextPlugin},
		{"NXDOMAIN", none, "nope.cluster.local.", dns.TypeA, dns.RcodeSuccess},
		{"NXDOMAIN falls through", through(), "nope.cluster.local.", dns.TypeA, nextPlugin},
		{"NODATA does not", through(), "web.default.svc.cluster.local.", dns.TypeAAAA, dns.RcodeSuccess},
		{"of another zone than asked", through("in-addr.arpa"), "nope.cluster.local.", dns.TypeA, dns.RcodeSuccess},
		{"of the zone asked", through("in-addr.arpa"), "1.2.3.4.in-addr.arpa.", dns.TypePTR, nextPlugin},
		{"AXFR", none, "cluster.local.", dns.TypeAXFR, dns.RcodeRefused},
		{"IXFR", none, "cluster.local.", dns.TypeIXFR, dns.RcodeRefused},
	} {
		t.Run(c.what, func(t *testing.T) {
			h := testHandler(c.change)
			h.Next = next
			if _, code := ask(t, h, c.name, c.qtype); code != c.want {
				t.Errorf("code %d, want %d", code, c.want)
			}
		})
	}
}

func TestOtherOpcodes(t *testing.T) {
	r := new(dns.Msg).SetNotify("cluster.local.")
	code, _ := testHandler().ServeDNS(t.Context(), dnstest.NewRecorder(&test.ResponseWriter{}), r)
	if code != dns.RcodeNotImplemented {
		t.Errorf("NOTIFY got code %d, want NOTIMP", code)
	}
}

func TestNotSynced(t *testing.T) {
	h := New(Options{Zones: []string{"cluster.local."}}, cluster.NewStore(), nil)
	h.Next = next
	h.options.Fall.SetZonesFromArgs(nil)
	for _, name := range []string{"cluster.local.", "web.default.svc.cluster.local."} {
		if m, code := ask(t, h, name, dns.TypeA); code != dns.RcodeServerFailure || m != nil {
			t.Errorf("%s: code %d and reply %v before the first sync, want SERVFAIL", name, code, m)
		}
	}
	if h.Ready() {
		t.Error("ready before the first sync")
	}
	h.store.Apply(cluster.Update{Synced: true})
	if !h.Ready() {
		t.Error("not ready after the first sync")
	}
}

// RFC 8914: who speaks EDNS hears why there is no answer, in an OPT record that is
// otherwise as the server makes it.
func TestNotSyncedEDE(t *testing.T) {
	h := New(Options{Zones: []string{"cluster.local."}}, cluster.NewStore(), nil)
	r := new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA).SetEdns0(1400, true)
	w := dnstest.NewRecorder(&test.ResponseWriter{})
	code, err := h.ServeDNS(t.Context(), request.NewScrubWriter(r, w), r)
	if err != nil || code != dns.RcodeSuccess || w.Msg == nil || w.Msg.Rcode != dns.RcodeServerFailure {
		t.Fatalf("code %d, error %v, reply %v: want a reply with SERVFAIL", code, err, w.Msg)
	}
	opt := w.Msg.IsEdns0()
	if opt == nil || len(opt.Option) != 1 || len(w.Msg.Extra) != 1 || opt.UDPSize() != 1400 || !opt.Do() {
		t.Fatalf("EDNS is %v", w.Msg.Extra)
	}
	if ede, ok := opt.Option[0].(*dns.EDNS0_EDE); !ok || ede.InfoCode != dns.ExtendedErrorCodeNotReady {
		t.Errorf("option %v, want EDE 14", opt.Option[0])
	}
}

// The SOA serial rises with every change (RFC 1982).
func TestSerial(t *testing.T) {
	h := testHandler()
	serial := func() uint32 {
		m, _ := ask(t, h, "cluster.local.", dns.TypeSOA)
		return m.Answer[0].(*dns.SOA).Serial
	}
	before := serial()
	h.store.Apply(cluster.Update{Namespaces: []cluster.NamespaceUpdate{{Name: "new", Exists: true}}})
	if after := serial(); after != before+1 {
		t.Errorf("serial %d after %d, want one more", after, before)
	}
}

// silent writes nothing and allocates nothing.
type silent struct{ test.ResponseWriter }

func TestAllocs(t *testing.T) {
	h := testHandler(func(o *Options) { o.Fall.SetZonesFromArgs([]string{"in-addr.arpa", "ip6.arpa"}) })
	for _, c := range []struct {
		name  string
		qtype uint16
	}{
		{"web.default.svc.cluster.local.", dns.TypeA},
		{"_http._tcp.web.default.svc.cluster.local.", dns.TypeSRV},
		{"web.default.svc.cluster.local.", dns.TypeAAAA},
		{"www.example.com.default.svc.cluster.local.", dns.TypeA},
		{"10.0.43.10.in-addr.arpa.", dns.TypePTR},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := new(dns.Msg).SetQuestion(c.name, c.qtype)
			w, ctx := new(silent), t.Context()
			allocs := testing.AllocsPerRun(100, func() { h.ServeDNS(ctx, w, r) })
			if allocs > 2 {
				t.Errorf("%v allocations, want at most 2", allocs)
			}
		})
	}
}

// Nobody is told a serial before what it stands for can be found.
func TestSerialFollowsData(t *testing.T) {
	store := cluster.NewStore()
	var h *Handler
	seen := func() (serial uint32, web int) {
		soa, _ := ask(t, h, "cluster.local.", dns.TypeSOA)
		m, _ := ask(t, h, "web.default.svc.cluster.local.", dns.TypeA)
		return soa.Answer[0].(*dns.SOA).Serial, m.Rcode
	}
	var serial uint32
	var code int
	store.Subscribe(func(cluster.Update) { // before the Handler
		if h != nil && store.HasSynced() {
			serial, code = seen()
		}
	})
	h = New(Options{Zones: []string{"cluster.local."}}, store, nil)
	store.Apply(example())
	before, _ := seen()
	web := example().Services[0].Name
	store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{{Name: web}}})
	if serial != before || code != dns.RcodeSuccess {
		t.Errorf("while the Index has the state of serial %d, the serial is %d and %s has %s", before, serial, web, dns.RcodeToString[code])
	}
	if serial, code = seen(); serial != before+1 || code != dns.RcodeNameError {
		t.Errorf("after the change of serial %d the serial is %d and %s has %s", before+1, serial, web, dns.RcodeToString[code])
	}
}
