package iptables

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/backendtest"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// replaceRestore makes the tools in a directory of its own those of the host, but for
// iptables-restore, which is the shell script; it gets REAL, the tool it stands
// for. It returns the directory, which the script has as DIR.
func (h *host) replaceRestore(t *testing.T, script string) string {
	t.Helper()
	dir := t.TempDir()
	for _, command := range []string{"iptables", "ip6tables"} {
		for _, v := range variants {
			name := command + "-" + string(v)
			for _, tool := range []string{name, name + "-save"} {
				if err := os.Symlink(realTool(t, tool), filepath.Join(dir, tool)); err != nil {
					t.Fatal(err)
				}
			}
			text := fmt.Sprintf("#!/bin/sh\nREAL=%s DIR=%s\n%s\n", realTool(t, name+"-restore"), dir, script)
			if err := os.WriteFile(filepath.Join(dir, name+"-restore"), []byte(text), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Symlink(realTool(t, "nft"), filepath.Join(dir, "nft")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":/usr/bin:/bin")
	return dir
}

func realTool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// runs says how often the script recording was run.
func runs(t *testing.T, dir string) int {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Count(string(log), "\n")
}

const recording = `echo run >> $DIR/log; exec $REAL "$@"`

// What is there already is not written again.
func TestNothingToDo(t *testing.T) {
	eachVariant(t, func(t *testing.T, h *host) {
		dir := h.replaceRestore(t, recording)
		ctx, b := t.Context(), newBackend(t)
		r := rand.New(rand.NewPCG(1, 1))
		var all []plan.Service
		for i := range 20 {
			all = append(all, randomService(r, i))
		}
		h.do(t, func() error { return b.Sync(ctx, all) })
		before, n := h.saved(t), runs(t, dir)
		h.do(t, func() error { return b.Sync(ctx, all) })
		h.do(t, func() error { return newBackend(t).Sync(ctx, all) })
		var changes []kernelnat.Change
		for _, s := range all {
			changes = append(changes, kernelnat.Change{Old: s, New: s})
		}
		h.do(t, func() error { return b.Apply(ctx, changes) })
		if n == 0 || runs(t, dir) != n {
			t.Errorf("iptables-restore ran %d times the first time and %d times afterwards", n, runs(t, dir)-n)
		}
		diff(t, before, h.saved(t))
	})
}

// randomService makes one of many plans for Service i; it has no ports at times.
func randomService(r *rand.Rand, i int) plan.Service {
	var all []plan.Service
	vips := []string{fmt.Sprintf("10.43.0.%d", i), fmt.Sprintf("fd00:10:43::%x", i)}
	for family, vip := range vips {
		for p := range r.IntN(3) {
			port := onePort([]string{"a", "b", "c"}[p], []cluster.Protocol{cluster.TCP, cluster.UDP, cluster.SCTP}[p],
				netip.AddrPortFrom(netip.MustParseAddr(vip), uint16(80+r.IntN(2))))
			f, pool := &port.Frontends[0], &port.Pools[0]
			f.Local = r.IntN(4) == 0
			f.Masquerade = []plan.Masquerade{{}, {All: true}, f.Masquerade}[r.IntN(3)]
			f.Verdict = []plan.Verdict{plan.Forward, plan.Forward, plan.Reject, plan.Drop}[r.IntN(4)]
			if f.Verdict == plan.Forward {
				endpoints := &pool.Endpoints
				if f.Local {
					endpoints = &pool.Local
				}
				for e := range 1 + r.IntN(4) {
					a := []string{fmt.Sprintf("10.42.0.%d", 2*e+1+r.IntN(2)), fmt.Sprintf("fd00:10:42::%d", 2*e+1+r.IntN(2))}[family]
					*endpoints = append(*endpoints, netip.AddrPortFrom(netip.MustParseAddr(a), 5678))
				}
			}
			if r.IntN(2) == 0 {
				port = randomExternal(r, port)
			}
			if r.IntN(4) == 0 {
				pool.AffinitySeconds = uint32(1 + r.IntN(3))
			}
			pool.Policy = []cluster.Policy{cluster.Random, cluster.RoundRobin, cluster.SourceHash}[r.IntN(3)]
			if r.IntN(2) == 0 {
				pool.Weights, pool.LocalWeights = randomWeights(r, pool.Endpoints), randomWeights(r, pool.Local)
			}
			all = append(all, port)
		}
	}
	s := backendtest.Named(fmt.Sprintf("svc-%d", i), all...)
	s.Name.Namespace = "ns"
	return s
}

func randomWeights(r *rand.Rand, endpoints []netip.AddrPort) []cluster.Weight {
	out := make([]cluster.Weight, len(endpoints))
	for i := range out {
		out[i] = cluster.Weight(1 + r.IntN(4))
	}
	if len(slices.Compact(slices.Clone(out))) < 2 { // as plans have them
		return nil
	}
	return out
}

// randomExternal makes frontends that fit the port's endpoints, which it may have
// more of.
func randomExternal(r *rand.Rand, port plan.Service) plan.Service {
	f, p := &port.Frontends[0], &port.Pools[0]
	e := external(f.Verdict, r.IntN(2) == 0, f.At.Addr())
	e.NodePort = uint16(30000 + r.IntN(1000))
	if f.Verdict == plan.Reject {
		return e.Add(port)
	}
	if f.Verdict == plan.Drop || len(p.Local) > 0 {
		p.Endpoints = addrPorts("10.42.9.9:1")
		if f.At.Addr().Is6() {
			p.Endpoints = addrPorts("[fd00:10:42::9]:1")
		}
	}
	switch {
	case e.Local && f.Verdict == plan.Forward && !f.Local:
		p.Local = p.Endpoints[:1]
	case !e.Local:
		e.Verdict = plan.Forward
	}
	return e.Add(port)
}

// A walk of changes leads to what a fresh start gives.
func TestConverges(t *testing.T) {
	eachVariant(t, func(t *testing.T, h *host) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		r := rand.New(rand.NewPCG(seed, 0))
		ctx, b := t.Context(), newBackend(t)
		// Enough of them for the dispatch chain to be split, and not to be.
		all := make([]plan.Service, 40)
		for i := range all {
			all[i] = randomService(r, i)
		}
		h.do(t, func() error { return b.Sync(ctx, all) })
		for step := range 24 {
			var changes []kernelnat.Change
			for _, i := range r.Perm(len(all))[:1+r.IntN(20)] {
				next := randomService(r, i)
				changes = append(changes, kernelnat.Change{Old: all[i], New: next})
				all[i] = next
			}
			h.do(t, func() error { return b.Apply(ctx, changes) })
			if step%8 != 7 {
				continue
			}
			fresh := newHost(t, h.variant)
			fresh.do(t, func() error { return newBackend(t).Sync(ctx, all) })
			diff(t, comparable(fresh.saved(t)), comparable(h.saved(t)))
		}
		// And so does a Sync on top of it.
		for i := range all {
			all[i] = randomService(r, i)
		}
		h.do(t, func() error { return b.Sync(ctx, all) })
		fresh := newHost(t, h.variant)
		fresh.do(t, func() error { return newBackend(t).Sync(ctx, all) })
		diff(t, fresh.saved(t), h.saved(t))
	})
}

// foreignRules are other people's, next to ours and within the same tables.
var foreignRules = [][]string{
	{"-t", "nat", "-N", "CNI"},
	{"-t", "nat", "-A", "CNI", "-p", "tcp", "--dport", "9999", "-j", "DNAT", "--to-destination", "10.1.0.1:80"},
	{"-t", "nat", "-A", "PREROUTING", "-j", "CNI"},
	{"-t", "nat", "-N", "KUBE-MARK-DROP"},
	{"-t", "filter", "-N", "KUBE-FIREWALL"},
	{"-t", "filter", "-A", "KUBE-FIREWALL", "-m", "mark", "--mark", "0x8000", "-j", "DROP"},
	{"-t", "filter", "-A", "KUBE-FIREWALL", "!", "-s", "127.0.0.0/8", "-d", "127.0.0.0/8", "-m", "comment", "--comment", "block incoming localnet connections",
		"-m", "conntrack", "!", "--ctstate", "RELATED,ESTABLISHED,DNAT", "-j", "DROP"},
	{"-t", "filter", "-A", "INPUT", "-j", "KUBE-FIREWALL"},
	{"-t", "filter", "-A", "OUTPUT", "-j", "KUBE-FIREWALL"},
	{"-t", "filter", "-A", "FORWARD", "-m", "comment", "--comment", "not -j KUBE-SERVICES", "-j", "ACCEPT"},
}

// proxyRules are left behind by kube-proxy, with features that are not ours.
var proxyRules = [][]string{
	{"-t", "nat", "-N", "KUBE-SERVICES"},
	{"-t", "nat", "-N", "KUBE-NODEPORTS"},
	{"-t", "nat", "-N", "KUBE-SEP-AAAAAAAAAAAAAAAA"},
	{"-t", "nat", "-N", "KUBE-SVC-AAAAAAAAAAAAAAAA"},
	{"-t", "nat", "-N", "KUBE-EXT-AAAAAAAAAAAAAAAA"},
	{"-t", "nat", "-A", "KUBE-SVC-AAAAAAAAAAAAAAAA", "-j", "KUBE-SEP-AAAAAAAAAAAAAAAA"},
	{"-t", "nat", "-A", "KUBE-EXT-AAAAAAAAAAAAAAAA", "-j", "KUBE-SVC-AAAAAAAAAAAAAAAA"},
	{"-t", "nat", "-A", "KUBE-NODEPORTS", "-p", "tcp", "--dport", "30000", "-j", "KUBE-EXT-AAAAAAAAAAAAAAAA"},
	{"-t", "nat", "-A", "KUBE-SERVICES", "-d", "10.43.9.9", "-j", "KUBE-SVC-AAAAAAAAAAAAAAAA"},
	{"-t", "nat", "-I", "PREROUTING", "-m", "comment", "--comment", "kubernetes service portals", "-j", "KUBE-SERVICES"},
	{"-t", "filter", "-N", "KUBE-NODEPORTS"},
	{"-t", "filter", "-A", "KUBE-NODEPORTS", "-p", "tcp", "--dport", "30001", "-j", "ACCEPT"},
	{"-t", "filter", "-A", "INPUT", "-m", "comment", "--comment", "kubernetes health check service ports", "-j", "KUBE-NODEPORTS"},
	// These are of its IPVS mode.
	{"-t", "nat", "-N", "KUBE-LOAD-BALANCER"},
	{"-t", "nat", "-N", "KUBE-NODE-PORT"},
	{"-t", "nat", "-A", "KUBE-NODE-PORT", "-p", "tcp", "-j", "KUBE-LOAD-BALANCER"},
	{"-t", "nat", "-A", "KUBE-SERVICES", "-m", "addrtype", "--dst-type", "LOCAL", "-j", "KUBE-NODE-PORT"},
	{"-t", "filter", "-N", "KUBE-SOURCE-RANGES-FIREWALL"},
	{"-t", "filter", "-N", "KUBE-PROXY-FIREWALL"},
	{"-t", "filter", "-A", "KUBE-PROXY-FIREWALL", "-j", "KUBE-SOURCE-RANGES-FIREWALL"},
	{"-t", "filter", "-N", "KUBE-IPVS-FILTER"},
	{"-t", "filter", "-A", "KUBE-IPVS-FILTER", "-m", "conntrack", "--ctstate", "NEW", "-d", "10.43.9.9", "-j", "REJECT"},
	{"-t", "filter", "-A", "INPUT", "-m", "comment", "--comment", "kubernetes ipvs access filter", "-j", "KUBE-IPVS-FILTER"},
	{"-t", "filter", "-A", "FORWARD", "-m", "comment", "--comment", "kube-proxy firewall rules", "-j", "KUBE-PROXY-FIREWALL"},
}

func (h *host) add(t *testing.T, rules [][]string) {
	t.Helper()
	for _, rule := range rules {
		h.run(t, "iptables", rule...)
	}
}

// rules returns the rules and chains with or without KUBE- in them.
func rules(saved string, ours bool) string {
	var out strings.Builder
	for line := range strings.Lines(saved) {
		_, shared, _ := strings.Cut(line, "KUBE-")
		if isOurs := shared != "" && !slices.ContainsFunc([]string{"KUBE-MARK-DROP", "KUBE-FIREWALL", "KUBE-IPTABLES-HINT", "not -j"},
			func(s string) bool { return strings.Contains(line, s) }); isOurs == ours {
			out.WriteString(line)
		}
	}
	return out.String()
}

// Rules of others stay, before, between and after; those of kube-proxy go.
func TestForeignRules(t *testing.T) {
	eachVariant(t, func(t *testing.T, h *host) {
		h.add(t, foreignRules)
		foreign := rules(h.saved(t), false)
		h.add(t, proxyRules)
		// Somebody else was as fast as we were.
		h.add(t, proxyRules[9:10])

		ctx, b := t.Context(), newBackend(t)
		all := []plan.Service{pageService()}
		h.do(t, func() error { return b.Sync(ctx, all) })
		saved := h.saved(t)
		diff(t, foreign, withoutTables(foreign, rules(saved, false)))
		for _, text := range []string{"AAAA", "30000", "30001", "KUBE-LOAD-BALANCER", "KUBE-NODE-PORT ", "KUBE-SOURCE-RANGES", "KUBE-IPVS", "kube-proxy firewall rules"} {
			if strings.Contains(saved, text) {
				t.Errorf("%s is left of kube-proxy's rules:\n%s", text, saved)
			}
		}
		if n := strings.Count(saved, "-A PREROUTING -m comment --comment \"kubernetes service portals\""); n != 2 {
			t.Errorf("%d jumps to KUBE-SERVICES in PREROUTING of the two families, want 2:\n%s", n, saved)
		}
		h.do(t, func() error {
			return b.Apply(ctx, []kernelnat.Change{{Old: all[0], New: plan.Service{Name: all[0].Name}}})
		})
		diff(t, foreign, withoutTables(foreign, rules(h.saved(t), false)))

		for range 2 {
			h.do(t, func() error { return newBackend(t).Cleanup(ctx) })
			saved = h.saved(t)
			diff(t, foreign, withoutTables(foreign, rules(saved, false)))
			if left := rules(saved, true); left != "" {
				t.Errorf("left after cleanup:\n%s", left)
			}
		}
	})
}

// The guard of loopback is the kubelet's too: it is added to what is in its chain,
// and goes only where there is no kubelet and nothing else in the chain.
func TestGuardOfLoopback(t *testing.T) {
	eachVariant(t, func(t *testing.T, h *host) {
		ctx := t.Context()
		has := func(want ...string) {
			t.Helper()
			var got []string
			for line := range strings.Lines(h.run(t, "iptables", "-S")) {
				if strings.Contains(line, chainFirewall) {
					got = append(got, strings.TrimSpace(line))
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
		}
		const chain, drop = "-N " + chainFirewall, "-A " + chainFirewall + " -m mark --mark 0x8000 -j DROP"
		guard := "-A " + chainFirewall + " " + loopbackRule
		in, out := "-A INPUT -j "+chainFirewall, "-A OUTPUT -j "+chainFirewall
		h.add(t, [][]string{{"-N", chainFirewall}, strings.Fields(drop)})
		for range 2 {
			h.do(t, func() error { return newBackend(t).Sync(ctx, nil) })
			has(chain, in, out, drop, guard)
			// A jump that somebody removes is as good as none.
			h.run(t, "iptables", "-D", "INPUT", "-j", chainFirewall)
		}
		h.do(t, func() error { return newBackend(t).Sync(ctx, nil) })
		h.run(t, "iptables", strings.Fields(strings.Replace(drop, "-A", "-D", 1))...)
		h.do(t, func() error { return newBackend(t).Cleanup(ctx) })
		has(chain, in, out, guard)
		h.run(t, "iptables", "-t", "mangle", "-X", "KUBE-IPTABLES-HINT")
		h.do(t, func() error { return newBackend(t).Cleanup(ctx) })
		has()
		h.do(t, func() error {
			value, err := os.ReadFile("/proc/sys/net/ipv4/conf/all/route_localnet")
			if string(value) != "0\n" {
				t.Errorf("route_localnet is %q without the guard", value)
			}
			return err
		})
	})
}

// withoutTables drops from saved the empty tables that came into being since.
func withoutTables(before, saved string) string {
	var out, table strings.Builder
	known := func(text string) bool { return strings.Contains(text, "-A ") || strings.Contains(before, text) }
	for line := range strings.Lines(saved) {
		table.WriteString(line)
		if line == "COMMIT\n" {
			if known(table.String()) {
				out.WriteString(table.String())
			}
			table.Reset()
		}
	}
	return out.String()
}

// A host that comes to use the other variant has our rules there and nowhere
// else: the old ones would go on matching.
func TestVariantChanges(t *testing.T) {
	for _, v := range variants {
		t.Run("from "+string(v), func(t *testing.T) {
			h := newHost(t, v)
			ctx, all := t.Context(), []plan.Service{pageService()}
			h.do(t, func() error { return newBackend(t).Sync(ctx, all) })
			before := h.saved(t)
			h.run(t, "iptables", "-t", "mangle", "-X", "KUBE-IPTABLES-HINT")
			h.runVariant(t, v.other(), "iptables", "-t", "mangle", "-N", "KUBE-IPTABLES-HINT")
			// As long as not all Services are known, some may have theirs there.
			h.do(t, func() error {
				_, err := newBackend(t)[cluster.IPv4].Sync(ctx, kernelnat.State{Services: all, Incomplete: true, Known: map[cluster.ServiceName]bool{all[0].Name: true}})
				return err
			})
			diff(t, rules(before, true), rules(h.saved(t), true))
			h.do(t, func() error { return newBackend(t).Sync(ctx, all) })
			diff(t, "", rules(h.saved(t), true))
			if saved := h.runVariant(t, v.other(), "iptables-save"); !strings.Contains(saved, "-A KUBE-SVC-") {
				t.Errorf("nothing in the other variant:\n%s", saved)
			}
			h.do(t, func() error {
				value, err := os.ReadFile("/proc/sys/net/ipv4/conf/all/route_localnet")
				if string(value) != "1\n" {
					t.Errorf("route_localnet is %q: NodePorts at 127.0.0.1 do not work any more", value)
				}
				return err
			})
		})
	}
}

// The tables of kube-proxy's nftables mode would go on translating to endpoints that
// are no more. Those of others, whatever their name, stay.
func TestProxyTables(t *testing.T) {
	eachVariant(t, func(t *testing.T, h *host) {
		ctx, all := t.Context(), []plan.Service{pageService()}
		leave := func() {
			for _, table := range []string{"ip kube-proxy", "ip6 kube-proxy", "inet kube-proxy", "ip kube-proxy2"} {
				h.nft(t, "add table "+table)
				h.nft(t, "add chain "+table+" c { type filter hook input priority 0; }")
			}
		}
		kept := func() {
			t.Helper()
			tables := h.nft(t, "list tables")
			for table, stays := range map[string]bool{"ip kube-proxy": false, "ip6 kube-proxy": false, "inet kube-proxy": true, "ip kube-proxy2": true} {
				if strings.Contains(tables, "table "+table+"\n") != stays {
					t.Errorf("%s: is to stay: %v; there are\n%s", table, stays, tables)
				}
			}
		}
		leave()
		b := newBackend(t)
		h.do(t, func() error { return b.Sync(ctx, all) })
		kept()
		for family, one := range b {
			h.do(t, func() error {
				if !one.Untouched() {
					t.Errorf("%s: our own removal counts as somebody else's doing", family)
				}
				return nil
			})
		}
		leave()
		h.do(t, func() error { return newBackend(t).Cleanup(ctx) })
		kept()
	})
}

// At a start at which not all Services are known, those that are have what they
// are to have and nothing else; the others keep what the kernel holds for them.
func TestIncompleteSync(t *testing.T) {
	eachVariant(t, func(t *testing.T, h *host) {
		ctx := t.Context()
		old := services(60, 1, 2)
		h.do(t, func() error { return newBackend(t).Sync(ctx, old) })

		// The first is headless now, and another has its address; of the second
		// nothing is known; most others have lost their endpoints, so that the
		// dispatch chain is not split any more.
		heir := old[0]
		heir.Name.Name = "heir"
		state := kernelnat.State{Incomplete: true, Ranges: rangesOf(cluster.IPv4), Services: []plan.Service{heir}}
		for _, s := range old[2:] {
			if len(state.Services) > 9 {
				s.Frontends, s.Pools = slices.Clone(s.Frontends), slices.Clone(s.Pools)
				s.Frontends[0].Verdict, s.Pools[0].Endpoints = plan.Reject, nil
			}
			state.Services = append(state.Services, s)
		}
		state.Known = map[cluster.ServiceName]bool{old[0].Name: true, old[1].Name: false}
		for _, s := range state.Services {
			state.Known[s.Name] = true
		}
		b := newBackend(t)[cluster.IPv4]
		var before string
		for range 3 {
			h.do(t, func() error { _, err := b.Sync(ctx, state); return err })
			saved := h.run(t, "iptables-save")
			if before != "" {
				diff(t, counters.ReplaceAllString(before, ""), counters.ReplaceAllString(saved, ""))
			}
			before = saved
		}
		for text, want := range map[string]int{
			`"ns/svc-0:p0 cluster IP" -m tcp --dport 8000 -j KUBE-SVC-`: 0, `"ns/heir:p0 cluster IP" -m tcp --dport 8000 -j KUBE-SVC-`: 1,
			`"ns/svc-1:p0 cluster IP" -m tcp --dport 8000 -j KUBE-SVC-`: 1, `"no such service"`: 1,
		} {
			if n := strings.Count(before, text); n != want {
				t.Errorf("%d times %s, want %d", n, text, want)
			}
		}
		if nat := h.run(t, "iptables-save", "-t", "nat"); strings.Contains(nat, prefixRange) {
			t.Errorf("the few rules of nat are split:\n%s", nat)
		}
		gone := kernelnat.Change{Old: state.Services[3], New: plan.Service{Name: state.Services[3].Name}}
		h.do(t, func() error { return b.Apply(ctx, []kernelnat.Change{gone}) })
	})
}

// Both variants are cleaned, whichever the host uses.
func TestCleanupOfOtherVariant(t *testing.T) {
	h := newHost(t, nft)
	ctx := t.Context()
	h.do(t, func() error { return newBackend(t).Sync(ctx, []plan.Service{pageService()}) })
	for _, rule := range proxyRules {
		h.runVariant(t, legacy, "iptables", rule...)
	}
	h.do(t, func() error { return newBackend(t).Cleanup(ctx) })
	for _, v := range variants {
		if left := rules(counters.ReplaceAllString(h.runVariant(t, v, "iptables-save"), ""), true); left != "" {
			t.Errorf("left in %s:\n%s", v, left)
		}
	}
}

// A foreign rule that uses a chain of ours keeps it, and is reported.
func TestCleanupOfUsedChain(t *testing.T) {
	eachVariant(t, func(t *testing.T, h *host) {
		ctx, b := t.Context(), newBackend(t)
		h.do(t, func() error { return b.Sync(ctx, []plan.Service{pageService()}) })
		h.add(t, [][]string{{"-t", "nat", "-N", "CNI"}, {"-t", "nat", "-A", "CNI", "-j", "KUBE-MARK-MASQ"}})
		err := h.Do(func() error { return b.Cleanup(ctx) })
		if err == nil || !strings.Contains(err.Error(), `"-A CNI -j KUBE-MARK-MASQ"`) {
			t.Errorf("error %v", err)
		}
		want := ":KUBE-MARK-MASQ -\n-A CNI -j KUBE-MARK-MASQ\n"
		diff(t, want, rules(h.saved(t), true))
		h.run(t, "iptables", "-t", "nat", "-F", "CNI")
		h.do(t, func() error { return b.Cleanup(ctx) })
		diff(t, "", rules(h.saved(t), true))
	})
}

func TestDetect(t *testing.T) {
	rule := func(v variant, n int) func(*testing.T, *host) {
		return func(t *testing.T, h *host) {
			for range n {
				h.runVariant(t, v, "iptables", "-A", "INPUT", "-j", "ACCEPT")
			}
		}
	}
	hint := func(v variant, chain string) func(*testing.T, *host) {
		return func(t *testing.T, h *host) { h.runVariant(t, v, "ip6tables", "-t", "mangle", "-N", chain) }
	}
	for _, c := range []struct {
		name  string
		setup []func(*testing.T, *host)
		want  variant
	}{
		{"nothing", nil, nft},
		{"more legacy rules", []func(*testing.T, *host){rule(legacy, 2), rule(nft, 1)}, legacy},
		{"as many rules", []func(*testing.T, *host){rule(legacy, 1), rule(nft, 1)}, nft},
		{"hint against rules", []func(*testing.T, *host){rule(legacy, 2), hint(nft, "KUBE-IPTABLES-HINT")}, nft},
		{"old kubelet", []func(*testing.T, *host){rule(nft, 2), hint(legacy, "KUBE-KUBELET-CANARY")}, legacy},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t, nft)
			h.run(t, "iptables", "-t", "mangle", "-X", "KUBE-IPTABLES-HINT")
			for _, setup := range c.setup {
				setup(t, h)
			}
			var got variant
			var loaded bool
			h.do(t, func() (err error) {
				if got, err = detect(context.Background()); err != nil {
					return err
				}
				loaded, err = legacyLoaded(cluster.IPv4)
				return err
			})
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if c.setup == nil && loaded {
				t.Error("looking has made legacy tables")
			}
		})
	}
}
