package cluster

import (
	"maps"
	"slices"
)

// Services returns all Services as they are now, in no order. It copies as many pointers,
// and the Store takes no Update meanwhile: 100,000 take 2 ms.
func (s *Store) Services() []*Service {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.AppendSeq(make([]*Service, 0, len(s.services)), maps.Values(s.services))
}

// Service returns one as it is now, nil if it is not there.
func (s *Store) Service(name ServiceName) *Service {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.services[name]
}

// Pod returns one as it is now, nil if it is not there or the source does not follow Pods.
func (s *Store) Pod(name PodName) *Pod {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pods[name]
}

// Namespaces returns the names of those that there are, sorted.
func (s *Store) Namespaces() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.namespaces))
}
