package kubernetes

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/test/clustertest"
	"github.com/clusterip/clusterip/test/kubetest"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

var rollouts = flag.Int("rollouts", 0, "how many rolling restarts of the DaemonSet TestRollingRestart plays; 0: three pods restart")

// What passes between the steps of a rollout on a real node: the kubelet looks at its
// containers once a second, and needs some more to start one.
const (
	kubeletNotices = time.Second
	kubeletStarts  = time.Second
)

// rollout is a DaemonSet on two nodes, with the part of the kubelets and of the
// controllers played.
type rollout struct {
	t       *testing.T
	api     *apiServer
	nodes   []*daemonNode
	coreDNS []*coreDNS
}

// coreDNS is one of its pods.
type coreDNS struct {
	*kubetest.Process
	endpoint *discoveryv1.Endpoint
}

// daemonNode is a node with the DaemonSet's pod and one that resolves.
type daemonNode struct {
	*netlab.Node
	name, address string
	client        *netlab.Host
	program       *program
	// endpoint is that of the DaemonSet's pod; nil: there is none.
	endpoint *discoveryv1.Endpoint
}

// No query is lost when the DaemonSet is restarted node by node.
func TestRollingRestart(t *testing.T) {
	r := newRollout(t)
	for _, n := range r.nodes {
		r.start(n)
		r.serve(n)
	}
	clients := r.ask()
	restarts := max(2**rollouts, 3)
	for i := range restarts {
		r.restart(r.nodes[i%2])
	}
	r.noneLost(clients, restarts)
}

// Who is told that a pod is ready finds it listening.
func TestReadyMeansListening(t *testing.T) {
	r := newRollout(t)
	n := r.nodes[0]
	for range 10 {
		r.start(n)
		deadline := time.Now().Add(patience)
		// Without a pause, since too soon is for some milliseconds only; and twice, since
		// CoreDNS's plugin answers for a moment before it knows whom to ask.
		for yes := 0; yes < 2; yes++ {
			if err := n.ready(); err != nil {
				yes = -1
			}
			if time.Now().After(deadline) {
				t.Fatal("it is not ready")
			}
		}
		if err := n.resolves(n.Host, netip.MustParseAddrPort("127.0.0.1:1053")); err != nil {
			r.t.Errorf("a pod that is ready does not answer: %v", err)
		}
		n.program.Stop(syscall.SIGKILL)
	}
}

// No query is lost when CoreDNS's pods go and the DaemonSet's stay.
func TestCoreDNSGoes(t *testing.T) {
	r := newRollout(t)
	pods := []*coreDNS{
		r.startCoreDNS(r.nodes[0], "10.42.0.53"),
		r.startCoreDNS(r.nodes[1], "10.42.200.53"),
	}
	for _, n := range r.nodes {
		r.start(n)
	}
	clients := r.ask()
	for _, n := range r.nodes {
		r.serve(n)
	}
	time.Sleep(migrates)
	for _, p := range pods {
		p.Signal(syscall.SIGTERM)
		p.endpoint.Conditions = conditions(false, true, true)
	}
	r.publish()
	for _, p := range pods {
		p.Stop(syscall.SIGCONT)
	}
	time.Sleep(kubeletNotices)
	r.coreDNS = nil
	r.publish()
	time.Sleep(migrates)
	// Its probe is not asked often enough to say that a pod is about to end.
	r.noneLost(clients, int((kubeletNotices+answerTime)/time.Second)*keptPerSecond)
}

// migrates is how long clients ask before a step of a migration, and after the last.
const migrates = 3 * time.Second

