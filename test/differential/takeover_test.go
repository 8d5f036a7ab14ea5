package differential

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/test/kubetest"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var (
	echo     = netip.MustParseAddrPort("10.43.0.7:8080")
	echoIPv6 = netip.MustParseAddrPort("[fd00:10:43::7]:8080")
	echoNode = netip.AddrPortFrom(netlab.NodeIPv4.Addr(), 30080)
	// echoLocal is there for all but kube-proxy in its nftables mode.
	echoLocal = netip.MustParseAddrPort("127.0.0.1:30080")
)

// leftBehind are the lines of kube-proxy that stay: an empty chain that is the
// kubelet's too.
var leftBehind = regexp.MustCompile(`^ip6tables -t filter (:KUBE-FIREWALL -|-A (INPUT|OUTPUT) -j KUBE-FIREWALL)$`)

// builtin are lines that tables have for as long as they are there.
var builtin = regexp.MustCompile(`^ip6?tables -t \w+ :[A-Z]+ ACCEPT$`)

// walk leads from each to all that may follow it. Ours with backend iptables is followed
// by kube-proxy in that mode alone: in the other one kube-proxy begins with removing its
// iptables rules, and so ours.
var walk = []party{
	{"kube-proxy", "nftables"}, {"ours", "iptables"}, {"ours", "nftables"}, {"kube-proxy", "nftables"}, {"ours", "nftables"},
	{"kube-proxy", "iptables"}, {"ours", "iptables"}, {"kube-proxy", "iptables"}, {"ours", "nftables"}, {"ours", "iptables"},
}

// A node goes from hand to hand, kube-proxy's and the program's, and no client notices.
// Each leaves in the kernel what it writes on a node of its own, and nothing of the one
// before it.
func TestTakeover(t *testing.T) {
	require(t)
	c := kubetest.Start(t)
	given := echoObjects()
	given.create(t, c, 1)
	given = list(t, c)
	manifests := given.withoutService("gone").manifests(t)
	run := func(n *node, p party) *kubetest.Process {
		if p.who == "ours" {
			return n.startOurs(p.mode, manifests)
		}
		return c.StartProxy(n.Node, p.mode, patience)
	}
	fresh := make(map[party][]string)
	for _, who := range []string{"kube-proxy", "ours"} {
		for _, mode := range modes {
			n, p := newNode(t), party{who, mode}
			process := run(n, p)
			fresh[p] = n.kernel()
			n.cleanUp(process, p)
		}
	}

	n := newNode(t)
	running := run(n, walk[0])
	eventually(t, "an answer", func() error { return ask(n.client, "tcp", echo) })
	established := []*connection{dial(t, n.client, echo), dial(t, n.client, echoIPv6), dial(t, n.Outside, echoNode), dial(t, n.Host, echo)}
	asking := keepAsking(n, usual)
	for i, p := range walk[1:] {
		what := fmt.Sprintf("%s, after %s", p, walk[i])
		running.Stop(syscall.SIGTERM)
		running = run(n, p)
		if walk[i] == (party{"ours", "nftables"}) && p.who == "kube-proxy" {
			if said, err := n.coredns("cleanup", "-backend", "nftables"); err != nil {
				t.Errorf("%s: cleanup: %v\n%s", what, err, said)
			}
		}
		eventually(t, what, func() error {
			got := n.kernel()
			if p.who == "kube-proxy" {
				// Nothing leads there any more.
				got = slices.DeleteFunc(got, rangesChain.MatchString)
			}
			if diff := cmp.Diff(fresh[p], got); diff != "" {
				return fmt.Errorf("on a node of its own (-), here (+):\n%s", diff)
			}
			return nil
		})
		for _, e := range established {
			e.alive(what)
		}
		if err := ask(n.Host, "tcp", echoLocal); err != nil && p != (party{"kube-proxy", "nftables"}) {
			t.Errorf("%s: %v", what, err)
		}
		asking.none(t, what)
	}
	asking.end(t)
	n.cleanUp(running, walk[len(walk)-1])
}

