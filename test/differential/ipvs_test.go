package differential

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/test/clustertest"
	"github.com/clusterip/clusterip/test/kubetest"
	corev1 "k8s.io/api/core/v1"
)

// ipvs is a mode of kube-proxy's, and a backend of ours, which needs a kernel that the machine of
// make integration need not have.
const ipvs = "ipvs"

func requireIPVS(t *testing.T) {
	t.Helper()
	require(t)
	if _, err := os.Stat("/proc/net/ip_vs"); errors.Is(err, fs.ErrNotExist) {
		if os.Getenv("IPVS_REQUIRED") == "1" {
			t.Fatal("this kernel has no ip_vs, or has not loaded it")
		}
		t.Skip("this kernel has no ip_vs, or has not loaded it: make kernels-proxy runs this test")
	}
	netlab.Require(t, "ipset")
}

// ipvsDifference are flows that fare otherwise with kube-proxy in its IPVS mode than in its others,
// which ours is as.
type ipvsDifference struct {
	reason string   // as docs/nat.md has it
	theirs string   // the kind of their fate
	ours   []string // and of ours
	of     func(f flow) bool
}

var ipvsDifferences = []ipvsDifference{
	{
		reason: "A Service whose `internalTrafficPolicy` is Local answers nobody at its ClusterIP on a node without endpoints of it.",
		theirs: "answered", ours: []string{"dropped", "not permitted"},
		of: func(f flow) bool {
			return f.atClusterIP() && *f.service.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal
		},
	},
	{
		reason: "A Service whose `externalTrafficPolicy` is Local answers nobody outside on a node without endpoints of it.",
		theirs: "answered", ours: []string{"dropped"},
		of: func(f flow) bool { return f.from == "outside" && f.localFromOutside() },
	},
	{
		reason: "Pods get any endpoint of such a Service at its external addresses and NodePorts, as at its ClusterIP.",
		theirs: "answered", ours: []string{"answered"},
		of: func(f flow) bool { return (f.from == "client" || f.from == "local-0") && f.localFromOutside() },
	},
	{
		reason: "The node itself too, and endpoints see it at the address that it sends from.",
		theirs: "answered", ours: []string{"answered"},
		of: func(f flow) bool { return f.from == "node" && f.localFromOutside() },
	},
	{
		reason: "What the node itself sends to one of its NodePorts that has no endpoints is refused.",
		theirs: "not permitted", ours: []string{"refused"},
		of: func(f flow) bool { return f.from == "node" && !f.atClusterIP() && !f.external() },
	},
}

// atClusterIP reports whether it goes to a ClusterIP.
func (f flow) atClusterIP() bool {
	return slices.Contains(f.service.Spec.ClusterIPs, f.to.Addr().String())
}

// localFromOutside reports whether only endpoints on the node are for those who come this way from
// outside.
func (f flow) localFromOutside() bool {
	return !f.atClusterIP() && f.service.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// The same packets meet the same fate beside kube-proxy in its IPVS mode, but for what is listed.
func TestPacketsIPVS(t *testing.T) {
	requireIPVS(t)
	theirs, ours := party{"kube-proxy", ipvs}, party{"ours", ipvs}
	c := compare(t, theirs, ours)
	checkVariety(t, c.fates[ours])
	met := make(map[string]int)
	for _, f := range c.flows {
		a, b := c.fates[theirs][f.String()], c.fates[ours][f.String()]
		if slices.Equal(a, b) {
			continue
		}
		i := slices.IndexFunc(ipvsDifferences, func(d ipvsDifference) bool {
			return d.theirs == kindOf(a[0]) && slices.Contains(d.ours, kindOf(b[0])) && d.of(f)
		})
		if i < 0 {
			t.Errorf("%s: %s %q, %s %q", f, theirs, a, ours, b)
			continue
		}
		met[ipvsDifferences[i].reason]++
	}
	for _, d := range ipvsDifferences {
		t.Logf("%d flows: %s", met[d.reason], d.reason)
		if met[d.reason] == 0 {
			t.Errorf("no flow is affected by the difference %q any more", d.reason)
		}
	}
}

// What fares differently by the mode is known of IPVS too.
func TestModesIPVS(t *testing.T) {
	requireIPVS(t)
	control := kubetest.Start(t)
	var given objects
	given.addExposed()
	given.create(t, control, 1)
	given = list(t, control)
	theirs, ours := newNode(t), newNode(t)
	control.StartProxy(theirs.Node, ipvs, firstSync)
	ours.startOurs(ipvs, given.manifests(t))
	theirs.checkDifferences(party{"kube-proxy", ipvs}, &given)
	ours.checkDifferences(party{"ours", ipvs}, &given)
}

// takeovers are by which backend of ours a node is taken over from kube-proxy in its IPVS mode, and
// with which it is given back. The first sync of kube-proxy removes virtual servers that it does not
// know, so what is given back is a node whose rules need none.
var takeovers = []struct{ taken, back string }{{ipvs, "nftables"}, {"nftables", "nftables"}, {"iptables", ""}}

// Ours takes a node over from kube-proxy in its IPVS mode and gives it back, and no client notices.
// Nothing of kube-proxy's stays.
func TestTakeoverIPVS(t *testing.T) {
	requireIPVS(t)
	c := kubetest.Start(t)
	given := echoObjects()
	given.create(t, c, 1)
	given = list(t, c)
	manifests := given.manifests(t)
	for _, by := range takeovers {
		t.Run(by.taken, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			// Without the flag IPVS would remember UDP flows for five minutes.
			proxy := func() *kubetest.Process { return c.StartProxy(n.Node, ipvs, firstSync, "--ipvs-udp-timeout=10s") }
			running := proxy()
			eventually(t, "an answer", func() error { return ask(n.client, "tcp", echo) })
			running = n.take(running, by.taken, manifests)
			n.gone()
			if by.back == "" {
				return
			}
			if by.back != by.taken {
				running.Stop(syscall.SIGTERM)
				running = n.startOurs(by.back, manifests)
			}
			n.giveBack(running, by.back, proxy)
		})
	}
}

