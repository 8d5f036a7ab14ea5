package conformance

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/test/kubetest"
)

// A pod of a StatefulSet behind its headless Service, with a Service of its own.
const statefulPod = `
apiVersion: v1
kind: Service
metadata: {name: store, namespace: shop}
spec: {clusterIP: None, selector: {app: store}, ports: [{name: p, port: 1094}]}
---
apiVersion: v1
kind: Service
metadata: {name: store-0, namespace: shop}
spec: {selector: {pod: store-0}, ports: [{name: p, port: 1094}]}
---
apiVersion: v1
kind: Pod
metadata: {name: store-0, namespace: shop, labels: {app: store, pod: store-0}}
spec: {hostname: store-0, subdomain: store}
status: {podIPs: [{ip: 10.42.0.7}], conditions: [{type: Ready, status: "True"}]}
`

// The first PTR record of a pod's address leads to the name that the pod goes by, which
// leads back; and with "ptr first" there is no other, in transfers either.
func TestPointersOfAStatefulSet(t *testing.T) {
	const (
		good  = "7.0.42.10.in-addr.arpa. 5 IN PTR store-0.store.shop.svc.cluster.local."
		other = "7.0.42.10.in-addr.arpa. 5 IN PTR 10-42-0-7.store-0.shop.svc.cluster.local."
	)
	for option, want := range map[string][]string{"all": {good, other}, "first": {good}} {
		t.Run(option, func(t *testing.T) {
			s := startServer(t, kubetest.FreePort(t), `cluster.local in-addr.arpa {
    bind 127.0.0.1
    transfer {
        to *
    }
    clusterip {
        manifests manifests
        ptr `+option+`
    }
}`)
			s.put(t, "all.yaml", statefulPod)
			s.eventually(t, "-x 10.42.0.7", good)
			out, err := exec.Command("dig", "@127.0.0.1", "-p", s.port, "+noall", "+answer", "-x", "10.42.0.7").Output()
			if err != nil {
				t.Fatal(err)
			}
			if got := recordsOf(string(out)); !slices.Equal(got, want) {
				t.Errorf("the answer has %q, want %q", got, want)
			}
			var carried []string
			for _, record := range s.zone(t, "in-addr.arpa") {
				if strings.HasPrefix(record, "7.0.42.10.") {
					carried = append(carried, record)
				}
			}
			slices.Sort(carried)
			if got, want := carried, slices.Sorted(slices.Values(want)); !slices.Equal(got, want) {
				t.Errorf("the transfer has %q, want %q", got, want)
			}
		})
	}
}
