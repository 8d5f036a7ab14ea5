package nftables

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/backendtest"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// host is a network namespace.
type host struct {
	*netlab.Namespace
	testing.TB
}

func newHost(t testing.TB) host {
	t.Helper()
	netlab.Require(t, "nft")
	n, err := netlab.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return host{n, t}
}

func (h host) do(f func() error) {
	h.Helper()
	if err := h.Do(f); err != nil {
		h.Fatal(err)
	}
}

// nft runs the program, with something as its input.
func (h host) nft(input string, args ...string) string {
	h.Helper()
	cmd := exec.Command("nft", args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := []byte(nil), error(nil)
	h.do(func() error { out, err = cmd.CombinedOutput(); return nil })
	if err != nil {
		h.Fatalf("nft %q: %v\n%s", args, err, out)
	}
	return string(out)
}

func newBackend(t testing.TB, family cluster.Family, settings netfilter.Settings) *Backend {
	t.Helper()
	both, err := New(settings)
	if err != nil {
		t.Fatal(err)
	}
	b := both[family].(*Backend)
	t.Cleanup(func() { b.Close() })
	return b
}

// varied is Services with frontends of each kind, under each policy, in one family.
func varied(family cluster.Family) []plan.Service {
	texts := struct{ vip, pods, node, sources, pod string }{"10.43.0.%d:80", "10.42.0.0/16", "198.51.100.1", "192.0.2.0/24", "10.42.0.%d:8080"}
	if family == cluster.IPv6 {
		texts.vip, texts.pods, texts.node, texts.sources, texts.pod = "[fd00:10:43::%d]:80", "fd00:10:42::/64", "2001:db8:1::1", "2001:db8::/64", "[fd00:10:42::%d]:8080"
	}
	pods := plan.Clients{Range: netip.MustParsePrefix(texts.pods)}
	endpoints := func(from, n int) (all []netip.AddrPort) {
		for i := range n {
			all = append(all, netip.MustParseAddrPort(fmt.Sprintf(texts.pod, from+i)))
		}
		return all
	}
	var out []plan.Service
	add := func(name string, o *backendtest.Outside, change func(f *plan.Frontend, p *plan.Pool)) {
		n := len(out) + 1
		port := backendtest.Port(cluster.TCP, netip.MustParseAddrPort(fmt.Sprintf(texts.vip, n)), endpoints(10*n, 3)...)
		port.Frontends[0].Masquerade.Outside, port.Pools[0].Port = pods, "http"
		if change != nil {
			change(&port.Frontends[0], &port.Pools[0])
		}
		if o != nil {
			o.NodePort = uint16(30000 + n)
			port = o.Add(port)
		}
		out = append(out, backendtest.Named(name, port))
	}
	external := func(v plan.Verdict, local bool) *backendtest.Outside {
		lb := netip.MustParseAddr(texts.node)
		for range out {
			lb = lb.Next()
		}
		o := &backendtest.Outside{Verdict: v, Treatment: plan.Treatment{Local: local, FromNode: true, Sources: []netip.Prefix{netip.MustParsePrefix(texts.sources)}}, LoadBalancers: []netip.Addr{lb}}
		if local {
			o.Inside = pods
		}
		return o
	}
	add("plain", nil, nil)
	add(strings.Repeat("n", 63), nil, func(_ *plan.Frontend, p *plan.Pool) { p.Port = strings.Repeat("p", 15) })
	out[len(out)-1].Name.Namespace = strings.Repeat("s", 63)
	add("all", nil, func(f *plan.Frontend, _ *plan.Pool) { f.Masquerade = plan.Masquerade{All: true} })
	add("bridge", nil, func(f *plan.Frontend, _ *plan.Pool) { f.Masquerade.Outside = plan.Clients{Interface: "cni+"} })
	add("refused", external(plan.Reject, false), func(f *plan.Frontend, p *plan.Pool) { f.Verdict, p.Endpoints = plan.Reject, nil })
	add("dropped", nil, func(f *plan.Frontend, p *plan.Pool) { f.Verdict, f.Local, p.Endpoints = plan.Drop, true, nil })
	add("here", nil, func(f *plan.Frontend, p *plan.Pool) { f.Local, p.Endpoints, p.Local = true, nil, p.Endpoints })
	add("external", external(plan.Forward, false), nil)
	add("local", external(plan.Forward, true), func(_ *plan.Frontend, p *plan.Pool) { p.Local = p.Endpoints[:1] })
	add("elsewhere", external(plan.Drop, true), nil)
	add("sticky", external(plan.Forward, false), func(_ *plan.Frontend, p *plan.Pool) { p.AffinitySeconds = 10800 })
	add("turns", nil, func(_ *plan.Frontend, p *plan.Pool) {
		p.Policy, p.Weights = cluster.RoundRobin, []cluster.Weight{1, 2, 1}
	})
	add("weighted", nil, func(_ *plan.Frontend, p *plan.Pool) { p.Weights = []cluster.Weight{3, 1, 1} })
	add("hashed", nil, func(_ *plan.Frontend, p *plan.Pool) { p.Policy, p.Endpoints = cluster.SourceHash, p.Endpoints[:1] })
	return out
}

func stateOf(family cluster.Family) kernelnat.State {
	cidrs := []netip.Prefix{netip.MustParsePrefix("10.43.0.0/16"), netip.MustParsePrefix("fd00:10:43::/112")}
	ranges, _ := plan.Ranges(cidrs, family, []plan.Known{plan.KnownAt(netip.MustParseAddr("10.43.7.7"), "a host")})
	return kernelnat.State{Services: varied(family), Ranges: ranges}
}

// Rules prints what Sync writes: nft lists the same for both. And nft reads what it lists.
func TestRulesAreWhatSyncWrites(t *testing.T) {
	for _, family := range cluster.Families {
		for name, at := range map[string]netfilter.NodePorts{
			"everywhere": {}, "at the Node's addresses": {Primary: true}, "in a range": {Ranges: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
		} {
			t.Run(family.String()+" "+name, func(t *testing.T) {
				settings := netfilter.Settings{MasqueradeBit: netfilter.DefaultMasqueradeBit, NodePorts: at}
				state := stateOf(family)
				state.Node.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")}
				written, printed, again := newHost(t), newHost(t), newHost(t)
				b := newBackend(t, family, settings)
				var rules bytes.Buffer
				written.do(func() error {
					_, err := b.Sync(t.Context(), state)
					return err
				})
				printed.do(func() error { return Rules(&rules, family, state, settings) })
				printed.nft(rules.String(), "-f", "-")
				want := listed(written)
				if diff := cmp.Diff(want, listed(printed)); diff != "" {
					t.Errorf("Sync writes (-) and Rules prints (+):\n%s", diff)
				}
				again.nft(strings.Join(want, "\n"), "-f", "-")
				if diff := cmp.Diff(want, listed(again)); diff != "" {
					t.Errorf("nft lists (-) and reads (+):\n%s", diff)
				}
				written.nft("", "-j", "list", "ruleset")
			})
		}
	}
}

// listed is the table, line by line, without the flags of owned tables.
func listed(h host) (lines []string) {
	h.Helper()
	for line := range strings.SplitSeq(h.nft("", "list", "ruleset"), "\n") {
		switch line = strings.TrimSpace(line); {
		case strings.HasPrefix(line, "table "):
			head, _, _ := strings.Cut(line, "{")
			lines = append(lines, head+"{")
		case line != "" && line != "flags owner" && line != "flags owner,persist":
			lines = append(lines, line)
		}
	}
	return lines
}

// Rules for the varied Services, as they are.
func TestRulesGolden(t *testing.T) {
	for _, family := range cluster.Families {
		var got bytes.Buffer
		newHost(t).do(func() error {
			return Rules(&got, family, stateOf(family), netfilter.Settings{MasqueradeBit: netfilter.DefaultMasqueradeBit})
		})
		file := filepath.Join("testdata", "varied"+strings.TrimPrefix(family.String(), "IPv")+".nft")
		if *update {
			if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got.String()); diff != "" {
			t.Error(diff)
		}
	}
}
