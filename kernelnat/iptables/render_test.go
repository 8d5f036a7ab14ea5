package iptables

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/backendtest"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, string(want), string(got))
}

// varied has a port of each kind, in both families.
func varied() []plan.Service {
	vip4, vip6 := netip.MustParseAddr("10.43.0.10"), netip.MustParseAddr("fd00:10:43::10")
	port := func(name string, protocol cluster.Protocol, vip netip.Addr, number uint16, endpoints ...string) plan.Service {
		return onePort(name, protocol, netip.AddrPortFrom(vip, number), addrPorts(endpoints...)...)
	}
	refused := port("", cluster.TCP, netip.MustParseAddr("10.43.0.11"), 80)
	refused.Frontends[0].Verdict = plan.Reject
	refused6 := port("", cluster.TCP, netip.MustParseAddr("fd00:10:43::11"), 80)
	refused6.Frontends[0].Verdict = plan.Reject
	local := port("here", cluster.TCP, netip.MustParseAddr("10.43.0.12"), 80, "10.42.0.7:8080", "10.42.0.8:8080")
	local.Frontends[0].Local, local.Frontends[0].Masquerade = true, plan.Masquerade{}
	local.Pools[0].Endpoints, local.Pools[0].Local = nil, local.Pools[0].Endpoints
	dropped := port("elsewhere", cluster.UDP, netip.MustParseAddr("10.43.0.12"), 80)
	dropped.Frontends[0].Local, dropped.Frontends[0].Verdict = true, plan.Drop
	bridged := port("", cluster.TCP, netip.MustParseAddr("10.43.0.14"), 80, "10.42.0.9:80")
	bridge := plan.Clients{Interface: "cni0"}
	bridged.Frontends[0].Masquerade = plan.Masquerade{Outside: bridge}
	bridged.Pools[0].Local = bridged.Pools[0].Endpoints
	bridged = backendtest.Outside{NodePort: 30088, Verdict: plan.Forward, Treatment: plan.Treatment{Local: true, Inside: bridge}}.Add(bridged)
	all := port("", cluster.SCTP, netip.MustParseAddr("10.43.0.13"), 9, "10.42.0.9:9")
	all.Frontends[0].Masquerade = plan.Masquerade{All: true}
	return []plan.Service{
		backendtest.Named("dns",
			port("dns", cluster.UDP, vip4, 53, "10.42.0.5:1053", "10.42.1.5:1053"),
			port("dns-tcp", cluster.TCP, vip4, 53, "10.42.0.5:1053", "10.42.1.5:1053"),
			port("dns", cluster.UDP, vip6, 53, "[fd00:10:42::5]:1053", "[fd00:10:42::6]:1053"),
		),
		backendtest.Named("empty", refused, refused6),
		backendtest.Named("local", local, dropped),
		backendtest.Named("bridged", bridged),
		backendtest.Named("masqueraded", all),
		backendtest.Named("without-address"),
	}
}

// external has a frontend of each kind.
func external(v plan.Verdict, local bool, clusterIP netip.Addr) backendtest.Outside {
	e := backendtest.Outside{NodePort: 30080, Verdict: v, Treatment: plan.Treatment{Local: local, FromNode: true}}
	if clusterIP.Is4() {
		e.Inside = plan.Clients{Range: netip.MustParsePrefix("10.42.0.0/16")}
		e.IPs, e.LoadBalancers = []netip.Addr{netip.MustParseAddr("198.51.100.1")}, []netip.Addr{netip.MustParseAddr("203.0.113.7")}
		e.Sources = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	} else {
		e.IPs, e.LoadBalancers = []netip.Addr{netip.MustParseAddr("2001:db8:1::1")}, []netip.Addr{netip.MustParseAddr("2001:db8:2::7")}
		e.Sources = []netip.Prefix{netip.MustParsePrefix("2001:db8::/64")}
	}
	return e
}

