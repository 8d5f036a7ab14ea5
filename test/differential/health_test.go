package differential

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"testing"

	"github.com/clusterip/clusterip/test/kubetest"
	"github.com/google/go-cmp/cmp"
)

// health is what a load balancer is told of a node.
type health struct {
	Status   string
	Weight   string
	Document any
}

// sameHealthChecks fails the test unless load balancers are told the same by both.
func sameHealthChecks(t *testing.T, given *objects, theirs, ours *node) {
	t.Helper()
	met := make(map[string]int)
	for _, s := range given.services {
		port := s.Spec.HealthCheckNodePort
		if port == 0 {
			continue
		}
		at := netip.AddrPortFrom(nodeAddr(s.Spec.IPFamilies[0]), uint16(port))
		want, got := healthOf(t, theirs, at), healthOf(t, ours, at)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("health of Service %s/%s: kube-proxy (-), ours (+):\n%s", s.Namespace, s.Name, diff)
		}
		met[want.Status]++
	}
	t.Logf("health checks: %v", met)
	if len(met) < 2 {
		t.Errorf("not both healthy and unhealthy Services: %v", met)
	}
}

func healthOf(t *testing.T, n *node, at netip.AddrPort) health {
	t.Helper()
	response, err := kubetest.Request(n.Outside, at, "/")
	n.must(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	n.must(err)
	h := health{Status: response.Status, Weight: response.Header.Get("X-Load-Balancing-Endpoint-Weight")}
	if err := json.Unmarshal(body, &h.Document); err != nil {
		n.must(fmt.Errorf("health check of %s says %q: %w", at, body, err))
	}
	return h
}
