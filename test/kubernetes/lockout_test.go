package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/test/kubetest"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// mistaken holds the node's network, in which the API server is.
const mistaken = "192.0.0.0/16"

// lockout is a node whose API server is in a network of the node.
type lockout struct {
	*apiServer
	node       *netlab.Node
	client     *netlab.Host
	kubeconfig string
	backend    string
	server     netip.AddrPort // the API server
	program    *program
}

// newLockout has the program run there, and refuse what is in ranges of ClusterIPs.
func newLockout(t *testing.T, backend string) *lockout {
	t.Helper()
	a, n, client := startNode(t, "web")
	l := &lockout{apiServer: a, node: n, client: client, backend: backend}
	l.kubeconfig, l.server = l.KubeconfigIn(n.Outside, netlab.OutsideIPv4.Addr())
	l.AddNode(kubetest.Node())
	another := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "another"}}
	another.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.55.55"}}
	l.AddNode(another)
	l.put(slice("web-1", "web", "10.42.0.10"))
	l.serves("web", "10.43.0.7")
	l.refuses("10.43.99.99")
	return l
}

// A ServiceCIDR that holds the API server and the node's network cuts the node off from
// neither, not over a restart either, and goes without a trace.
func TestLockout(t *testing.T) { eachBackend(t, testLockout) }

func testLockout(t *testing.T, backend string) {
	l := newLockout(t, backend)
	t.Log("the ServiceCIDR comes")
	l.do(func(ctx context.Context, c *kubernetes.Clientset) error {
		_, err := c.NetworkingV1().ServiceCIDRs().Create(ctx, &networkingv1.ServiceCIDR{
			ObjectMeta: metav1.ObjectMeta{Name: "mistaken"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{mistaken}},
		}, metav1.CreateOptions{})
		return err
	})
	l.refuses("192.0.99.99")
	l.inTouch()
	l.refuses("10.43.99.99")
	l.program.logs("the range of ClusterIPs 192.0.0.0/16 overlaps the address of the API server, such as 192.0.2.2/32")
	l.event()
	exempt := map[string]string{"iptables": "-A KUBE-SERVICE-RANGES -d 192.0.55.55/32 -j RETURN", "nftables": "ip daddr 192.0.55.55 return"}[backend]
	if rules := l.rules(); !strings.Contains(rules, exempt) {
		t.Errorf("another Node is refused:\n%s", rules)
	}

	t.Log("a restart")
	l.program.Stop(syscall.SIGTERM)
	l.put(slice("second-1", "second", "10.42.0.10"))
	l.serves("second", "10.43.0.8")
	l.inTouch()
	l.refuses("192.0.99.99")

	t.Log("the ServiceCIDR goes")
	l.do(func(ctx context.Context, c *kubernetes.Clientset) error {
		return c.NetworkingV1().ServiceCIDRs().Delete(ctx, "mistaken", metav1.DeleteOptions{})
	})
	l.program.eventually("no rule for it", func() error {
		if rules := l.rules(); strings.Contains(rules, mistaken) {
			return errors.New(rules)
		}
		return nil
	})
}

// Rules that refuse the API server, whoever has left them, are gone before they are known
// to be wrong.
func TestLockoutLeftBehind(t *testing.T) { eachBackend(t, testLockoutLeftBehind) }

func testLockoutLeftBehind(t *testing.T, backend string) {
	l := newLockout(t, backend)
	for _, c := range map[string][]struct{ chain, name, ip string }{
		"iptables": {{"KUBE-SERVICE-RANGES", "service-ranges", "10.43.0.10"}, {"KUBE-SERVICES", "services", "10.43.0.9"}},
		"nftables": {{"ranges", "service-ranges", "10.43.0.10"}, {"refuse", "services", "10.43.0.9"}},
	}[backend] {
		t.Log("rules that refuse the API server are left in " + c.chain)
		l.program.Stop(syscall.SIGTERM)
		l.leave(c.chain)
		l.put(slice(c.name+"-1", c.name, "10.42.0.10"))
		began := time.Now()
		l.serves(c.name, c.ip)
		t.Logf("in touch again and in force after %v", time.Since(began))
		l.inTouch()
		l.refuses("10.43.99.99")
	}
}