// externals is Services for clients outside: under each policy, with and without
// endpoints, and with affinity.
func externals() []plan.Service {
	var out []plan.Service
	for i, c := range []struct {
		name    string
		verdict plan.Verdict
		local   bool
		sticky  uint32
	}{
		{"cluster", plan.Forward, false, 0}, {"local", plan.Forward, true, 0}, {"elsewhere", plan.Drop, true, 0},
		{"none", plan.Reject, false, 0}, {"sticky", plan.Forward, false, 10800},
	} {
		var ports []plan.Service
		for family, vip := range []string{"10.43.0.", "fd00:10:43::"} {
			at := netip.AddrPortFrom(netip.MustParseAddr(vip+fmt.Sprint(20+i)), 80)
			p := onePort("web", cluster.TCP, at,
				[][]netip.AddrPort{addrPorts("10.42.0.7:8080", "10.42.1.7:8080"), addrPorts("[fd00:10:42::7]:8080", "[fd00:10:42::8]:8080")}[family]...)
			pool := &p.Pools[0]
			pool.AffinitySeconds = c.sticky
			switch {
			case c.verdict == plan.Reject:
				p.Frontends[0].Verdict, pool.Endpoints = plan.Reject, nil
			case c.verdict == plan.Forward && c.local:
				pool.Local = pool.Endpoints[:1]
			}
			e := external(c.verdict, c.local, at.Addr())
			e.NodePort += uint16(i)
			ports = append(ports, e.Add(p))
		}
		s := backendtest.Named(c.name, ports...)
		if c.local {
			s.HealthCheckNodePort = uint16(31000 + i)
		}
		out = append(out, s)
	}
	return out
}

// balanced is Services with weights and with other policies than Random.
func balanced() []plan.Service {
	endpoints := addrPorts("10.42.0.7:8080", "10.42.0.8:8080", "10.42.1.7:8080")
	port := func(i int, edit func(*plan.Pool)) plan.Service {
		p := onePort("web", cluster.TCP, netip.AddrPortFrom(netip.MustParseAddr("10.43.0.40"), uint16(80+i)), endpoints...)
		p.Pools[0].Port = fmt.Sprintf("p%d", i)
		edit(&p.Pools[0])
		return p
	}
	local := port(5, func(p *plan.Pool) {
		p.Endpoints, p.Local, p.LocalWeights, p.Policy = nil, p.Endpoints[:2], []cluster.Weight{2, 1}, cluster.RoundRobin
	})
	local.Frontends[0].Local = true
	return []plan.Service{backendtest.Named("balanced",
		port(0, func(p *plan.Pool) { p.Weights = []cluster.Weight{1, 3, 65535} }),
		port(1, func(p *plan.Pool) { p.Policy = cluster.RoundRobin }),
		port(2, func(p *plan.Pool) { p.Policy, p.Weights = cluster.RoundRobin, []cluster.Weight{30, 10, 10} }),
		port(3, func(p *plan.Pool) {
			p.Policy, p.AffinitySeconds, p.Weights = cluster.RoundRobin, 60, []cluster.Weight{1, 2, 1}
		}),
		port(4, func(p *plan.Pool) { p.Policy = cluster.SourceHash }), // which is not asked of it
		local,
	)}
}

func TestRulesGolden(t *testing.T) {
	for _, c := range []struct {
		name     string
		services []plan.Service
		family   cluster.Family
	}{
		{"page", []plan.Service{pageService()}, cluster.IPv4},
		{"varied4", varied(), cluster.IPv4},
		{"varied6", varied(), cluster.IPv6},
		{"external4", externals(), cluster.IPv4},
		{"external6", externals(), cluster.IPv6},
		{"balanced4", balanced(), cluster.IPv4},
		{"none", nil, cluster.IPv6},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got bytes.Buffer
			if err := Rules(&got, c.family, stateOf(c.services, c.family), netfilter.Settings{MasqueradeBit: netfilter.DefaultMasqueradeBit}); err != nil {
				t.Fatal(err)
			}
			golden(t, c.name+".rules", got.Bytes())
		})
	}
}

