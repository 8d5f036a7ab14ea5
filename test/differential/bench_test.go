package differential

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/test/clustertest"
	"github.com/clusterip/clusterip/test/kubetest"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// sizes has TestBenchNAT measure; `make bench-nat` sets it.
var sizes = flag.String("nat.services", "", "numbers of Services to measure NAT with, separated by commas")

// syncLimit is how long a first sync may take.
const syncLimit = 10 * time.Minute

// kube-proxy's first sync takes time quadratic in the Services: 5,000 were not done
// after 9 minutes. Beyond atOnce it is started on an empty cluster instead and given
// the Services in steps, so that at least one change can be measured.
const (
	atOnce = 2000
	step   = 250
)

// manyWriters create the objects.
const manyWriters = 16

// changes of one endpoint are made, one after the other.
const changes = 10

const benchCorefile = `.:53 {
	bind 10.42.0.1
	errors
	prometheus 127.0.0.1:9153
	clusterip cluster.local in-addr.arpa ip6.arpa {
		kubeconfig %s
		startup_timeout 1m
	}
	kernelnat {
		node_name node-1
		cluster_cidr 10.42.0.0/16 fd00:10:42::/64
		conntrack_max_per_core 0
		sync_period 0
	}
}
`

// measured is what one side took.
type measured struct {
	full      time.Duration // from the start of the process until all is written; 0: not tried
	change    time.Duration // to write one changed endpoint, by its own metric
	floor     time.Duration // that iptables-restore takes there for one rule of somebody else
	changeCPU time.Duration // with all processes it runs
	rss       int           // in MiB
	packet    time.Duration // to connect to the last Service, at the median
}

// Beside kube-proxy in one run: Services with 10 endpoints each, the same on both
// sides, from API servers of their own, on the same kernel.
func TestBenchNAT(t *testing.T) {
	if *sizes == "" {
		t.Skip("a measurement, not a test: make bench-nat")
	}
	require(t)
	t.Logf("%8s  %-10s %12s %12s %12s %12s %8s %12s", "Services", "", "full sync", "change", "its CPU", "one rule", "RSS MiB", "first packet")
	for _, text := range strings.Split(*sizes, ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		given := many(n)
		var ours, theirs measured
		t.Run("ours", func(t *testing.T) { ours = benchOurs(t, &given) })
		ours.show(t, n, "ours")
		t.Run("kube-proxy", func(t *testing.T) { theirs = benchProxy(t, &given) })
		theirs.show(t, n, "kube-proxy")
		t.Logf("%8d  %-10s %12s %12s %12s %12s %8s %12s", n, "ratio", percent(ours.full, theirs.full), percent(ours.change, theirs.change),
			percent(ours.changeCPU, theirs.changeCPU), percent(ours.floor, theirs.floor), percent(ours.rss, theirs.rss), percent(ours.packet, theirs.packet))
	}
}

func (m *measured) show(t *testing.T, n int, name string) {
	t.Helper()
	full := m.full.Round(time.Millisecond).String()
	if m.full == 0 {
		full = "not tried"
	}
	t.Logf("%8d  %-10s %12s %12v %12v %12v %8d %12v", n, name, full, m.change.Round(10*time.Microsecond), m.changeCPU.Round(time.Millisecond),
		m.floor.Round(10*time.Microsecond), m.rss, m.packet.Round(time.Microsecond))
}

func percent[N time.Duration | int](a, b N) string {
	if a == 0 || b == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f%%", 100*float64(a)/float64(b))
}

// many makes Services whose endpoints nobody answers at, but for the last, which
// is at the pods that do.
func many(n int) objects {
	var out objects
	for i := range n {
		name := fmt.Sprintf("svc-%05d", i)
		s := corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
			Spec: corev1.ServiceSpec{ClusterIP: clusterIP(i).String(), Ports: []corev1.ServicePort{port("", "TCP", 80, 5678)}}}
		slice := discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name,
			Labels: map[string]string{discoveryv1.LabelServiceName: name}}, AddressType: discoveryv1.AddressTypeIPv4}
		number, protocol := int32(5678), corev1.ProtocolTCP
		slice.Ports = []discoveryv1.EndpointPort{{Port: &number, Protocol: &protocol}}
		for e := range 10 {
			addr := netip.AddrFrom4([4]byte{10, 42, byte(16 + i>>8&15<<4 | e), byte(i)})
			if i == n-1 {
				addr = netip.MustParseAddr(pods[e%len(pods)].v4)
			}
			if ready := true; !slices.ContainsFunc(slice.Endpoints, func(e discoveryv1.Endpoint) bool { return e.Addresses[0] == addr.String() }) {
				slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{addr.String()}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}})
			}
		}
		out.services, out.slices = append(out.services, s), append(out.slices, slice)
	}
	return out
}

// clusterIP spreads Services over the range, each at an address of its own: an odd
// factor permutes the numbers modulo a power of two.
func clusterIP(i int) netip.Addr {
	h := uint16(i*40503) & 0x3fff
	return netip.AddrFrom4([4]byte{10, 43, byte(h>>8) | 0x40, byte(h)})
}

