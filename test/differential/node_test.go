// Package differential compares the real program with the real kube-proxy: both
// are given the same objects, each on a node of its own, and then what the kernel
// holds and what becomes of packets is compared. It also has one take over from
// the other.
package differential

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/test/clustertest"
	"github.com/clusterip/clusterip/test/kubetest"
)

// patience bounds every wait for something that should come about. Both cores may
// be busy with the other side, and emulated.
const patience = 2 * time.Minute

// firstSync bounds the first sync of kube-proxy with all generated objects. In its IPVS mode it
// starts a program for each element of an ipset, which is slow in an emulated machine.
const firstSync = 15 * time.Minute

// modes are those of kube-proxy, and the backends of ours.
var modes = []string{"iptables", "nftables"}

const corefile = `.:53 {
	bind 10.42.0.1
	errors
	clusterip cluster.local in-addr.arpa ip6.arpa {
		manifests %s
		state %s
		service_cidr 10.43.0.0/16 fd00:10:43::/108
	}
	kernelnat {
		backend %s
		node_name node-1
		cluster_cidr 10.42.0.0/16 fd00:10:42::/64
		conntrack_max_per_core 0
	}
}
`

func TestMain(m *testing.M) { kubetest.Main(m.Run) }

// require says what the tests of this package need.
func require(t *testing.T) {
	t.Helper()
	netlab.Require(t, "iptables", "ip6tables", "iptables-save", "ip6tables-save", "nft")
	kubetest.Require(t)
}

// pod is a place for endpoints. Those of node-2 are behind the same bridge: what
// makes them remote is what their EndpointSlice says.
type pod struct {
	name, node, zone string
	v4, v6           string
}

var pods = []pod{
	{"local-0", "node-1", kubetest.Zone, "10.42.0.10", "fd00:10:42::10"},
	{"local-1", "node-1", kubetest.Zone, "10.42.0.11", "fd00:10:42::11"},
	{"local-2", "node-1", kubetest.Zone, "10.42.0.12", "fd00:10:42::12"},
	{"remote-0", "node-2", kubetest.Zone, "10.42.1.10", "fd00:10:42::1:10"},
	{"remote-1", "node-2", "zone-b", "10.42.1.11", "fd00:10:42::1:11"},
	{"remote-2", "node-2", "zone-b", "10.42.1.12", "fd00:10:42::1:12"},
}

// targetPorts are those that every pod answers on.
var targetPorts = []uint16{5678, 5679}

// node is a netlab.Node with all the pods, and one that is no endpoint.
type node struct {
	*netlab.Node
	t      *testing.T
	pods   map[string]*netlab.Host
	client *netlab.Host
	inTurn bool // whether pods answer in turn, and not at random
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{Node: kubetest.NewNode(t), t: t, pods: make(map[string]*netlab.Host)}
	n.must(n.Do(answerEachWithICMP))
	for _, p := range pods {
		host := n.addPod(p.name, p.v4, p.v6)
		n.pods[p.name] = host
		for _, port := range targetPorts {
			n.must(host.ServeTCP(port))
			n.must(host.ServeUDP(port))
		}
		n.serveSCTP(host)
	}
	n.client = n.addPod("client", "10.42.0.2", "fd00:10:42::2")
	return n
}

func (n *node) addPod(name, v4, v6 string) *netlab.Host {
	n.t.Helper()
	host, err := n.AddPod(name, netip.MustParseAddr(v4), netip.MustParseAddr(v6))
	n.must(err)
	return host
}

// answerEachWithICMP lifts the limit of about one ICMP error a second for each
// client: who is refused would have to try again.
func answerEachWithICMP() error {
	for _, limit := range []string{"ipv4/icmp_ratelimit", "ipv6/icmp/ratelimit"} {
		if err := os.WriteFile("/proc/sys/net/"+limit, []byte("0"), 0); err != nil {
			return err
		}
	}
	return nil
}

func (n *node) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

// startOurs starts the program with a backend and a folder of manifests, and waits until
// it has written the rules of both families.
func (n *node) startOurs(backend, manifests string) *kubetest.Process {
	n.t.Helper()
	text := fmt.Sprintf(corefile, manifests, filepath.Join(n.t.TempDir(), "state.json"), backend)
	p := kubetest.StartProgram(n.t, n.Host, true, text)
	eventually(n.t, "the first sync of ours", func() error {
		if got := strings.Count(p.Log(), "all rules are in place") + strings.Count(p.Log(), "no Service has a ClusterIP"); got < 2 {
			return fmt.Errorf("%d families are in place", got)
		}
		return nil
	})
	return p
}

// rules returns what the node's kernel holds: each line of iptables-save behind
// its command and its table, without counters, sorted. The order of chains and of
// the dispatch rules is history and decides nothing; that of the rules in a chain
// that picks an endpoint shows in their probabilities.
func (n *node) rules() []string {
	n.t.Helper()
	var all []string
	for _, save := range []string{"iptables-save", "ip6tables-save"} {
		table := ""
		for line := range strings.Lines(kubetest.Output(n.t, n.Host, save)) {
			line = strings.TrimSpace(line)
			switch {
			case strings.HasPrefix(line, "*"):
				table = line[1:]
			case strings.HasPrefix(line, ":"), strings.HasPrefix(line, "-"):
				line, _, _ = strings.Cut(line, " [")
				all = append(all, strings.TrimSuffix(save, "-save")+" -t "+table+" "+line)
			}
		}
	}
	slices.Sort(all)
	return all
}

// eventually fails the test unless the condition comes true in good time.
func eventually(t *testing.T, what string, condition func() error) {
	t.Helper()
	clustertest.Eventually(t, patience, what, condition)
}
