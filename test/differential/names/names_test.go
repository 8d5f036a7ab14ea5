// Package names compares the answers of clusterip with those of CoreDNS's own
// kubernetes plugin. Both run in one process of the program, on ports of their own,
// with the same options, from the same real API server. What differs on purpose is
// listed in differences_test.go and in docs/dns.md; anything else fails.
package names

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/clusterip/clusterip/test/clustertest"
	"github.com/clusterip/clusterip/test/dnsload"
	"github.com/clusterip/clusterip/test/kubetest"
	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
)

const (
	seed = 11
	// patience bounds every wait for something that should come about.
	patience = 45 * time.Second
	// asked is how many questions each profile is asked before and after the
	// updates.
	asked = 20_000
	// askers ask at the same time.
	askers = 8
)

// profiles are options that both directives take, by name, with zones besides those
// that all have.
var profiles = []struct{ name, options, zones string }{
	{name: "default"},
	{name: "insecure", options: "pods insecure\nttl 30"},
	{name: "verified", options: "pods verified\nendpoint_pod_names\nfallthrough in-addr.arpa ip6.arpa"},
	{name: "noendpoints", options: "namespaces shop lab\nttl 0\nnoendpoints"},
	{name: "labels", options: "labels app=web\nignore empty_service\nfallthrough"},
	{name: "zonal", options: "zonal\nnamespace_labels team=a\npods insecure\nfallthrough ip6.arpa"},
	{name: "multicluster", options: "multicluster clusterset.local", zones: " clusterset.local"},
}

// What falls through is answered by a plugin behind, so that it shows. What is
// outside the zones is found upstream, but for one name.
const block = `cluster.local:%[1]s clusterset.local:%[1]s in-addr.arpa:%[1]s ip6.arpa:%[1]s {
	bind 127.0.0.1
	%[2]s cluster.local in-addr.arpa ip6.arpa%[5]s {
		kubeconfig %[3]s
		startup_timeout 30s
		%[4]s
	}
	erratic {
		drop 0
		truncate 0
		delay 0
	}
}
test:%[1]s {
	bind 127.0.0.1
	file %[6]s
}
.:%[1]s {
	bind 127.0.0.1
	template IN ANY invalid {
		rcode REFUSED
	}
	template IN A {
		answer "{{ .Name }} 60 IN A 198.51.100.80"
	}
	template IN AAAA {
		rcode NOERROR
	}
}
`

// subject is one directive with one profile.
type subject struct{ directive, profile, port string }

// trio is who answers with one profile: CoreDNS's plugin, and ours with its fast path and
// without.
type trio struct{ stock, fast, chain subject }

func (s trio) all() []subject { return []subject{s.stock, s.fast, s.chain} }

func (s subject) address() string { return "127.0.0.1:" + s.port }

func TestMain(m *testing.M) {
	dnsload.Main() // which TestBenchDNS starts
	kubetest.Main(m.Run)
}

// start runs the program with a server for each directive and profile.
func start(t *testing.T, kubeconfig string) map[string]trio {
	t.Helper()
	back := filepath.Join(t.TempDir(), "test.zone")
	if err := os.WriteFile(back, []byte(backZone), 0o600); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	all := make(map[string]trio)
	ports := freePorts(t, 3*len(profiles))
	for i, p := range profiles {
		three := trio{subject{"kubernetes", p.name, ports[3*i]}, subject{"clusterip", p.name, ports[3*i+1]}, subject{"clusterip", p.name, ports[3*i+2]}}
		for s, option := range map[subject]string{three.stock: "", three.fast: "\nfastpath on", three.chain: "\nfastpath off"} {
			fmt.Fprintf(&text, block, s.port, s.directive, kubeconfig, strings.ReplaceAll(p.options+option, "\n", "\n\t\t"), p.zones, back)
		}
		all[p.name] = three
	}
	kubetest.StartProgram(t, nil, true, text.String())
	return all
}

// freePorts returns so many.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	ports := make([]string, n)
	for i := range ports {
		ports[i] = kubetest.FreePort(t)
	}
	return ports
}

func TestAnswers(t *testing.T) {
	kubetest.Require(t)
	c := kubetest.Start(t)
	w := newWorld(seed)
	c.InstallServiceImports()
	api := &writer{t: t, client: c.Client, imports: c.ServiceImports, w: w}
	api.fill(80)
	api.chains()
	trios := start(t, c.Kubeconfig())
	api.settle(trios)
	met := make(map[string]int)
	t.Run("at the start", func(t *testing.T) { compareAll(t, w, trios, 1, met) })
	for range 500 {
		api.update()
	}
	api.settle(trios)
	t.Run("after 500 updates", func(t *testing.T) { compareAll(t, w, trios, 2, met) })
	for _, d := range differences {
		if met[d.reason] == 0 {
			t.Errorf("no answer shows the difference %q any more", d.reason)
		}
	}
	t.Logf("differences that are meant: %v", met)
}

