package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/miekg/dns"
)

const slicedService = `apiVersion: v1
kind: Service
metadata: {name: echo, namespace: testing, labels: {app: echo}}
spec:
  clusterIP: 10.43.0.7
  ports: [{port: 8080, targetPort: 5678}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: echo-1, namespace: testing, labels: {kubernetes.io/service-name: echo}}
addressType: IPv4
ports: [{port: 5678}]
endpoints: [{addresses: [10.42.0.10], nodeName: node-1}]
`

// What labels have a proxy leave alone, as Kubernetes' own tests ask for it: they take
// effect when they come and when they go, and DNS answers all the same.
func TestLabelsForProxies(t *testing.T) {
	n := newNode(t, "iptables")
	client := n.pod("client", "10.42.0.2")
	n.remove("client.yaml")
	n.pod("echo-0", "10.42.0.10")
	n.remove("echo-0.yaml")
	n.write("echo.yaml", slicedService)
	n.start()
	ofService := func(label string) string {
		return strings.Replace(slicedService, "labels: {app: echo", "labels: {app: echo, "+label, 1)
	}
	ofSlice := func(label string) string {
		return strings.Replace(slicedService, "service-name: echo", "service-name: echo, "+label, 1)
	}
	eventually(t, "an answer", reaches(client, "tcp", echoIPv4))
	for _, c := range []struct{ name, text string }{
		{"another proxy's Service", ofService("service.kubernetes.io/service-proxy-name: other")},
		{"a Service of a proxy without a name", ofService(`service.kubernetes.io/service-proxy-name: ""`)},
		{"a Service with the label of headless ones", ofService(`service.kubernetes.io/headless: ""`)},
		{"the same, whatever the value", ofService(`service.kubernetes.io/headless: "false"`)},
		{"a slice with the label of headless Services'", ofSlice(`service.kubernetes.io/headless: ""`)},
	} {
		t.Log(c.name)
		n.write("echo.yaml", c.text)
		eventually(t, c.name, leadsNowhere(client, echoIPv4))
		if m, err := lookup(client, "echo.testing.svc.cluster.local.", dns.TypeA); err != nil || len(m.Answer) != 1 {
			t.Errorf("%s: the name is %v, %v", c.name, m, err)
		}
		n.write("echo.yaml", slicedService)
		eventually(t, c.name+", no longer so", reaches(client, "tcp", echoIPv4))
	}
}

// leadsNowhere is the opposite of reaches.
func leadsNowhere(from *netlab.Host, to netip.AddrPort) func() error {
	return func() error {
		if reply, err := ask(from, "tcp", to); err == nil {
			return fmt.Errorf("%s answers", reply.Host)
		}
		return nil
	}
}