// While the API server is away nothing in ranges of ClusterIPs is refused, and Services are
// reached.
func TestRangesOutOfTouch(t *testing.T) { eachBackend(t, testRangesOutOfTouch) }

func testRangesOutOfTouch(t *testing.T, backend string) {
	l := newLockout(t, backend)
	l.KillAPIServer()
	began := time.Now()
	l.program.logs("whether they are still there, is not known for now: what is in them and no Service is not refused any more")
	t.Logf("nothing in ranges is refused after %v", time.Since(began))
	l.program.eventually("an empty chain", func() error {
		for _, rule := range []string{"-A KUBE-SERVICE-RANGES", "goto refused"} {
			if rules := l.rules(); strings.Contains(rules, rule) {
				return errors.New(rules)
			}
		}
		return l.reaches("10.43.0.7")
	})
	l.StartServers()
	l.program.logs("the ranges of ClusterIPs are known again")
	l.refuses("10.43.99.99")
}

// serves creates a Service, starts the program and waits until the Service is reached.
func (l *lockout) serves(name, ip string) {
	l.t.Helper()
	l.create(service(name, ip))
	l.program = startNAT(l.t, l.node, l.kubeconfig, l.backend)
	l.program.eventually("an answer of "+name, func() error { return l.reaches(ip) })
}

func (l *lockout) reaches(ip string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_, err := l.client.Ask(ctx, "tcp", netip.AddrPortFrom(netip.MustParseAddr(ip), 80))
	return err
}

// refuses waits until the pod is refused an address.
func (l *lockout) refuses(ip string) {
	l.t.Helper()
	l.program.eventually("a refusal of "+ip, func() error {
		if err := l.reaches(ip); !errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("got %v", err)
		}
		return nil
	})
}

// inTouch fails unless the node reaches the API server and what else is in its network.
func (l *lockout) inTouch() {
	l.t.Helper()
	for range 10 {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		conn, err := l.node.Dial(ctx, "tcp", l.server)
		cancel()
		if err != nil {
			l.t.Fatalf("the node asks its API server: %v", err)
		}
		conn.Close()
	}
}

// leave puts rules into a chain as an earlier process may have left them.
func (l *lockout) leave(chain string) {
	l.t.Helper()
	rule := "-A " + chain + ` -d ` + mistaken + ` -m comment --comment "no such service" -m addrtype ! --dst-type LOCAL -j REJECT --reject-with icmp-port-unreachable`
	cmd := exec.Command("iptables-restore", "--noflush")
	cmd.Stdin = strings.NewReader("*filter\n" + rule + "\nCOMMIT\n")
	if l.backend == "nftables" {
		cmd = exec.Command("nft", "insert", "rule", "ip", "clusterip", chain, "ip", "daddr", mistaken, "fib", "daddr", "type", "!=", "local", "goto", "refused")
	}
	if err := l.node.Do(cmd.Run); err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if conn, err := l.node.Dial(ctx, "tcp", l.server); !errors.Is(err, syscall.ECONNREFUSED) {
		if err == nil {
			conn.Close()
		}
		l.t.Fatalf("the node is not locked out: %v", err)
	}
}

// rules are those that refuse what is in ranges, among others.
func (l *lockout) rules() string {
	l.t.Helper()
	if l.backend == "nftables" {
		return kubetest.Output(l.t, l.node.Host, "nft", "list", "chain", "ip", "clusterip", "ranges")
	}
	return kubetest.Output(l.t, l.node.Host, "iptables-save", "-t", "filter")
}

// event waits for an Event about the ServiceCIDR.
func (l *lockout) event() {
	l.t.Helper()
	l.program.eventually("an Event", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		events, err := l.Client.EventsV1().Events(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, e := range events.Items {
			if e.Regarding.Kind == "ServiceCIDR" && e.Regarding.Name == "mistaken" && e.Reason == "RangeOverlaps" && strings.Contains(e.Note, "API server") {
				return nil
			}
		}
		return fmt.Errorf("none of %d is it", len(events.Items))
	})
}