// Rules prints what Sync sends, wherever NodePorts are.
func TestRulesAreWhatSyncSends(t *testing.T) {
	for name, at := range map[string]netfilter.NodePorts{
		"everywhere": {}, "at the Node's addresses": {Primary: true}, "in a range": {Ranges: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, nft)
			dir := h.replaceRestore(t, `tee -a $DIR/${0##*/}.in | $REAL "$@"`)
			settings := netfilter.Settings{MasqueradeBit: netfilter.DefaultMasqueradeBit, NodePorts: at}
			both, err := New(settings)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range cluster.Families {
				state := stateOf(varied(), f)
				state.Node.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")}
				var want bytes.Buffer
				h.do(t, func() error {
					_, err := both[f].Sync(t.Context(), state)
					return errors.Join(err, Rules(&want, f, state, settings))
				})
				sent, err := os.ReadFile(filepath.Join(dir, command(f)+"-nft-restore.in"))
				if err != nil {
					t.Fatal(err)
				}
				diff(t, want.String(), string(sent))
			}
		})
	}
}

// arrangementOf is how the rules of Services in shared chains are arranged.
func arrangementOf(all ...plan.Service) *arrangement {
	var rules [places][]rule
	for _, s := range all {
		addShared(&rules, s)
	}
	a := arrange(rules, dialect{family: cluster.IPv4, nodePorts: []netip.Addr{netip.IPv4Unspecified()}, localhost: true})
	for _, t := range a {
		t.changes()
	}
	return a
}

func changeScript(changes []kernelnat.Change, a *arrangement, chains int) []byte {
	return bytes.Join(slices.Collect(changeScripts(changes, a, chains)), nil)
}

// What Apply sends for changes of the varied Services, in one golden a case.
func TestChangeGolden(t *testing.T) {
	page := pageService()
	with := func(f func(f *plan.Frontend, p *plan.Pool)) plan.Service {
		s := pageService()
		f(&s.Frontends[0], &s.Pools[0])
		return s
	}
	none := plan.Service{Name: page.Name}
	scaled := with(func(_ *plan.Frontend, p *plan.Pool) { p.Endpoints = p.Endpoints[:2] })
	refused := with(func(f *plan.Frontend, p *plan.Pool) { p.Endpoints, f.Verdict = nil, plan.Reject })
	moved := with(func(f *plan.Frontend, _ *plan.Pool) { f.At = netip.MustParseAddrPort("10.43.134.254:8080") })
	local := with(func(f *plan.Frontend, p *plan.Pool) { f.Local, p.Endpoints, p.Local = true, nil, p.Endpoints })
	reachable := external(plan.Forward, false, page.Frontends[0].At.Addr()).Add(pageService())
	closed := external(plan.Drop, true, page.Frontends[0].At.Addr()).Add(pageService())
	var got bytes.Buffer
	for _, c := range []struct {
		name     string
		old, new plan.Service
	}{
		{"new", none, page}, {"gone", page, none}, {"scaled", page, scaled}, {"refused", page, refused},
		{"forwarded again", refused, page}, {"moved", page, moved}, {"local", page, local}, {"reachable from outside", page, reachable}, {"and then not", reachable, closed}, {"same", page, page},
	} {
		fmt.Fprintf(&got, "# %s\n%s", c.name, changeScript([]kernelnat.Change{{Old: c.old, New: c.new}}, arrangementOf(c.old), 1000))
	}
	golden(t, "changes.rules", got.Bytes())
}