func newRollout(t *testing.T) *rollout {
	t.Helper()
	netlab.Require(t, "iptables", "ip6tables")
	r := &rollout{t: t, api: startAPIServer(t)}
	first := kubetest.NewNode(t)
	second, err := first.AddNode()
	if err != nil {
		t.Fatal(err)
	}
	r.nodes = []*daemonNode{
		{Node: first, name: kubetest.NodeName, address: netlab.NodeIPv4.Addr().String(), client: addPod(t, first, "client-1", "10.42.0.2")},
		{Node: second, name: "node-2", address: netlab.SecondNodeIPv4.Addr().String(), client: addPod(t, second, "client-2", "10.42.200.2")},
	}
	for _, n := range r.nodes {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.name, Labels: map[string]string{corev1.LabelTopologyZone: kubetest.Zone}}}
		r.api.AddNode(node)
	}
	r.api.apply(strings.Replace(readFile(t, "service.yaml"), "10.96.0.10", dnsAddress, 1))
	r.api.namespace("shop")
	r.api.create(service("web", "10.43.0.5"))
	return r
}

// ask has the pods of all nodes ask the cluster's name server, from when it answers them.
func (r *rollout) ask() []*resolver {
	r.t.Helper()
	server := netip.AddrPortFrom(netip.MustParseAddr(dnsAddress), 53)
	var all []*resolver
	for _, n := range r.nodes {
		n.program.eventually("an answer from the ClusterIP", func() error { return n.resolves(n.client, server) })
		all = append(all, resolve(r.t, n.client, server, "web.shop.svc.cluster.local", "10.43.0.5"))
	}
	return all
}

// resolves asks a name server from a host.
func (n *daemonNode) resolves(from *netlab.Host, server netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	conn, err := from.Dial(ctx, "udp", server)
	if err != nil {
		return err
	}
	defer conn.Close()
	return exchangeOn(conn, "web.shop.svc.cluster.local", "10.43.0.5")
}

// noneLost ends the clients. Of those that never let go of their socket, each may have
// lost so many: they were asking in the moment their flow was cut, or until it was.
func (r *rollout) noneLost(clients []*resolver, mayLose int) {
	r.t.Helper()
	for _, c := range clients {
		c.stop()
		for _, kind := range []string{eachPort, overTCP, oneSocket} {
			lost := c.lost[kind]
			r.t.Logf("%s: %s: %d of %d lost", c.pod.Name, kind, len(lost), c.asked[kind])
			if len(lost) > 0 && (kind != oneSocket || len(lost) > mayLose) {
				r.t.Errorf("%s: %s: lost %q", c.pod.Name, kind, lost[:min(len(lost), 20)])
			}
		}
	}
}

// start does what the kubelet does with a new pod.
func (r *rollout) start(n *daemonNode) {
	r.t.Helper()
	text := strings.NewReplacer(
		"pods insecure", "kubeconfig "+r.api.KubeconfigOn(n.Host),
		"10.244.0.0/16", "10.42.0.0/16\n node_name "+n.name+"\n conntrack_max_per_core 0",
		"/etc/resolv.conf", "192.0.2.2", "loop\n", "",
	).Replace(readFile(r.t, "Corefile"))
	n.program = &program{t: r.t, Process: kubetest.StartProgram(r.t, n.Host, true, text)}
	n.endpoint = &discoveryv1.Endpoint{Addresses: []string{n.address}, NodeName: &n.name, Zone: new(kubetest.Zone), Conditions: conditions(false, false, false)}
	r.publish()
}

// serve has the Service lead to a new pod when it is ready.
func (r *rollout) serve(n *daemonNode) {
	r.t.Helper()
	n.program.eventually("readiness", n.ready)
	if err := n.resolves(n.Host, netip.MustParseAddrPort("127.0.0.1:1053")); err != nil {
		r.t.Errorf("a pod that is ready does not answer: %v", err)
	}
	n.endpoint.Conditions = conditions(true, true, false)
	r.publish()
}

// restart does what becomes of a pod in a rollout: it is deleted, and when it has gone
// another comes.
func (r *rollout) restart(n *daemonNode) {
	r.t.Helper()
	n.program.Signal(syscall.SIGTERM)
	n.endpoint.Conditions = conditions(false, true, true)
	r.publish()
	r.probe(n)
	n.program.Stop(syscall.SIGCONT)
	time.Sleep(kubeletNotices)
	n.endpoint = nil
	r.publish()
	time.Sleep(kubeletStarts)
	r.start(n)
	r.serve(n)
}

