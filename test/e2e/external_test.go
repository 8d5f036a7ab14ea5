package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/netlab"
)

const loadBalancerService = `apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: testing
  creationTimestamp: "2026-01-01T00:00:00Z"
spec:
  type: LoadBalancer
  selector: {app: echo}
  externalTrafficPolicy: Local
  healthCheckNodePort: 32000
  sessionAffinity: ClientIP
  externalIPs: [198.51.100.1]
  ports: [{port: 80, targetPort: 5678, nodePort: 30080}]
status:
  loadBalancer: {ingress: [{ip: 203.0.113.7}]}
`

// A Service for clients outside, from its manifest to their packets: on every
// frontend, with their own address and always to the same pod, and with health
// checks that tell load balancers where its endpoints are.
func TestLoadBalancerFromManifest(t *testing.T) { eachBackend(t, loadBalancerFromManifest) }

func loadBalancerFromManifest(t *testing.T, backend string) {
	n := newNode(t, backend)
	for i := range 3 {
		n.pod(fmt.Sprint("echo-", i), fmt.Sprint("10.42.0.1", i))
	}
	n.write("service.yaml", loadBalancerService)
	p := n.start()
	nodeIP := netlab.NodeIPv4.Addr()
	frontends := []netip.AddrPort{
		netip.AddrPortFrom(nodeIP, 30080), netip.MustParseAddrPort("198.51.100.1:80"), netip.MustParseAddrPort("203.0.113.7:80"),
	}
	eventually(t, "an answer", reaches(n.Outside, "tcp", frontends[0]))
	pods := make(map[string]bool)
	for _, to := range frontends {
		for range 5 {
			reply, err := ask(n.Outside, "tcp", to)
			if err != nil {
				t.Fatalf("%s: %v", to, err)
			}
			pods[reply.Host] = true
			if seen := reply.Client.Addr(); seen != n.Outside.Addr(cluster.IPv4) {
				t.Errorf("%s: the pod saw the client as %s", to, seen)
			}
		}
	}
	if len(pods) != 1 {
		t.Errorf("one client was sent to %v", pods)
	}
	healthCheck := netip.AddrPortFrom(nodeIP, 32000)
	healthy := netip.AddrPortFrom(nodeIP, 10256)
	eventually(t, "health checks", answers(n.Outside, healthCheck, "/", `200 {"service":{"namespace":"testing","name":"web"},"localEndpoints":3,"serviceProxyHealthy":true}`))
	eventually(t, "/healthz", answers(n.Outside, healthy, "/healthz", `200 {`, `"nodeEligible":true`, `"IPv6":{`))
	eventually(t, "/livez", answers(n.Outside, healthy, "/livez", `200 {`))

	n.write("copy.yaml", strings.NewReplacer("name: web", "name: thief", "2026-01-01", "2026-02-01").Replace(loadBalancerService))
	eventually(t, "the conflict in the log", func() error {
		for _, f := range []string{"203.0.113.7:80/TCP", "198.51.100.1:80/TCP", "NodePort 30080/TCP"} {
			if want := "Service testing/thief: " + f + " belongs to Service testing/web, which is older or had it first"; !strings.Contains(p.Log(), want) {
				return fmt.Errorf("no %q", want)
			}
		}
		return nil
	})
	n.remove("copy.yaml")
	for i := range 3 {
		n.remove(fmt.Sprintf("echo-%d.yaml", i))
	}
	eventually(t, "health checks without endpoints", answers(n.Outside, healthCheck, "/", `503 {`, `"localEndpoints":0`))
	n.write("node.yaml", "apiVersion: v1\nkind: Node\nmetadata: {name: node-1}\nspec: {taints: [{key: ToBeDeletedByClusterAutoscaler, effect: NoSchedule}]}\n")
	eventually(t, "a node that leaves", answers(n.Outside, healthy, "/healthz", `503 {`, `"nodeEligible":false`))
	eventually(t, "a program that lives", answers(n.Outside, healthy, "/livez", `200 {`))
}

// What every host of the node's network gets is not taken from the node by a Service.
func TestBroadcastsReachTheNode(t *testing.T) { eachBackend(t, broadcastsReachTheNode) }

