// Package e2e runs the real program on a node of its own: manifests in, and out
// come DNS answers and translated packets, which are all that the tests look at.
package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/test/clustertest"
	"github.com/clusterip/clusterip/test/kubetest"
	"github.com/miekg/dns"
)

// patience bounds every wait for something that should come about. The emulated machines of test/kernels are slow.
const patience = time.Minute

const corefile = `.:53 {
	bind 10.42.0.1
	errors
	clusterip cluster.local in-addr.arpa ip6.arpa {
		manifests %[1]s
		state %[2]s
		service_cidr 10.43.0.0/16 fd00:10:43::/108
	}
	kernelnat {
		backend %[3]s
		node_name node-1
		cluster_cidr 10.42.0.0/16 fd00:10:42::/64
		sync_period 1s
		conntrack_max_per_core 0
	}
}
`

var dnsServer = netip.MustParseAddrPort("10.42.0.1:53")

func TestMain(m *testing.M) { kubetest.Main(m.Run) }

// node is a netlab.Node with a folder of manifests.
type node struct {
	*netlab.Node
	t         *testing.T
	backend   string
	program   string
	manifests string
	state     string
	conf      string
}

func newNode(t *testing.T, backend string) *node {
	t.Helper()
	netlab.Require(t, "iptables", "ip6tables", "iptables-save", "nft")
	dir := t.TempDir()
	out := &node{
		Node: kubetest.NewNode(t), t: t, backend: backend,
		program:   kubetest.Program(t, true),
		manifests: filepath.Join(dir, "manifests"),
		state:     filepath.Join(dir, "state.json"),
		conf:      filepath.Join(dir, "Corefile"),
	}
	if err := os.Mkdir(out.manifests, 0o755); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(corefile, out.manifests, out.state, backend)
	if err := os.WriteFile(out.conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return out
}

// newEcho makes a node with the Service echo, which has one endpoint, and a pod that is
// a client alone. The program does not run yet.
func newEcho(t *testing.T, backend string) (n *node, client *netlab.Host) {
	t.Helper()
	n = newNode(t, backend)
	client = n.pod("client", "10.42.0.2")
	n.remove("client.yaml")
	n.pod("echo-0", "10.42.0.10", "fd00:10:42::10")
	n.write("service.yaml", echoService)
	return n, client
}

// pod makes a pod with echo servers, and its manifest.
func (n *node) pod(name string, addrs ...string) *netlab.Host {
	n.t.Helper()
	var ips []netip.Addr
	for _, a := range addrs {
		ips = append(ips, netip.MustParseAddr(a))
	}
	host, err := n.AddPod(name, ips...)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, serve := range []func(uint16) error{host.ServeTCP, host.ServeUDP} {
		if err := serve(5678); err != nil {
			n.t.Fatal(err)
		}
	}
	n.write(name+".yaml", podManifest(name, addrs...))
	return host
}

func podManifest(name string, addrs ...string) string {
	var ips strings.Builder
	for _, a := range addrs {
		fmt.Fprintf(&ips, "  - ip: %q\n", a)
	}
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata:
  name: %s
  namespace: testing
  labels: {app: echo}
spec:
  nodeName: node-1
  containers: [{name: echo, image: echo}]
status:
  podIPs:
%s  conditions: [{type: Ready, status: "True"}]
`, name, ips.String())
}

const echoService = `apiVersion: v1
kind: Service
metadata:
  name: echo
  namespace: testing
spec:
  selector: {app: echo}
  ipFamilyPolicy: RequireDualStack
  clusterIPs: [10.43.0.7, "fd00:10:43::7"]
  ports:
  - {name: tcp, protocol: TCP, port: 8080, targetPort: 5678}
  - {name: udp, protocol: UDP, port: 8080, targetPort: 5678}
`

var (
	echoIPv4 = netip.MustParseAddrPort("10.43.0.7:8080")
	echoIPv6 = netip.MustParseAddrPort("[fd00:10:43::7]:8080")
)

// write puts a manifest in place as an editor that cares does: whole.
func (n *node) write(name, text string) {
	n.t.Helper()
	path := filepath.Join(n.manifests, name)
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		n.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) remove(name string) {
	n.t.Helper()
	if err := os.Remove(filepath.Join(n.manifests, name)); err != nil {
		n.t.Fatal(err)
	}
}

// start runs the program on the node.
func (n *node) start() *kubetest.Process {
	n.t.Helper()
	return kubetest.StartOn(n.t, n.Host, exec.Command(n.program, "-conf", n.conf))
}

// eventually fails the test unless the condition comes true in good time.
func eventually(t *testing.T, what string, condition func() error) {
	t.Helper()
	clustertest.Eventually(t, patience, what, condition)
}

// ask makes one connection or flow from a host.
func ask(from *netlab.Host, network string, to netip.AddrPort) (netlab.Reply, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return from.Ask(ctx, network, to)
}

func reaches(from *netlab.Host, network string, to netip.AddrPort) func() error {
	return func() error {
		_, err := ask(from, network, to)
		return err
	}
}

// lookup asks the program's DNS from within a host.
func lookup(from *netlab.Host, name string, qtype uint16) (*dns.Msg, error) {
	return lookupAt(from, dnsServer, name, qtype)
}

func lookupAt(from *netlab.Host, server netip.AddrPort, name string, qtype uint16) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	conn, err := from.Dial(ctx, "udp", server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	m := new(dns.Msg).SetQuestion(name, qtype)
	reply, _, err := new(dns.Client).ExchangeWithConnContext(ctx, m, &dns.Conn{Conn: conn})
	return reply, err
}
