package kubetest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"time"

	"github.com/clusterip/clusterip/kernelnat/netlab"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NodeName is the name by which kube-proxy knows its node.
const NodeName = "node-1"

// Zone is the topology zone that the node is in.
const Zone = "zone-a"

// metrics is where kube-proxy says, in the node's network, when it has synced. Its
// health server is no help: to that a kube-proxy that has yet to sync is healthy.
var metrics = netip.MustParseAddrPort("127.0.0.1:10249")

// synced is the time at which the rules of a family were last written.
var synced = regexp.MustCompile(`(?m)^kubeproxy_sync_proxy_rules_last_timestamp_seconds\{ip_family="IPv[46]"\} [1-9]`)

// StartProxy starts kube-proxy on a node and waits until it has written the rules
// of all Services that are there, but no longer than the limit. mode is iptables, nftables or
// ipvs.
func (c *ControlPlane) StartProxy(node *netlab.Node, mode string, limit time.Duration, flags ...string) *Process {
	c.t.Helper()
	c.AddNode(Node())
	p := c.LaunchProxy(node, mode, NodeName, flags...)
	p.await("first sync of both families", limit, func() error {
		body, err := Get(node.Host, metrics, "/metrics")
		if err != nil {
			return err
		}
		if n := len(synced.FindAll(body, -1)); n < 2 {
			return fmt.Errorf("%d families are written", n)
		}
		return nil
	})
	return p
}

// LaunchProxy starts kube-proxy on a node, under the name of a Node and with further
// flags, and waits for nothing.
func (c *ControlPlane) LaunchProxy(node *netlab.Node, mode, name string, flags ...string) *Process {
	c.t.Helper()
	return StartOn(c.t, node.Host, c.command("kube-proxy", append(flags,
		"--kubeconfig="+c.KubeconfigOn(node.Host),
		"--proxy-mode="+mode,
		"--hostname-override="+name,
		"--cluster-cidr="+ClusterCIDRs,
		"--metrics-bind-address="+metrics.String(),
		// These sysctls are the machine's; a namespace cannot set them.
		"--conntrack-max-per-core=0", "--conntrack-min=0",
		"--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0",
	)...))
}

// Get asks an HTTP server from within a host; anything but 200 is an error.
func Get(host *netlab.Host, at netip.AddrPort, path string) ([]byte, error) {
	return bodyOf(Request(host, at, path))
}

// bodyOf reads what an HTTP server has answered; anything but 200 is an error.
func bodyOf(response *http.Response, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return body, err
}

// Request asks an HTTP server from within a host. The caller closes the body.
func Request(host *netlab.Host, at netip.AddrPort, path string) (*http.Response, error) {
	client := http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return host.Dial(ctx, network, at)
		},
	}}
	return client.Get("http://" + at.String() + path)
}

// Node is the Node that a netlab.Node stands for.
func Node() *corev1.Node {
	node := &corev1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: metav1.ObjectMeta{
		Name: NodeName, Labels: map[string]string{corev1.LabelTopologyZone: Zone},
	}}
	for _, a := range []netip.Prefix{netlab.NodeIPv4, netlab.NodeIPv6} {
		node.Status.Addresses = append(node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a.Addr().String()})
	}
	return node
}

// AddNode creates a Node, unless there is one of that name.
func (c *ControlPlane) AddNode(node *corev1.Node) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := c.Client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		c.t.Fatal(err)
	}
}