// take has ours take the node over while clients ask.
func (n *node) take(from *kubetest.Process, backend, manifests string) (ours *kubetest.Process) {
	n.t.Helper()
	established := n.dialAll()
	asking := keepAsking(n, emulated)
	from.Stop(syscall.SIGTERM)
	ours = n.startOurs(backend, manifests)
	for _, e := range established {
		e.alive("ours has taken over")
	}
	asking.end(n.t)
	if left := n.ofProxyIPVS(); !slices.Contains(left, "link kube-ipvs0") {
		n.t.Errorf("%q is left while there are connections", left)
	}
	for _, e := range established {
		e.reset()
	}
	return ours
}

// giveBack has kube-proxy take the node over while clients ask.
func (n *node) giveBack(ours *kubetest.Process, backend string, proxy func() *kubetest.Process) {
	n.t.Helper()
	established := n.dialAll()
	asking := keepAsking(n, emulated)
	ours.Stop(syscall.SIGTERM)
	proxy()
	if said, err := n.coredns("cleanup", "-backend", backend); err != nil {
		n.t.Errorf("cleanup: %v\n%s", err, said)
	}
	for _, e := range established {
		e.alive("kube-proxy has taken over")
	}
	if err := ask(n.client, "tcp", echo); err != nil {
		n.t.Errorf("after kube-proxy has taken over: %v", err)
	}
	asking.end(n.t)
}

func (n *node) dialAll() []*connection {
	n.t.Helper()
	return []*connection{dial(n.t, n.client, echo), dial(n.t, n.client, echoIPv6), dial(n.t, n.Outside, echoNode), dial(n.t, n.Host, echo)}
}

// gone waits until nothing of kube-proxy's is left.
func (n *node) gone() {
	n.t.Helper()
	// It goes last, and is found without starting programs.
	clustertest.Eventually(n.t, forgotten, "no kube-ipvs0", func() error {
		return n.Do(func() error {
			if _, err := net.InterfaceByName("kube-ipvs0"); err == nil {
				return errors.New("it is there")
			}
			return nil
		})
	})
	eventually(n.t, "nothing of kube-proxy", func() error {
		if left := n.ofProxyIPVS(); len(left) > 0 {
			return fmt.Errorf("%q is left", left)
		}
		return nil
	})
}

// forgotten is when IPVS has forgotten all connections for certain: it remembers one that was closed
// for two minutes. Ours looks again after 30 seconds, a minute, two minutes and so on.
const forgotten = 10 * time.Minute

// reset ends a connection, of which IPVS remembers nothing then.
func (c *connection) reset() {
	c.t.Helper()
	if err := c.Conn.(*net.TCPConn).SetLinger(0); err != nil {
		c.t.Fatal(err)
	}
	c.Close()
}

// ofProxyIPVS returns what the node's kernel holds of kube-proxy's IPVS mode, and of no other.
func (n *node) ofProxyIPVS() []string {
	n.t.Helper()
	var all []string
	for _, rule := range n.rules() {
		for _, chain := range []string{"KUBE-NODE-PORT ", "KUBE-LOAD-BALANCER ", "KUBE-SOURCE-RANGES-FIREWALL ", "KUBE-IPVS-"} {
			if strings.Contains(rule+" ", chain) {
				all = append(all, rule)
				break
			}
		}
	}
	for set := range strings.Lines(kubetest.Output(n.t, n.Host, "ipset", "list", "-n")) {
		all = append(all, "set "+strings.TrimSpace(set))
	}
	n.must(n.Do(func() error {
		if _, err := net.InterfaceByName("kube-ipvs0"); err == nil {
			all = append(all, "link kube-ipvs0")
		}
		// It is that of the thread, where /proc/net is that of the first thread.
		servers, err := os.ReadFile("/proc/thread-self/net/ip_vs")
		for line := range strings.Lines(string(servers)) {
			if slices.ContainsFunc([]string{"TCP ", "UDP ", "SCTP "}, func(p string) bool { return strings.HasPrefix(line, p) }) && !ourServer.MatchString(line) {
				all = append(all, "server "+strings.TrimSpace(line))
			}
		}
		return err
	}))
	return all
}

// ourServer is the line of a virtual server of ours.
var ourServer = regexp.MustCompile(`^\w+ +(C05863|\[0100:0000:0000:0001:)`)
