package names

import (
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/clusterip/clusterip/test/kubetest"
	"github.com/clusterip/clusterip/test/performance"
)

// sizes has TestBenchDNS measure; `make bench-dns` sets it.
var sizes = flag.String("dns.services", "", "numbers of Services to measure names with, separated by commas")

// etcds are those that the programs are measured with.
var etcds = flag.String("dns.etcd", "etcd-streaming", "kinds of etcd to measure names with, separated by commas")

// All in one run, from one API server, with the same options: the handlers of clusterip and
// kubernetes in this process, question by question; whole servers, also those that are no
// CoreDNS, under load; and what the program takes to start and to follow changes, with an API
// server that streams its lists and with one that does not.
func TestBenchDNS(t *testing.T) {
	if *sizes == "" {
		t.Skip("a measurement, not a test: make bench-dns")
	}
	kubetest.Require(t)
	var results performance.DNS
	for text := range strings.SplitSeq(*sizes, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < headlessEvery {
			t.Fatalf("-dns.services %s: give numbers of at least %d", *sizes, headlessEvery)
		}
		t.Run(text, func(t *testing.T) {
			for i, etcd := range strings.Split(*etcds, ",") {
				t.Run(etcd, func(t *testing.T) {
					if servers := bench(t, n, kubetest.Etcd(etcd), i == 0); len(servers) > 0 {
						results = append(results, servers...)
						report(t, results)
					}
				})
			}
		})
	}
}

// bench measures with one etcd. What has no part in how lists come is measured with the first.
func bench(t *testing.T, n int, etcd kubetest.Etcd, first bool) (servers performance.DNS) {
	c := kubetest.StartWith(t, etcd)
	crowd := fillCrowd(t, c, n)
	var out strings.Builder
	table := tabwriter.NewWriter(&out, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "%d Services x %d endpoints, %s\tclusterip\tkubernetes\tratio\t\n", n, endpointsEach, etcd)
	if first {
		t.Run("handlers", func(t *testing.T) { benchHandlers(t, table, c.Kubeconfig()) })
		t.Run("servers", func(t *testing.T) { servers = crowd.benchServers(t) })
	}
	t.Run("programs", func(t *testing.T) { benchPrograms(t, table, crowd) })
	table.Flush()
	t.Logf("\n%s", &out)
	return servers
}

func benchHandlers(t *testing.T, table *tabwriter.Writer, kubeconfig string) {
	ours, stock := handlers(t, kubeconfig)
	cell := func(r testing.BenchmarkResult) string {
		return fmt.Sprintf("%d ns, %d B in %d allocations", r.NsPerOp(), r.AllocedBytesPerOp(), r.AllocsPerOp())
	}
	for _, q := range crowdQuestions() {
		mine, theirs := q.measure(t, ours), q.measure(t, stock)
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t\n", q.what, cell(mine), cell(theirs), ratio(mine.NsPerOp(), theirs.NsPerOp()))
	}
}

// rounds are run by turns, so that what else the machine does is shared.
const rounds = 3

func benchPrograms(t *testing.T, table *tabwriter.Writer, crowd *crowd) {
	var ours, stock measured
	for range rounds {
		t.Run("clusterip", func(t *testing.T) { crowd.measure(t, "clusterip", &ours) })
		t.Run("kubernetes", func(t *testing.T) { crowd.measure(t, "kubernetes", &stock) })
	}
	duration := func(what string, a, b []time.Duration, percent int) {
		x, y := percentile(a, percent), percentile(b, percent)
		fmt.Fprintf(table, "%s\t%v\t%v\t%s\t\n", what, x.Round(time.Microsecond), y.Round(time.Microsecond), ratio(x, y))
	}
	size := func(what string, a, b []int) {
		x, y := percentile(a, 50), percentile(b, 50)
		fmt.Fprintf(table, "%s\t%d MiB\t%d MiB\t%s\t\n", what, x, y, ratio(x, y))
	}
	duration("start to first answer", ours.start, stock.start, 50)
	size("resident at first answer", ours.early, stock.early)
	size("resident after changes", ours.late, stock.late)
	size("resident when every name was asked for", ours.asked, stock.asked)
	size("resident at most", ours.peak, stock.peak)
	duration("write to answer, p50", ours.change, stock.change, 50)
	duration("write to answer, p99", ours.change, stock.change, 99)
}

func percentile[N int | time.Duration](of []N, percent int) N {
	if len(of) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(of))[(len(of)-1)*percent/100]
}

func ratio[N int | int64 | time.Duration](a, b N) string {
	if b == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", float64(a)/float64(b))
}
