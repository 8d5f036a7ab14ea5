package cluster

import (
	"slices"
	"testing"
)

func TestStoreRead(t *testing.T) {
	s := NewStore()
	web, db := ServiceName{"shop", "web"}, ServiceName{"shop", "db"}
	s.Apply(Update{
		Services:   []ServiceUpdate{{Name: web, Service: New(Service{Name: web})}, {Name: db, Service: New(Service{Name: db})}},
		Pods:       []PodUpdate{{Name: PodName{"shop", "web-1"}, Pod: &Pod{Name: PodName{"shop", "web-1"}}}},
		Namespaces: []NamespaceUpdate{{"shop", true}, {"default", true}},
	})
	if got := s.Service(web); got == nil || got.Name != web {
		t.Errorf("Service: %v", got)
	}
	if got := s.Service(ServiceName{"shop", "nothing"}); got != nil {
		t.Errorf("a Service that is not there: %v", got)
	}
	if got := s.Pod(PodName{"shop", "web-1"}); got == nil {
		t.Error("no Pod")
	}
	if got := s.Namespaces(); !slices.Equal(got, []string{"default", "shop"}) {
		t.Errorf("namespaces %q", got)
	}
	all := s.Services()
	slices.SortFunc(all, func(a, b *Service) int { return a.Name.Compare(b.Name) })
	if len(all) != 2 || all[0].Name != db || all[1].Name != web {
		t.Errorf("Services: %v", all)
	}
}