// kernel returns all that the node's kernel holds of rules that somebody has written.
func (n *node) kernel() []string {
	n.t.Helper()
	all := slices.DeleteFunc(n.rules(), func(line string) bool {
		return builtin.MatchString(line) || leftBehind.MatchString(line)
	})
	for _, save := range []string{"iptables-legacy-save", "ip6tables-legacy-save"} {
		all = append(all, strings.Fields(kubetest.Output(n.t, n.Host, save))...)
	}
	for table := range strings.Lines(kubetest.Output(n.t, n.Host, "nft", "list", "tables")) {
		switch name := table[strings.LastIndexByte(table, ' ')+1 : len(table)-1]; name {
		case "nat", "filter", "mangle": // those of iptables
		default:
			all = append(all, table)
		}
	}
	for _, table := range []string{"clusterip", "kube-proxy"} {
		all = append(all, kubetest.Tables(n.t, n.Host, table)...)
	}
	slices.Sort(all)
	return all
}

// coredns runs the program on the node, and returns what it says.
func (n *node) coredns(args ...string) (said string, err error) {
	n.t.Helper()
	var out []byte
	err = n.Do(func() (err error) {
		out, err = exec.Command(kubetest.Program(n.t, true), args...).CombinedOutput()
		return err
	})
	return string(out), err
}

// cleanUp ends a process and has the program remove what it has written. While ours runs
// nothing is removed.
func (n *node) cleanUp(running *kubetest.Process, p party) {
	n.t.Helper()
	if before := n.kernel(); p.who == "ours" {
		said, err := n.coredns("cleanup")
		if err == nil || !strings.Contains(said, "kernelnat runs in another process already: stop that one first") {
			n.t.Errorf("cleanup while %s runs: %v\n%s", p, err, said)
		}
		if diff := cmp.Diff(before, n.kernel()); diff != "" {
			n.t.Errorf("cleanup while %s runs:\n%s", p, diff)
		}
	}
	running.Stop(syscall.SIGTERM)
	if said, err := n.coredns("cleanup"); err != nil {
		n.t.Errorf("cleanup after %s: %v\n%s", p, err, said)
	}
	if left := n.kernel(); len(left) > 0 {
		n.t.Errorf("after %s and cleanup:\n%s", p, strings.Join(left, "\n"))
	}
}

// kube-proxy takes a node back, with its first sync and with those that remove what
// Services have that are gone, and nothing of ours stays.
func TestTakenBack(t *testing.T) {
	require(t)
	c := kubetest.Start(t)
	given := echoObjects()
	more := many(50, benchEndpoints)
	given.services, given.slices = append(given.services, more.services...), append(given.slices, more.slices...)
	given.create(t, c, 1)
	given = list(t, c)

	n := newNode(t)
	ours := n.startOurs("iptables", given.manifests(t))
	eventually(t, "an answer through ours", func() error { return ask(n.client, "tcp", echo) })
	if rules := n.rules(); !slices.ContainsFunc(rules, differences[0].line.MatchString) {
		t.Fatalf("too few Services for chains by range:\n%s", strings.Join(rules, "\n"))
	}
	established := dial(t, n.client, echo)
	asking := keepAsking(n, usual)
	ours.Stop(syscall.SIGTERM)
	established.alive("the end of ours")
	c.StartProxy(n.Node, "iptables", patience)
	established.alive("the first sync of kube-proxy")
	if err := c.Client.CoreV1().Services(namespace).Delete(t.Context(), more.services[0].Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	fresh := newNode(t)
	c.StartProxy(fresh.Node, "iptables", patience)
	eventually(t, "the rules of a kube-proxy on a node of its own", func() error {
		got := slices.DeleteFunc(n.rules(), rangesChain.MatchString)
		if diff := cmp.Diff(fresh.rules(), got); diff != "" {
			return errors.New(diff)
		}
		return nil
	})
	asking.end(t)
	established.alive("all that")
}

// echoObjects are the Service that is asked, one with a NodePort, and one that goes
// meanwhile.
func echoObjects() objects {
	three := conditions{"local-0": ready, "local-1": ready, "remote-0": ready}
	service := func(name, ip string) corev1.Service {
		return corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
			Spec:       corev1.ServiceSpec{ClusterIP: ip, Ports: []corev1.ServicePort{port("", "TCP", 8080, 5678)}},
		}
	}
	out := objects{services: []corev1.Service{service("echo", echo.Addr().String()), service("node-port", ""), service("gone", "")}}
	both := corev1.IPFamilyPolicyRequireDualStack
	out.services[0].Spec.IPFamilyPolicy, out.services[0].Spec.ClusterIPs = &both, []string{echo.Addr().String(), echoIPv6.Addr().String()}
	out.services[0].Spec.Ports = append(out.services[0].Spec.Ports, port("udp", "UDP", 8080, 5678))
	out.services[0].Spec.Ports[0].Name = "tcp"
	out.services[1].Spec.Type = corev1.ServiceTypeNodePort
	out.services[1].Spec.Ports[0].NodePort = int32(echoNode.Port())
	for i := range out.services {
		out.slices = append(out.slices, endpointSlice(&out.services[i], 0, corev1.IPv4Protocol, three))
	}
	out.slices = append(out.slices, endpointSlice(&out.services[0], 0, corev1.IPv6Protocol, three))
	return out
}

