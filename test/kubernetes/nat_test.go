package kubernetes

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/test/kubetest"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const natCorefile = `cluster.local {
	bind 127.0.0.1
	errors
	clusterip cluster.local {
		kubeconfig %s
	}
	kernelnat {
		backend %s
		node_name %s
		cluster_cidr 10.42.0.0/16 fd00:10:42::/64
		conntrack_max_per_core 0
	}
}
`

// NAT lives from the same watch as the names, with the Node and the ServiceCIDRs
// that it alone needs.
func TestNAT(t *testing.T) { kubetest.EachBackend(t, testNAT) }

func testNAT(t *testing.T, backend string) {
	a, n, client := startNode(t, "in-zone-0", "in-zone-1")
	a.create(service("web", "10.43.0.7"))
	a.put(hinted(slice("web-1", "web", "10.42.0.10", "10.42.0.11")))
	a.AddNode(inZone("zone-0"))
	a.AddNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "another"}})

	p := startNAT(t, n, a.KubeconfigOn(n.Host), backend)
	web := netip.MustParseAddrPort("10.43.0.7:80")
	asks := func(to netip.AddrPort) (string, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		reply, err := client.Ask(ctx, "tcp", to)
		return reply.Host, err
	}
	answeredBy := func(want string) {
		t.Helper()
		p.eventually("a connection to the ClusterIP", func() error {
			got, err := asks(web)
			if err == nil && got != want {
				err = fmt.Errorf("it leads to %s, want %s", got, want)
			}
			return err
		})
	}
	answeredBy("in-zone-0")

	t.Log("an address of the ServiceCIDR that nobody has is refused, not routed elsewhere")
	p.eventually("a refusal", func() error { // when the other Nodes are known
		if _, err := asks(netip.MustParseAddrPort("10.43.99.99:80")); err == nil || !strings.Contains(err.Error(), "refused") {
			return fmt.Errorf("got %v", err)
		}
		return nil
	})

	t.Log("the Node moves to another zone")
	a.do(func(ctx context.Context, c *kubernetes.Clientset) error {
		node, err := c.CoreV1().Nodes().Get(ctx, kubetest.NodeName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		node.Labels = inZone("zone-1").Labels
		_, err = c.CoreV1().Nodes().Update(ctx, node, metav1.UpdateOptions{})
		return err
	})
	answeredBy("in-zone-1")
}

// Of two Services that ask for one address, the one that does not get it has an Event.
func TestRefusedFrontendIsAnEvent(t *testing.T) {
	a, n, _ := startNode(t)
	a.AddNode(kubetest.Node())
	p := startNAT(t, n, a.KubeconfigOn(n.Host), "iptables")
	p.logs("IPv4: all rules are in place")
	for _, name := range []string{"first", "second"} {
		s := service(name, "")
		s.Spec.ExternalIPs = []string{"198.51.100.7"}
		a.create(s)
	}
	p.eventually("an Event", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		events, err := a.Client.EventsV1().Events("shop").List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		// After a while there are others: the Services have no endpoints.
		refused := slices.DeleteFunc(events.Items, func(e eventsv1.Event) bool { return e.Reason != "FrontendRefused" })
		if len(refused) != 1 {
			return fmt.Errorf("%d of %d Events", len(refused), len(events.Items))
		}
		e := refused[0]
		if !strings.Contains(e.Note, "198.51.100.7:80/TCP belongs to Service shop/") || e.Regarding.Kind != "Service" || e.Regarding.UID == "" {
			return fmt.Errorf("it says %+v", e)
		}
		return nil
	})
}

// startNode makes a node beside an API server that has the namespace shop. On the node
// are a client and pods of the names given, from 10.42.0.10 on, that answer at port 8080.
func startNode(t *testing.T, pods ...string) (a *apiServer, n *netlab.Node, client *netlab.Host) {
	t.Helper()
	netlab.Require(t, "iptables", "ip6tables", "iptables-save", "iptables-restore", "nft")
	a, n = startAPIServer(t), kubetest.NewNode(t)
	client = addPod(t, n, "client", "10.42.0.2")
	for i, name := range pods {
		if err := addPod(t, n, name, fmt.Sprintf("10.42.0.1%d", i)).ServeTCP(8080); err != nil {
			t.Fatal(err)
		}
	}
	a.namespace("shop")
	return a, n, client
}

func addPod(t *testing.T, n *netlab.Node, name, address string) *netlab.Host {
	t.Helper()
	host, err := n.AddPod(name, netip.MustParseAddr(address))
	if err != nil {
		t.Fatal(err)
	}
	return host
}

func inZone(zone string) *corev1.Node {
	node := kubetest.Node()
	node.Labels = map[string]string{corev1.LabelTopologyZone: zone}
	return node
}

// hinted has each endpoint serve a zone of its own: zone-0, zone-1.
func hinted(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	for i := range s.Endpoints {
		s.Endpoints[i].Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: fmt.Sprintf("zone-%d", i)}}}
	}
	return s
}

// startNAT runs the program with NAT on a node.
func startNAT(t *testing.T, n *netlab.Node, kubeconfig, backend string) *program {
	t.Helper()
	return &program{t: t, Process: kubetest.StartProgram(t, n.Host, true, fmt.Sprintf(natCorefile, kubeconfig, backend, kubetest.NodeName))}
}
