package feed

import (
	"net/netip"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

func TestCounted(t *testing.T) {
	feeds, join := newFeeds(t, new(recorder))
	store := join(new(Server), Needs{}).Store()
	registry := prometheus.NewRegistry()
	registry.MustRegister(feeds)
	name := cluster.ServiceName{Namespace: "default", Name: "web"}
	endpoints := func(n int) *cluster.Service {
		all := make([]cluster.Endpoint, n)
		for i := range all {
			all[i].Addr = netip.AddrFrom4([4]byte{10, 42, 0, byte(i)})
		}
		return cluster.New(cluster.Service{Name: name}, all)
	}
	for _, step := range []struct {
		update                               cluster.Update
		services, imports, endpoints, others float64
	}{
		{cluster.Update{Services: []cluster.ServiceUpdate{{Name: name, Service: endpoints(3)}}}, 1, 0, 3, 0},
		{cluster.Update{Services: []cluster.ServiceUpdate{{Name: name, Service: endpoints(2)}}}, 1, 0, 2, 0},
		{cluster.Update{Imports: []cluster.ServiceUpdate{{Name: name, Service: endpoints(4)}}}, 1, 1, 6, 0},
		{cluster.Update{
			Namespaces: []cluster.NamespaceUpdate{{Name: "default", Exists: true}},
			Pods:       []cluster.PodUpdate{{Name: cluster.PodName{Name: "p"}, Pod: &cluster.Pod{}}},
		}, 1, 1, 6, 1},
		{cluster.Update{
			Services:   []cluster.ServiceUpdate{{Name: name}},
			Imports:    []cluster.ServiceUpdate{{Name: name}},
			Namespaces: []cluster.NamespaceUpdate{{Name: "default"}},
			Pods:       []cluster.PodUpdate{{Name: cluster.PodName{Name: "p"}}},
		}, 0, 0, 0, 0},
	} {
		store.Apply(step.update)
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := make(map[string]float64)
		for _, m := range families[0].Metric {
			got[m.Label[0].GetValue()] = m.GetGauge().GetValue()
		}
		for kind, want := range map[string]float64{
			"services": step.services, "imports": step.imports, "endpoints": step.endpoints, "namespaces": step.others, "pods": step.others,
		} {
			if got[kind] != want {
				t.Errorf("%v %s are counted, want %v", got[kind], kind, want)
			}
		}
	}
}

func value(t *testing.T, gauge prometheus.Metric) float64 {
	t.Helper()
	var m dto.Metric
	if err := gauge.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetGauge().GetValue()
}