// withoutService leaves out a Service; its EndpointSlices stay.
func (o *objects) withoutService(name string) *objects {
	return &objects{
		services: slices.DeleteFunc(slices.Clone(o.services), func(s corev1.Service) bool { return s.Name == name }),
		slices:   o.slices,
	}
}

func ask(from *netlab.Host, network string, to netip.AddrPort) error {
	return askWithin(5*time.Second, from, network, to)
}

func askWithin(limit time.Duration, from *netlab.Host, network string, to netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	_, err := from.Ask(ctx, network, to)
	return err
}

// tempo is that of an asker.
type tempo struct{ pause, limit time.Duration }

var (
	// usual is 200 connections in a second.
	usual = tempo{pause: 5 * time.Millisecond, limit: 5 * time.Second}
	// emulated is for a machine that has the processors for no more.
	emulated = tempo{pause: 300 * time.Millisecond, limit: 30 * time.Second}
)

// asker makes connections all the time, and waits for none before the next.
type asker struct {
	stop, ended chan struct{}
	asking      sync.WaitGroup
	mu          sync.Mutex
	made        int
	failed      []error
}

// keepAsking has clients of all kinds ask in turn.
func keepAsking(n *node, at tempo) *asker {
	ways := []struct {
		from    *netlab.Host
		network string
		to      netip.AddrPort
	}{
		{n.client, "tcp", echo}, {n.Outside, "tcp", echoNode}, {n.client, "tcp", echoIPv6}, {n.Host, "tcp", echo}, {n.client, "udp", echo},
	}
	a := &asker{stop: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(a.ended)
		next := time.NewTicker(at.pause)
		defer next.Stop()
		for i := 0; ; i++ {
			select {
			case <-a.stop:
				return
			case <-next.C:
			}
			way := ways[i%len(ways)]
			a.asking.Go(func() {
				err := askWithin(at.limit, way.from, way.network, way.to)
				a.mu.Lock()
				defer a.mu.Unlock()
				if a.made++; err != nil {
					a.failed = append(a.failed, fmt.Errorf("%s asks %s %s: %w", way.from.Name, way.network, way.to, err))
				}
			})
		}
	}()
	n.t.Cleanup(a.halt)
	return a
}

// halt waits for the last connection.
func (a *asker) halt() {
	select {
	case <-a.ended:
	default:
		close(a.stop)
		<-a.ended
		a.asking.Wait()
	}
}

// none fails the test if connections have failed since it was last asked.
func (a *asker) none(t *testing.T, when string) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.failed) > 0 {
		t.Errorf("%s: %d connections failed, of %d in all. The first: %v", when, len(a.failed), a.made, a.failed[0])
	}
	a.failed = nil
}

// end ends the asking, and fails the test if a connection failed.
func (a *asker) end(t *testing.T) {
	t.Helper()
	a.halt()
	a.none(t, "at the end")
	if a.made < 20 {
		t.Errorf("only %d connections were made", a.made)
	}
	t.Logf("%d connections", a.made)
}

// connection is one that stays open.
type connection struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func dial(t *testing.T, from *netlab.Host, to netip.AddrPort) *connection {
	t.Helper()
	conn, err := from.Dial(t.Context(), "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &connection{conn, t, bufio.NewReader(conn)}
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := netlab.ReadReply(c.r); err != nil {
		t.Fatal(err)
	}
	return c
}

// alive sends a line and wants it back.
func (c *connection) alive(after string) {
	c.t.Helper()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	line := after + "\n"
	_, err := io.WriteString(c, line)
	if err != nil {
		c.t.Fatalf("after %s: %v", after, err)
	}
	got, err := c.r.ReadString('\n')
	if err == nil && got != line {
		err = fmt.Errorf("read %q", got)
	}
	if err != nil {
		c.t.Fatalf("after %s: %v", after, err)
	}
}