// What Sync sends where there is something already: each is a state as
// iptables-save prints it, and the plans for it.
func TestSyncGolden(t *testing.T) {
	page, err := os.ReadFile("testdata/page.save")
	if err != nil {
		t.Fatal(err)
	}
	refused := pageService()
	refused.Pools[0].Endpoints, refused.Frontends[0].Verdict = nil, plan.Reject
	const filter = "*filter\n:KUBE-SERVICES - [0:0]\n"
	var got bytes.Buffer
	for _, c := range []struct {
		name     string
		saved    string
		services []plan.Service
		partial  bool
	}{
		{"same in nat", "*nat\n" + string(page), []plan.Service{pageService()}, false},
		{"has lost its endpoints", "*nat\n" + string(page) + filter, []plan.Service{refused}, false},
		{"flushed by somebody", strings.ReplaceAll("*nat\n"+string(page), "-A KUBE-SEP", "-A NOT-KUBE-SEP"), []plan.Service{pageService()}, false},
		{"used by somebody", "*nat\n" + string(page) + "-A CNI -j KUBE-SVC-EF6QQNEDGUCXH6TD\n" + filter, nil, false},
		{"not all Services are known", "*nat\n" + string(page) + filter + `-A KUBE-SERVICES -d 10.43.0.9/32 -p tcp -m comment --comment "a/b:http has no endpoints" -m tcp --dport 80 -j REJECT` + "\n",
			[]plan.Service{backendtest.Named("other", refused)}, true},
	} {
		fmt.Fprintf(&got, "# %s\n", c.name)
		s := session{have: parse(t, c.saved).state, chains: nft.chains(), send: func(input []byte) error {
			got.Write(input)
			return nil
		}}
		if _, err := s.sync(t.Context(), kernelnat.State{Services: c.services}, dialect{family: cluster.IPv4, bit: netfilter.DefaultMasqueradeBit, randomFully: true, nodePorts: []netip.Addr{netip.IPv4Unspecified()}},
			unknown(kernelnat.State{Incomplete: c.partial, Known: map[cluster.ServiceName]bool{{Namespace: "testing", Name: "other"}: true}})); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "syncs.rules", got.Bytes())
}

// A large Apply is sent in transactions of bounded size, each Service whole.
func TestChangesAreBounded(t *testing.T) {
	var changes []kernelnat.Change
	for _, s := range services(100, 1, 9) {
		changes = append(changes, kernelnat.Change{Old: plan.Service{Name: s.Name}, New: s})
	}
	text := string(changeScript(changes, arrangementOf(), 100))
	transactions := strings.Split(strings.TrimSuffix(text, "COMMIT\n"), "COMMIT\n")
	if len(transactions) != 10 {
		t.Fatalf("%d transactions", len(transactions))
	}
	for _, tx := range transactions {
		if n := strings.Count(tx, "\n:"+prefixService) - strings.Count(tx, "\n:"+prefixRange) + strings.Count(tx, "\n:"+prefixEndpoint); n != 100 {
			t.Errorf("%d chains in one transaction", n)
		}
	}
}

// The rules are as many as kube-proxy's: for each port one that dispatches and
// one that masquerades, and three for each endpoint.
func TestNumberOfRules(t *testing.T) {
	for _, c := range []struct{ services, ports, endpoints, want int }{
		{0, 0, 0, 5},
		{1, 1, 1, 10},
		{1, 1, 10, 37},
		{10, 1, 2, 85},
		{10, 2, 10, 645},
	} {
		var out bytes.Buffer
		if err := Rules(&out, cluster.IPv4, kernelnat.State{Services: services(c.services, c.ports, c.endpoints)}, netfilter.Settings{}); err != nil {
			t.Fatal(err)
		}
		got := 0
		for tx := range strings.SplitSeq(out.String(), "COMMIT\n") {
			if strings.HasPrefix(tx, "*nat") {
				got += strings.Count(tx, "\n-A ")
			}
		}
		if got != c.want {
			t.Errorf("%d Services, %d ports, %d endpoints: %d rules in nat, want %d", c.services, c.ports, c.endpoints, got, c.want)
		}
	}
}

// The cost of a change depends on the Service alone.
func BenchmarkChange(b *testing.B) {
	for _, n := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("endpoints=%d", n), func(b *testing.B) {
			old := services(1, 1, n)[0]
			next := services(1, 1, n+1)[0]
			dispatch := arrangementOf(old)
			for b.Loop() {
				changeScript([]kernelnat.Change{{Old: old, New: next}}, dispatch, 1000)
			}
		})
	}
}
