package kubernetes

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// ServiceCIDRs that cannot be seen any more do not count, and are asked for until they
// can: nobody would tell if one went. A server that never had any is left alone.
func TestServiceCIDRsOutOfSight(t *testing.T) {
	resource := networkingv1.Resource("servicecidrs")
	for name, failure := range map[string]error{
		"forbidden": apierrors.NewForbidden(resource, "", errors.New("RBAC")),
		"missing":   apierrors.NewNotFound(resource, ""),
	} {
		t.Run(name, func(t *testing.T) {
			s, err := New(Options{Endpoint: "http://192.0.2.1", Node: "node-1"}, func(string, error) {})
			if err != nil {
				t.Fatal(err)
			}
			f := s.natFollowers()[1].(*followed[[]netip.Prefix])
			j := newJoiner(cluster.Update{}, false, func(string, error) {})
			given := 0
			f.giveUp = func() { given++ }
			take := func() cluster.Update {
				for _, c := range s.queue.take() {
					c.apply(j)
				}
				return j.take()
			}

			f.judge(context.Background(), "list", failure)
			if take(); given != 1 {
				t.Error("what was never there is asked for again and again")
			}
			f.judge(context.Background(), "list", nil)
			ranges := []netip.Prefix{netip.MustParsePrefix("10.43.0.0/16")}
			f.table(j).set(object[[]netip.Prefix]{key: key{Name: "kubernetes"}, version: "1", model: &ranges})
			if u := take(); len(u.ServiceCIDRs) != 1 {
				t.Fatalf("ranges %v", u.ServiceCIDRs)
			}
			f.judge(context.Background(), "watch", failure)
			if u := take(); u.ServiceCIDRs == nil || len(u.ServiceCIDRs) != 0 || given != 1 {
				t.Errorf("ranges %v, given up %d times", u.ServiceCIDRs, given)
			}
		})
	}
}