// docs/dns.md lists what differs, and nothing else.
func TestDifferencesAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../../docs/dns.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Differences from CoreDNS's kubernetes plugin\n")
	hidden := section
	section, _, _ = strings.Cut(section, "\n## ")
	_, hidden, _ = strings.Cut(hidden, "\n## Differences that the test does not see\n")
	hidden, _, _ = strings.Cut(hidden, "\n## ")
	for _, row := range regexp.MustCompile(`(?m)^\| .*$`).FindAllString(section+hidden, -1) {
		if cells := strings.Split(strings.Trim(row, "| "), " | "); len(cells) != 4 || slices.Contains(cells, "") {
			t.Errorf("a row says not of both what they answer and whom that of kubernetes hurts: %s", row)
		}
	}
	for _, d := range differences {
		if !strings.Contains(section, "\n| "+d.reason) {
			t.Errorf("docs/dns.md does not list %q", d.reason)
		}
	}
	if rows := strings.Count(section, "\n| ") - 1; rows != len(differences) {
		t.Errorf("docs/dns.md lists %d differences, %d are checked", rows, len(differences))
	}
}

// compareAll asks every trio the same questions.
func compareAll(t *testing.T, w *world, trios map[string]trio, run uint64, met map[string]int) {
	for _, p := range profiles {
		t.Run(p.name, func(t *testing.T) {
			names := w.names()
			if p.zones != "" {
				names = append(names, w.importNames()...)
			}
			all := queries(rand.New(rand.NewPCG(seed, run)), names, asked)
			found := compare(t, trios[p.name], all)
			unexplained := 0
			for _, pair := range found {
				pair.world, pair.profile = w, p.name
				reason := explain(pair)
				if met[reason]++; reason != "" {
					continue
				}
				if unexplained++; unexplained <= 12 {
					t.Errorf("%s\nkubernetes: %s\nclusterip:  %s", pair.query, pair.stock, pair.ours)
				}
			}
			delete(met, "")
			t.Logf("%d names, %d questions, %d answers differ, %d of them unexplained", len(names), len(all), len(found), unexplained)
		})
	}
}

// pair is what both answered to one question.
type pair struct {
	query
	stock, ours reply
	world       *world
	profile     string
}

// compare returns where the answers of the directives differ. Those with and without the fast
// path must not.
func compare(t *testing.T, subjects trio, all []query) []pair {
	t.Helper()
	todo := make(chan query)
	var mu sync.Mutex
	var found []pair
	var asking sync.WaitGroup
	for range askers {
		asking.Go(func() {
			for q := range todo {
				stock, ours := ask(t, subjects.stock, q), ask(t, subjects.fast, q)
				if chain := ask(t, subjects.chain, q); !chain.equal(ours) {
					t.Errorf("%s\nwithout the fast path: %s\nwith it:              %s", q, chain, ours)
				}
				if stock.truncated || ours.truncated {
					q.tcp = true
					stock, ours = ask(t, subjects.stock, q), ask(t, subjects.fast, q)
				}
				if !stock.equal(ours) {
					mu.Lock()
					found = append(found, pair{query: q, stock: stock, ours: ours})
					mu.Unlock()
				}
			}
		})
	}
	for _, q := range all {
		todo <- q
	}
	close(todo)
	asking.Wait()
	slices.SortFunc(found, func(a, b pair) int { return strings.Compare(a.query.String(), b.query.String()) })
	return found
}

func ask(t *testing.T, s subject, q query) reply {
	network := "udp"
	if q.tcp {
		network = "tcp"
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	// A datagram can be lost where many wait in line; a server that never
	// answers shows all the same.
	for {
		client := dns.Client{Net: network, UDPSize: max(q.size, dns.MinMsgSize), Timeout: 5 * time.Second}
		m, _, err := client.ExchangeContext(ctx, q.message(), s.address())
		if err == nil {
			return canonical(m)
		}
		if ctx.Err() != nil {
			return reply{rcode: err.Error()}
		}
	}
}

// settle waits until all servers know of a Service that comes last, and of an import
// if they have imports.
func (a *writer) settle(trios map[string]trio) {
	a.t.Helper()
	a.sentinels++
	name := fmt.Sprintf("sentinel-%d", a.sentinels)
	s := a.w.service("shop", 1)
	s.Name, s.Labels = name, map[string]string{"app": "web"}
	s.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "www.example.com"}
	a.put(s, nil)
	last := query{name: name + ".shop.svc.cluster.local.", qtype: dns.TypeCNAME}
	lastImport := a.importSentinel(name)
	for profile, three := range trios {
		for _, s := range three.all() {
			a.await(s, last)
			if profile == "multicluster" {
				a.await(s, lastImport)
			}
		}
	}
}

// await waits until a server has an answer.
func (a *writer) await(s subject, q query) {
	a.t.Helper()
	clustertest.Eventually(a.t, patience, fmt.Sprintf("what came last, from %s with %s", s.directive, s.profile), func() error {
		if got := ask(a.t, s, q); len(got.answer) != 1 {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
}
