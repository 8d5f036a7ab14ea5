package differential

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/test/kubetest"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var echo = netip.MustParseAddrPort("10.43.0.7:8080")

// leftBehind are the lines of kube-proxy that stay: an empty chain that is the
// kubelet's too.
var leftBehind = regexp.MustCompile(`^ip6tables -t filter (:KUBE-FIREWALL -|-A (INPUT|OUTPUT) -j KUBE-FIREWALL)$`)

// The program takes a node over from kube-proxy and no client notices.
func TestTakeover(t *testing.T) {
	require(t)
	c := kubetest.Start(t)
	given := echoObjects()
	given.create(t, c, 1)
	given = list(t, c)
	manifests := given.withoutService("gone").manifests(t)
	for _, mode := range []string{"iptables", "nftables"} {
		t.Run("from "+mode, func(t *testing.T) { takeover(t, c, mode, manifests) })
	}
}

func takeover(t *testing.T, c *kubetest.ControlPlane, mode, manifests string) {
	n := newNode(t)
	proxy := c.StartProxy(n.Node, mode, patience)
	eventually(t, "an answer through kube-proxy", func() error { return ask(n.client) })
	established := dial(t, n.client)
	established.alive("the start")

	asking := keepAsking(n.client)
	proxy.Stop(syscall.SIGTERM)
	established.alive("the end of kube-proxy")
	n.startOurs(manifests)
	established.alive("the first sync of ours")
	// What the program would have written on a node of its own.
	fresh := newNode(t)
	fresh.startOurs(manifests)
	got := slices.DeleteFunc(n.rules(), leftBehind.MatchString)
	if diff := cmp.Diff(fresh.rules(), got); diff != "" {
		t.Errorf("on a node of its own (-), after kube-proxy (+):\n%s", diff)
	}
	if tables := kubetest.Output(t, n.Host, "nft", "list", "tables"); strings.Contains(tables, "kube-proxy") {
		t.Errorf("kube-proxy's tables are still there:\n%s", tables)
	}
	asking.none(t)
	established.alive("all that")
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
	ours := n.startOurs(given.manifests(t))
	eventually(t, "an answer through ours", func() error { return ask(n.client) })
	if rules := n.rules(); !slices.ContainsFunc(rules, differences[0].line.MatchString) {
		t.Fatalf("too few Services for chains by range:\n%s", strings.Join(rules, "\n"))
	}
	established := dial(t, n.client)
	asking := keepAsking(n.client)
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
	asking.none(t)
	established.alive("all that")
}

// none ends the asking and fails the test if a connection failed.
func (a *asker) none(t *testing.T) {
	t.Helper()
	made, err := a.stop()
	if err != nil {
		t.Errorf("a connection failed after %d that did not: %v", made, err)
	}
	if made < 100 {
		t.Errorf("only %d connections were made", made)
	}
	t.Logf("%d connections", made)
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
	out.services[1].Spec.Type = corev1.ServiceTypeNodePort
	for i := range out.services {
		out.slices = append(out.slices, endpointSlice(&out.services[i], 0, corev1.IPv4Protocol, three))
	}
	return out
}

// withoutService leaves out a Service; its EndpointSlices stay.
func (o *objects) withoutService(name string) *objects {
	return &objects{
		services: slices.DeleteFunc(slices.Clone(o.services), func(s corev1.Service) bool { return s.Name == name }),
		slices:   o.slices,
	}
}

func ask(from *netlab.Host) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := from.Ask(ctx, "tcp", echo)
	return err
}

// asker makes one connection after the other.
type asker struct {
	ended chan struct{}
	done  atomic.Bool
	made  int
	err   error
}

func keepAsking(from *netlab.Host) *asker {
	a := &asker{ended: make(chan struct{})}
	go func() {
		defer close(a.ended)
		for !a.done.Load() {
			if a.err = ask(from); a.err != nil {
				return
			}
			a.made++
		}
	}()
	return a
}

// stop returns how many connections were made, and the error of the one that
// failed.
func (a *asker) stop() (int, error) {
	a.done.Store(true)
	<-a.ended
	return a.made, a.err
}

// connection is one that stays open.
type connection struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func dial(t *testing.T, from *netlab.Host) *connection {
	t.Helper()
	conn, err := from.Dial(t.Context(), "tcp", echo)
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
