package cluster

// Counts says how much a Store has. An endpoint of several Services counts for each.
type Counts struct{ Services, Imports, Endpoints, Namespaces, Pods int }

// Counts counts what is there now.
func (s *Store) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := Counts{Services: len(s.services), Imports: len(s.imports), Namespaces: len(s.namespaces), Pods: len(s.pods)}
	for _, all := range []map[ServiceName]*Service{s.services, s.imports} {
		for _, service := range all {
			c.Endpoints += len(service.Endpoints)
		}
	}
	return c
}
