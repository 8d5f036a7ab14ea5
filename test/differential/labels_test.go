package differential

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/clusterip/clusterip/test/kubetest"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

const proxyName = "service.kubernetes.io/service-proxy-name"

// labelled are a Service with two EndpointSlices: what labels they have, and which pods
// then answer at its ClusterIP.
type labelled struct {
	service, first, second map[string]string
	answering              []string // of kube-proxy
	left                   bool     // alone by ours: docs/nat.md has the reason
}

var withLabels = []labelled{
	{answering: []string{"local-0", "remote-0"}},
	{service: map[string]string{proxyName: "other"}},
	{service: map[string]string{proxyName: ""}},
	{first: map[string]string{corev1.IsHeadlessService: ""}, answering: []string{"remote-0"}},
	{first: map[string]string{corev1.IsHeadlessService: "false"}, second: map[string]string{corev1.IsHeadlessService: ""}},
	{first: map[string]string{proxyName: "other"}, second: map[string]string{proxyName: ""}, answering: []string{"local-0", "remote-0"}},
	{service: map[string]string{corev1.IsHeadlessService: ""}, answering: []string{"local-0", "remote-0"}, left: true},
}

func (l labelled) objects(i int) (corev1.Service, []discoveryv1.EndpointSlice) {
	s := corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{port("", "TCP", 80, 5678)}}}
	s.Namespace, s.Name, s.Labels = namespace, fmt.Sprintf("labelled-%d", i), l.service
	var out []discoveryv1.EndpointSlice
	for n, pod := range []string{"local-0", "remote-0"} {
		slice := endpointSlice(&s, n, corev1.IPv4Protocol, conditions{pod: ready})
		maps.Copy(slice.Labels, []map[string]string{l.first, l.second}[n])
		out = append(out, slice)
	}
	return s, out
}

// Which Services and which of their slices are a proxy's business is said by labels.
func TestLabels(t *testing.T) {
	require(t)
	c := kubetest.Start(t)
	var given objects
	for i, l := range withLabels {
		s, its := l.objects(i)
		given.services, given.slices = append(given.services, s), append(given.slices, its...)
	}
	given.create(t, c, 1)
	given = list(t, c)
	nodes, manifests := map[string]*node{"kube-proxy": newNode(t)}, given.manifests(t)
	c.StartProxy(nodes["kube-proxy"].Node, "iptables", patience)
	for _, backend := range modes {
		nodes[backend] = newNode(t)
		nodes[backend].startOurs(backend, manifests)
	}
	for i, l := range withLabels {
		for name, n := range nodes {
			want := l.answering
			if name != "kube-proxy" && l.left {
				want = nil
			}
			if got := n.answering(given.clusterIP(t, fmt.Sprintf("labelled-%d", i))); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s: of %+v %v answer, want %v", name, l, got, want)
			}
		}
	}
}

func (o *objects) clusterIP(t *testing.T, service string) netip.AddrPort {
	t.Helper()
	for _, s := range o.services {
		if s.Name == service {
			return netip.AddrPortFrom(netip.MustParseAddr(s.Spec.ClusterIP), 80)
		}
	}
	t.Fatalf("there is no Service %s", service)
	return netip.AddrPort{}
}

// answering returns the pods that answer at an address, sorted.
func (n *node) answering(at netip.AddrPort) []string {
	seen := make(map[string]bool)
	from := &client{Host: n.client, patience: answerTime}
	for range 2 * tries {
		reply, err := from.ask(n.t.Context(), flow{network: "tcp", to: at})
		if err != nil {
			break
		}
		seen[reply.Host] = true
	}
	return slices.Sorted(maps.Keys(seen))
}
