package iptables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/backendtest"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// host is a network namespace whose kubelet uses one variant.
type host struct {
	*netlab.Namespace
	variant variant
}

func newHost(t testing.TB, v variant) *host {
	t.Helper()
	netlab.Require(t, "nft", "iptables-nft", "iptables-legacy", "ip6tables-nft", "ip6tables-legacy")
	// The lock is the machine's, not the namespace's: stay away from others.
	if os.Getenv("XTABLES_LOCKFILE") == "" {
		t.Setenv("XTABLES_LOCKFILE", filepath.Join(t.TempDir(), "lock"))
	}
	namespace, err := netlab.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { namespace.Close() })
	h := &host{namespace, v}
	h.run(t, "iptables", "-t", "mangle", "-N", "KUBE-IPTABLES-HINT")
	return h
}

// run runs a tool of the host's variant, "iptables" or "ip6tables-save", say.
func (h *host) run(t testing.TB, tool string, args ...string) string {
	t.Helper()
	return h.runVariant(t, h.variant, tool, args...)
}

func (h *host) runVariant(t testing.TB, v variant, tool string, args ...string) string {
	t.Helper()
	program, rest, dash := strings.Cut(tool, "-")
	program += "-" + string(v)
	if dash {
		program += "-" + rest
	}
	// Apart, since iptables-nft warns of legacy tables amid its output.
	var stdout, stderr strings.Builder
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := h.Do(cmd.Run); err != nil {
		t.Fatalf("%s %q: %v\n%s", program, args, err, stderr.String())
	}
	return stdout.String()
}

func (h *host) nft(t testing.TB, command string) string {
	t.Helper()
	cmd := exec.Command("nft", command)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := h.Do(cmd.Run); err != nil {
		t.Fatalf("nft %s: %v\n%s", command, err, out.String())
	}
	return out.String()
}

// do calls f, which must not fail, on the host.
func (h *host) do(t testing.TB, f func() error) {
	t.Helper()
	if err := h.Do(f); err != nil {
		t.Fatal(err)
	}
}

// dual is the backends of both families, for plans with ports in both.
type dual map[cluster.Family]*Backend

func newBackend(t testing.TB) dual {
	t.Helper()
	both, err := New(netfilter.Settings{MasqueradeBit: netfilter.DefaultMasqueradeBit})
	if err != nil {
		t.Fatal(err)
	}
	out := make(dual)
	for family, b := range both {
		out[family] = b.(*Backend)
	}
	return out
}

func (d dual) each(f func(cluster.Family, *Backend) error) error {
	var errs []error
	for _, family := range cluster.Families {
		errs = append(errs, f(family, d[family]))
	}
	return errors.Join(errs...)
}

func (d dual) Sync(ctx context.Context, all []plan.Service) error {
	return d.each(func(f cluster.Family, b *Backend) error {
		_, err := b.Sync(ctx, stateOf(all, f))
		return err
	})
}

func (d dual) Apply(ctx context.Context, changes []kernelnat.Change) error {
	return d.each(func(f cluster.Family, b *Backend) error {
		var own []kernelnat.Change
		for _, c := range changes {
			own = append(own, kernelnat.Change{Old: backendtest.Part(c.Old, f), New: backendtest.Part(c.New, f)})
		}
		return b.Apply(ctx, own)
	})
}

func (d dual) Cleanup(ctx context.Context) error {
	return d.each(func(_ cluster.Family, b *Backend) error { return b.Cleanup(ctx) })
}

func rangesOf(family cluster.Family) []plan.Range {
	ranges, _ := plan.Ranges(serviceCIDRs, family, nil)
	return ranges
}

// serviceCIDRs is where the test plans have their ClusterIPs.
var serviceCIDRs = []netip.Prefix{netip.MustParsePrefix("10.43.0.0/16"), netip.MustParsePrefix("fd00:10:43::/112")}

func stateOf(all []plan.Service, family cluster.Family) kernelnat.State {
	return kernelnat.State{Services: parts(all, family), Ranges: rangesOf(family)}
}

func parts(all []plan.Service, family cluster.Family) []plan.Service {
	var out []plan.Service
	for _, s := range all {
		out = append(out, backendtest.Part(s, family))
	}
	return out
}

var counters = regexp.MustCompile(`(?m)^#.*\n| \[\d+:\d+\]$`)

// saved returns all rules of all tables and both families.
func (h *host) saved(t *testing.T) string {
	t.Helper()
	return counters.ReplaceAllString(h.run(t, "iptables-save")+h.run(t, "ip6tables-save"), "")
}