func broadcastsReachTheNode(t *testing.T, backend string) {
	n := newNode(t, backend)
	broadcast := netip.AddrPortFrom(netip.MustParseAddr("192.0.2.255"), 9999)
	n.pod("echo-0", "10.42.0.10")
	n.write("service.yaml", `apiVersion: v1
kind: Service
metadata: {name: thief, namespace: testing}
spec:
  selector: {app: echo}
  clusterIP: 10.43.0.9
  externalIPs: [192.0.2.255, 198.51.100.1]
  ports: [{port: 9999, targetPort: 5678, protocol: UDP}]
`)
	heard, err := n.ListenPacket("udp4", netip.AddrPortFrom(netip.IPv4Unspecified(), broadcast.Port()))
	if err != nil {
		t.Fatal(err)
	}
	defer heard.Close()
	p := n.start()
	eventually(t, "the other address", reaches(n.Outside, "udp", netip.MustParseAddrPort("198.51.100.1:9999")))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := n.Outside.Dial(ctx, "udp", broadcast)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprint(conn, "everybody"); err != nil {
		t.Fatal(err)
	}
	heard.SetReadDeadline(time.Now().Add(patience))
	got := make([]byte, 100)
	if length, _, err := heard.ReadFrom(got); err != nil || string(got[:length]) != "everybody" {
		t.Errorf("the node hears %q, %v", got[:length], err)
	}
	eventually(t, "the refusal in the log", p.Says("Service testing/thief: 192.0.2.255:9999/UDP is the broadcast address of a network of this node"))
}

const dualStackLoadBalancer = `apiVersion: v1
kind: Service
metadata: {name: web, namespace: testing}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  healthCheckNodePort: 32000
  ipFamilyPolicy: RequireDualStack
  clusterIPs: [10.43.0.9, "fd00:10:43::9"]
  ports: [{port: 80, targetPort: 5678}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-4, namespace: testing, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 5678}]
endpoints: [{addresses: [10.42.0.10], nodeName: NODE-OF-4}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-6, namespace: testing, labels: {kubernetes.io/service-name: web}}
addressType: IPv6
ports: [{port: 5678}]
endpoints: [{addresses: ["fd00:10:42::10"], nodeName: NODE-OF-6}]
`

// A load balancer sends the packets of each family where the endpoints of that family
// are, so the node's addresses answer for their own.
func TestHealthChecksByFamily(t *testing.T) {
	n := newNode(t, "iptables")
	web := func(of4, of6 string) {
		n.write("web.yaml", strings.NewReplacer("NODE-OF-4", of4, "NODE-OF-6", of6).Replace(dualStackLoadBalancer))
	}
	v4, v6 := netip.AddrPortFrom(netlab.NodeIPv4.Addr(), 32000), netip.AddrPortFrom(netlab.NodeIPv6.Addr(), 32000)
	here, gone := `"localEndpoints":1`, `"localEndpoints":0`
	web("node-1", "node-1")
	n.start()
	eventually(t, "IPv4", answers(n.Outside, v4, "/", "200 {", here))
	eventually(t, "IPv6", answers(n.Outside, v6, "/", "200 {", here))
	web("node-2", "node-1")
	eventually(t, "IPv4 without endpoints here", answers(n.Outside, v4, "/", "503 {", gone))
	eventually(t, "IPv6 with one", answers(n.Outside, v6, "/", "200 {", here))
	web("node-1", "node-2")
	eventually(t, "IPv6 without endpoints here", answers(n.Outside, v6, "/", "503 {", gone))
	eventually(t, "IPv4 with one", answers(n.Outside, v4, "/", "200 {", here))
}

// answers asks over HTTP from a host.
func answers(from *netlab.Host, to netip.AddrPort, path string, want ...string) func() error {
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return from.Dial(ctx, "tcp", to)
		}}}
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+to.String()+path, nil)
		if err != nil {
			return err
		}
		reply, err := client.Do(r)
		if err != nil {
			return err
		}
		defer reply.Body.Close()
		body, err := io.ReadAll(reply.Body)
		got := fmt.Sprintf("%d %s", reply.StatusCode, body)
		for _, text := range want {
			if err == nil && !strings.Contains(got, text) {
				err = fmt.Errorf("%s%s: %s, want %s", to, path, got, text)
			}
		}
		return err
	}
}
