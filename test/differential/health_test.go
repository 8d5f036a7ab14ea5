package differential

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"syscall"
	"testing"

	"github.com/clusterip/clusterip/test/kubetest"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
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
		for _, family := range []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol} {
			at := netip.AddrPortFrom(nodeAddr(family), uint16(port))
			want, got := healthOf(t, theirs, at), healthOf(t, ours, at)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("health of Service %s/%s at %s: kube-proxy (-), ours (+):\n%s", s.Namespace, s.Name, at, diff)
			}
			met[want.Status]++
		}
	}
	t.Logf("health checks: %v", met)
	if len(met) < 3 {
		t.Errorf("not healthy and unhealthy Services, and such without an address of the family: %v", met)
	}
}

func healthOf(t *testing.T, n *node, at netip.AddrPort) health {
	t.Helper()
	response, err := kubetest.Request(n.Outside, at, "/")
	if errors.Is(err, syscall.ECONNREFUSED) {
		return health{Status: "refused"}
	}
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