// comparable is what is left of iptables-save without what may differ between
// two ways to the same rules: the order in the chains that Services share.
func comparable(saved string) string {
	lines := strings.Split(saved, "\n")
	start := 0
	for i, line := range lines {
		if strings.HasPrefix(line, "*") || strings.HasPrefix(line, "COMMIT") {
			for _, s := range shared {
				sortRules(lines[start:i], s.chain)
			}
			start = i
		}
	}
	return strings.Join(lines, "\n")
}

func sortRules(lines []string, chain string) {
	prefix := "-A " + chain + " "
	var at []int
	var rules []string
	for i, line := range lines {
		if strings.HasPrefix(line, prefix) && !strings.HasSuffix(line, "-j "+chainNodePorts) {
			at, rules = append(at, i), append(rules, line)
		}
	}
	slices.Sort(rules)
	for i, rule := range rules {
		lines[at[i]] = rule
	}
}

func eachVariant(t *testing.T, f func(t *testing.T, h *host)) {
	for _, v := range variants {
		t.Run(string(v), func(t *testing.T) { f(t, newHost(t, v)) })
	}
}

func addrPorts(texts ...string) []netip.AddrPort {
	var out []netip.AddrPort
	for _, text := range texts {
		out = append(out, netip.MustParseAddrPort(text))
	}
	return out
}

var (
	clusterIPv4 = plan.Masquerade{Outside: plan.Clients{Range: netip.MustParsePrefix("10.42.0.0/16")}}
	clusterIPv6 = plan.Masquerade{Outside: plan.Clients{Range: netip.MustParsePrefix("fd00:10:42::/64")}}
)

// onePort is the plan of one port that masquerades clients outside the pods.
func onePort(name string, protocol cluster.Protocol, at netip.AddrPort, endpoints ...netip.AddrPort) plan.Service {
	p := backendtest.Port(protocol, at, endpoints...)
	p.Pools[0].Port = name
	if p.Frontends[0].Masquerade = clusterIPv4; at.Addr().Is6() {
		p.Frontends[0].Masquerade = clusterIPv6
	}
	return p
}

// pageService is the Service of which kube-proxy's rules are in testdata.
func pageService() plan.Service {
	return backendtest.Named("echo-server-clusterip", onePort("", cluster.TCP, netip.MustParseAddrPort("10.43.134.253:8080"),
		addrPorts("10.42.0.49:5678", "10.42.1.63:5678", "10.42.1.64:5678")...))
}

// What is read back is, line by line, what kube-proxy 1.37 leaves in nat.
func TestPage(t *testing.T) {
	want, err := os.ReadFile("testdata/page.save")
	if err != nil {
		t.Fatal(err)
	}
	eachVariant(t, func(t *testing.T, h *host) {
		h.do(t, func() error { return newBackend(t).Sync(t.Context(), []plan.Service{pageService()}) })
		var got bytes.Buffer
		for line := range strings.Lines(h.run(t, "iptables-save", "-t", "nat")) {
			if strings.Contains(line, "KUBE-") {
				got.WriteString(line)
			}
		}
		diff(t, sortedLines(string(want)), sortedLines(counters.ReplaceAllStringFunc(got.String(), func(s string) string { return " [0:0]" })))
	})
}

func sortedLines(text string) string {
	// The tools sort chains in different ways.
	chains, rules := []string{}, []string{}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, ":") {
			chains = append(chains, line)
		} else {
			rules = append(rules, line)
		}
	}
	slices.Sort(chains)
	slices.SortStableFunc(rules, func(a, b string) int { return strings.Compare(strings.Fields(a)[1], strings.Fields(b)[1]) })
	return strings.Join(append(chains, rules...), "")
}

func diff(t *testing.T, want, got string) {
	t.Helper()
	if want == got {
		return
	}
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		var a, b string
		if i < len(w) {
			a = w[i]
		}
		if i < len(g) {
			b = g[i]
		}
		if a != b {
			t.Fatalf("line %d:\nwant %s\ngot  %s\nwhole:\n%s", i+1, a, b, got)
		}
	}
}

func services(n, ports, endpoints int) []plan.Service {
	var out []plan.Service
	for i := range n {
		var all []plan.Service
		vip := netip.AddrFrom4([4]byte{10, 43, byte(i >> 8), byte(i)})
		for p := range ports {
			port := onePort(fmt.Sprintf("p%d", p), cluster.TCP, netip.AddrPortFrom(vip, uint16(8000+p)))
			for e := range endpoints {
				port.Pools[0].Endpoints = append(port.Pools[0].Endpoints, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 42, byte(e), byte(i)}), uint16(5000+p)))
			}
			all = append(all, port)
		}
		s := backendtest.Named(fmt.Sprintf("svc-%d", i), all...)
		s.Name.Namespace = "ns"
		out = append(out, s)
	}
	return out
}