func benchOurs(t *testing.T, given *objects) measured {
	t.Helper()
	c, n := kubetest.Start(t), newNode(t)
	given.create(t, c, manyWriters)
	c.AddNode(kubetest.Node())
	text := fmt.Sprintf(benchCorefile, c.KubeconfigOn(n.Host))
	kubetest.Program(t, false) // so that it is not built on the clock
	start := time.Now()
	p := kubetest.StartProgram(t, n.Host, false, text)
	s := side{n, p, netip.MustParseAddrPort("127.0.0.1:9153"), "kernelnat"}
	s.awaitFirstSync()
	m := measured{full: time.Since(start)}
	s.measure(&m, c, given)
	return m
}

func benchProxy(t *testing.T, given *objects) measured {
	t.Helper()
	c, n := kubetest.Start(t), newNode(t)
	var m measured
	if len(given.services) <= atOnce {
		given.create(t, c, manyWriters)
	}
	start := time.Now()
	p := c.StartProxy(n.Node, "iptables", syncLimit)
	if len(given.services) <= atOnce {
		m.full = time.Since(start)
	} else {
		n.grow(c, given)
	}
	s := side{n, p, netip.MustParseAddrPort("127.0.0.1:10249"), "kubeproxy"}
	s.measure(&m, c, given)
	return m
}

// grow creates the objects in steps, and has kube-proxy write each before the next.
func (n *node) grow(c *kubetest.ControlPlane, given *objects) {
	n.t.Helper()
	for from := 0; from < len(given.services); from += step {
		to := min(from+step, len(given.services))
		part := objects{given.services[from:to], given.slices[from:to]}
		part.create(n.t, c, manyWriters)
		eventually(n.t, "the rules of the first Services", func() error {
			if rules := kubetest.Output(n.t, n.Host, "iptables", "-t", "nat", "-S", "KUBE-SERVICES"); strings.Count(rules, " cluster IP\"") < to {
				return fmt.Errorf("not those of all %d", to)
			}
			return nil
		})
	}
}

// oneRule is how long the tool takes to write a chain with one rule that nothing
// leads to: whenever a rule with a target comes to a table of nf_tables, the kernel
// walks through all that the built-in chains lead to.
func (n *node) oneRule() time.Duration {
	n.t.Helper()
	var took []time.Duration
	for range 9 {
		cmd := exec.Command("iptables-restore", "--noflush")
		cmd.Stdin = strings.NewReader("*nat\n:MEASURED - [0:0]\n-A MEASURED -j RETURN\nCOMMIT\n")
		start := time.Now()
		n.must(n.Do(cmd.Run))
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// side is one of the two that are measured.
type side struct {
	*node
	process *kubetest.Process
	metrics netip.AddrPort
	prefix  string // of its metrics
}

// sample returns a metric of the IPv4 half; 0 if it is not there yet.
func (s *side) sample(name string) float64 {
	body, err := kubetest.Get(s.Host, s.metrics, "/metrics")
	if err != nil {
		return 0
	}
	m := regexp.MustCompile(`(?m)^` + s.prefix + "_" + name + `\{ip_family="IPv4"\} (\S+)$`).FindSubmatch(body)
	if m == nil {
		return 0
	}
	value, _ := strconv.ParseFloat(string(m[1]), 64)
	return value
}

func (s *side) awaitFirstSync() {
	s.t.Helper()
	clustertest.Eventually(s.t, syncLimit, "the first sync", func() error {
		if s.sample("sync_proxy_rules_last_timestamp_seconds") == 0 {
			return fmt.Errorf("none yet: %s", s.process.Log())
		}
		return nil
	})
}

// measure takes an endpoint of a Service in the middle out and in again.
func (s *side) measure(m *measured, c *kubetest.ControlPlane, given *objects) {
	s.t.Helper()
	const partial = "sync_partial_proxy_rules_duration_seconds"
	whole := &given.slices[len(given.slices)/2]
	fewer := whole.DeepCopy()
	fewer.Endpoints = fewer.Endpoints[1:]
	count, sum, cpu := s.sample(partial+"_count"), s.sample(partial+"_sum"), s.process.CPU()
	for i := range changes {
		before := s.sample(partial + "_count")
		s.must(update(c, []*discoveryv1.EndpointSlice{fewer, whole}[i%2]))
		eventually(s.t, "the change", func() error {
			if s.sample(partial+"_count") == before {
				return fmt.Errorf("no sync: %s", s.process.Log())
			}
			return nil
		})
	}
	m.change = time.Duration((s.sample(partial+"_sum") - sum) / (s.sample(partial+"_count") - count) * float64(time.Second))
	m.changeCPU = (s.process.CPU() - cpu) / changes
	m.rss, m.floor = s.process.RSS(), s.oneRule()
	m.packet = s.firstPacket(netip.AddrPortFrom(clusterIP(len(given.services)-1), 80))
}

func update(c *kubetest.ControlPlane, slice *discoveryv1.EndpointSlice) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := c.Client.DiscoveryV1().EndpointSlices(slice.Namespace).Update(ctx, slice, metav1.UpdateOptions{})
	return err
}

// firstPacket is the median time that a client takes to connect.
func (s *side) firstPacket(to netip.AddrPort) time.Duration {
	s.t.Helper()
	var took []time.Duration
	for range 201 {
		start := time.Now()
		_, err := func() (netlab.Reply, error) {
			ctx, cancel := context.WithTimeout(s.t.Context(), patience)
			defer cancel()
			return s.client.Ask(ctx, "tcp", to)
		}()
		s.must(err)
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took[len(took)/2]
}
