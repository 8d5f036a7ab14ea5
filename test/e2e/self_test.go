package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/netlab"
)

// configure replaces parts of the Corefile.
func (n *node) configure(replace ...string) {
	n.t.Helper()
	text, err := os.ReadFile(n.conf)
	if err != nil {
		n.t.Fatal(err)
	}
	changed := strings.NewReplacer(replace...).Replace(string(text))
	if changed == string(text) {
		n.t.Fatalf("the Corefile has none of %q", replace)
	}
	if err := os.WriteFile(n.conf, []byte(changed), 0o644); err != nil {
		n.t.Fatal(err)
	}
}

func nodeManifest(name, spec string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Node\nmetadata: {name: %s}\nspec: {%s}\n", name, spec)
}

var healthz = netip.AddrPortFrom(netlab.NodeIPv4.Addr(), 10256)

// Endpoints are on this node if they are on the Node of its name, which is in lower
// case however it is written; and load balancers are told where there is no such Node.
func TestNodeName(t *testing.T) {
	n := newNode(t, "iptables")
	n.configure("node_name node-1", "node_name NODE-1")
	n.pod("echo-0", "10.42.0.10")
	n.write("service.yaml", loadBalancerService)
	n.start()
	eventually(t, "an answer at the NodePort, of an endpoint here", reaches(n.Outside, "tcp", netip.AddrPortFrom(netlab.NodeIPv4.Addr(), 30080)))
	eventually(t, "a folder without Nodes", answers(n.Outside, healthz, "/healthz", "200 {", `"nodeEligible":true`))
	n.write("other.yaml", nodeManifest("other", ""))
	eventually(t, "a folder whose Nodes are others", answers(n.Outside, healthz, "/healthz", "503 {", `"nodeEligible":false`, `"healthy":true`))
	eventually(t, "a program that is well", answers(n.Outside, healthz, "/livez", "200 {"))
	n.write("own.yaml", nodeManifest("node-1", ""))
	eventually(t, "its own Node", answers(n.Outside, healthz, "/healthz", "200 {", `"nodeEligible":true`))
}

// seesAsNode checks that the pod behind a Service sees a client outside as the node, which
// holds as long as it is known who is a pod.
func (n *node) seesAsNode(service netip.AddrPort) error {
	reply, err := ask(n.Outside, "tcp", service)
	if err == nil && reply.Client.Addr() == n.Outside.Addr(cluster.IPv4) {
		err = fmt.Errorf("the pod sees the client as %v", reply.Client)
	}
	return err
}

// Where the Node says who is a pod, nothing is written before it does.
func TestNATWaitsForPodCIDRs(t *testing.T) { eachBackend(t, nATWaitsForPodCIDRs) }

func nATWaitsForPodCIDRs(t *testing.T, backend string) {
	n, client := newEcho(t, backend)
	first := n.start()
	eventually(t, "an answer", func() error { return n.seesAsNode(echoIPv4) })
	eventually(t, "all rules", func() error {
		if got := strings.Count(first.Log(), "all rules are in place"); got < 2 {
			return fmt.Errorf("%d families are in place", got)
		}
		return nil
	})
	first.Stop(syscall.SIGTERM)
	before := n.kernelRules()

	n.configure("cluster_cidr 10.42.0.0/16 fd00:10:42::/64", "detect_local node_cidr")
	n.write("node.yaml", nodeManifest("node-1", ""))
	p := n.start()
	eventually(t, "what it waits for in the log", p.Says("NAT waits, and the kernel's rules stay as they are: detect_local is node_cidr, and Node node-1 has no spec.podCIDRs"))
	eventually(t, "the name", func() error { _, err := lookup(client, "echo.testing.svc.cluster.local.", 1); return err })
	if after := n.kernelRules(); after != before {
		t.Errorf("the rules were\n%s\nand are\n%s", before, after)
	}
	if err := n.seesAsNode(echoIPv4); err != nil {
		t.Errorf("while NAT waits: %v", err)
	}
	if err := answers(n.Outside, healthz, "/healthz")(); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("/healthz while NAT waits: %v", err)
	}

	n.write("node.yaml", nodeManifest("node-1", "podCIDRs: [10.42.0.0/24]"))
	eventually(t, "rules for its podCIDRs", n.hasRule("! -s 10.42.0.0/24", true))
	eventually(t, "/healthz", answers(n.Outside, healthz, "/healthz", "200 {"))
	if err := n.seesAsNode(echoIPv4); err != nil {
		t.Error(err)
	}
}

// What the Node said of who is a pod stays in force when it says nothing any more, until it
// says something else.
func TestLostPodCIDRsStayInForce(t *testing.T) { eachBackend(t, lostPodCIDRsStayInForce) }

func lostPodCIDRsStayInForce(t *testing.T, backend string) {
	n, client := newEcho(t, backend)
	n.configure("cluster_cidr 10.42.0.0/16 fd00:10:42::/64", "detect_local node_cidr")
	n.write("node.yaml", nodeManifest("node-1", "podCIDRs: [10.42.0.0/24]"))
	p := n.start()
	eventually(t, "rules for its podCIDRs", n.hasRule("! -s 10.42.0.0/24", true))

	n.write("node.yaml", nodeManifest("node-1", ""))
	eventually(t, "the loss in the log", p.Says("Node node-1 has no spec.podCIDRs any more of the family of [10.42.0.0/24]"))
	n.write("service.yaml", strings.ReplaceAll(echoService, "port: 8080", "port: 8081"))
	changed := netip.AddrPortFrom(echoIPv4.Addr(), 8081)
	eventually(t, "a change", reaches(client, "tcp", changed))
	if err := n.seesAsNode(changed); err != nil {
		t.Errorf("the Node has no podCIDRs any more: %v", err)
	}

	n.write("node.yaml", nodeManifest("node-1", "podCIDRs: [10.42.0.0/25]"))
	eventually(t, "rules for others", n.hasRule("! -s 10.42.0.0/25", true))
	eventually(t, "none for those before", n.hasRule("! -s 10.42.0.0/24", false))
}