// startCoreDNS starts a pod of CoreDNS as kubeadm configures it, and waits until it is
// ready.
func (r *rollout) startCoreDNS(n *daemonNode, address string) *coreDNS {
	r.t.Helper()
	host := addPod(r.t, n.Node, "coredns", address)
	c := &coreDNS{Process: kubetest.StartProgram(r.t, host, true, fmt.Sprintf(kubeadmCorefile, r.api.KubeconfigOn(host)))}
	clustertest.Eventually(r.t, patience, "readiness of CoreDNS", func() error {
		_, err := kubetest.Get(host, netip.MustParseAddrPort("127.0.0.1:8181"), "/ready")
		return err
	})
	c.endpoint = &discoveryv1.Endpoint{Addresses: []string{address}, NodeName: &n.name, Zone: new(kubetest.Zone), Conditions: conditions(true, true, false)}
	r.coreDNS = append(r.coreDNS, c)
	r.publish()
	return c
}

const kubeadmCorefile = `.:53 {
	errors
	health {
		lameduck 5s
	}
	ready
	kubernetes cluster.local in-addr.arpa ip6.arpa {
		kubeconfig %s
		pods insecure
		fallthrough in-addr.arpa ip6.arpa
		ttl 30
	}
	cache 30
	loadbalance
}
`

// probe asks a pod that terminates whether it is ready until it has said no as often as
// the DaemonSet has it.
func (r *rollout) probe(n *daemonNode) {
	r.t.Helper()
	var set appsv1.DaemonSet
	if err := yaml.Unmarshal([]byte(readFile(r.t, "daemonset.yaml")), &set); err != nil {
		r.t.Fatal(err)
	}
	probe := set.Spec.Template.Spec.Containers[0].ReadinessProbe
	for failed := int32(0); failed < probe.FailureThreshold; {
		time.Sleep(time.Duration(probe.PeriodSeconds) * time.Second)
		if n.ready() != nil {
			failed++
		}
	}
	n.endpoint.Conditions = conditions(false, false, true)
	r.publish()
}

// ready asks the readiness probe's question.
func (n *daemonNode) ready() error {
	_, err := kubetest.Get(n.Host, netip.MustParseAddrPort("127.0.0.1:18181"), "/ready")
	return err
}

func conditions(ready, serving, terminating bool) discoveryv1.EndpointConditions {
	return discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating}
}

// publish writes the EndpointSlices of the Service, as the EndpointSlice controller
// does for PreferSameNode: one for the pods that have each set of ports.
func (r *rollout) publish() {
	r.t.Helper()
	var own []discoveryv1.Endpoint
	for _, n := range r.nodes {
		if n.endpoint != nil {
			own = append(own, *n.endpoint)
		}
	}
	r.api.put(nameServers("daemonset", 1053, own))
	var others []discoveryv1.Endpoint
	for _, p := range r.coreDNS {
		others = append(others, *p.endpoint)
	}
	r.api.put(nameServers("deployment", 53, others))
}

func nameServers(kind string, port int32, endpoints []discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	s := slice("kube-dns-"+kind, "kube-dns")
	s.Namespace = metav1.NamespaceSystem
	s.Ports = []discoveryv1.EndpointPort{
		{Name: new("dns"), Protocol: new(corev1.ProtocolUDP), Port: &port},
		{Name: new("dns-tcp"), Protocol: new(corev1.ProtocolTCP), Port: &port},
		{Name: new("metrics"), Protocol: new(corev1.ProtocolTCP), Port: new(int32(9153))},
	}
	for _, e := range endpoints {
		if *e.Conditions.Ready {
			e.Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: *e.Zone}}, ForNodes: []discoveryv1.ForNode{{Name: *e.NodeName}}}
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}
