package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/test/kubetest"
)

// twoZones has the node of the test in one zone, and another in another.
const twoZones = `apiVersion: v1
kind: NodeList
items:
- metadata: {name: node-1, labels: {topology.kubernetes.io/zone: near}}
  status: {allocatable: {cpu: "4"}, conditions: [{type: Ready, status: "True"}]}
- metadata: {name: node-2, labels: {topology.kubernetes.io/zone: far}}
  status: {allocatable: {cpu: "4"}, conditions: [{type: Ready, status: "True"}]}
`

// A Service that asks for it has its connections go to the pod that is near, in the zone or
// on the node, as long as there is one.
func TestConnectionsStayNear(t *testing.T) { kubetest.EachBackend(t, connectionsStayNear) }

func connectionsStayNear(t *testing.T, backend string) {
	n := newNode(t, backend)
	client := n.pod("client", "10.42.0.2")
	n.remove("client.yaml")
	n.pod("near", "10.42.0.10")
	n.pod("far", "10.42.0.11")
	elsewhere := strings.Replace(podManifest("far", "10.42.0.11"), "node-1", "node-2", 1)
	n.write("far.yaml", elsewhere)
	n.write("nodes.yaml", twoZones)
	service := strings.NewReplacer("  ipFamilyPolicy: RequireDualStack\n", "", `, "fd00:10:43::7"`, "").Replace(echoService)
	n.write("service.yaml", service)
	n.start()

	answer := func(want ...string) func() error {
		return func() error {
			count := map[string]int{}
			for range 40 { // one of two is missed by chance once in 2^39
				reply, err := ask(client, "tcp", echoIPv4)
				if err != nil {
					return err
				}
				count[reply.Host]++
			}
			if len(count) != len(want) || count[want[0]] == 0 {
				return fmt.Errorf("%v answer, and not %v", count, want)
			}
			return nil
		}
	}
	eventually(t, "answers of both", answer("near", "far"))
	for _, ask := range []struct{ name, text string }{
		{"PreferSameZone", strings.Replace(service, "spec:\n", "spec:\n  trafficDistribution: PreferSameZone\n", 1)},
		{"PreferSameNode", strings.Replace(service, "spec:\n", "spec:\n  trafficDistribution: PreferSameNode\n", 1)},
		{"topology-mode Auto", strings.Replace(service, "metadata:\n", "metadata:\n  annotations: {service.kubernetes.io/topology-mode: Auto}\n", 1)},
	} {
		n.write("service.yaml", ask.text)
		eventually(t, ask.name+": answers of the near pod alone", answer("near"))
		n.write("near.yaml", strings.Replace(podManifest("near", "10.42.0.10"), `"True"`, `"False"`, 1))
		eventually(t, ask.name+": answers of the far pod, when the near one is not ready", answer("far"))
		n.write("near.yaml", podManifest("near", "10.42.0.10"))
		eventually(t, ask.name+": answers of the near pod again", answer("near"))
		n.write("service.yaml", service)
		eventually(t, ask.name+" taken off: answers of both", answer("near", "far"))
	}
	// The Node alone changes.
	n.write("service.yaml", strings.Replace(service, "spec:\n", "spec:\n  trafficDistribution: PreferSameZone\n", 1))
	eventually(t, "answers of the near pod", answer("near"))
	n.write("nodes.yaml", strings.Replace(twoZones, "zone: far", "zone: near", 1))
	eventually(t, "answers of both, in one zone", answer("near", "far"))
}
