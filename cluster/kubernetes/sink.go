package kubernetes

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/cache"
)

// sink takes the objects of one kind from client-go's reflector. What comes is
// converted at once, also while a list is still streaming in, so that the
// Kubernetes objects never pile up.
type sink[K comparable, M any] struct {
	*kind[K, M]
	queue      *queue
	sign       func()
	namespaces interner[string, string]
}

var (
	_ cache.TransformingStore      = (*sink[string, namespace])(nil)
	_ cache.ReflectorBookmarkStore = (*sink[string, namespace])(nil)
)

func (f followed[K, M]) sink() *sink[K, M] {
	return &sink[K, M]{f.kind, f.queue, f.well, make(interner[string, string])}
}

// Transformer implements cache.TransformingStore.
func (s *sink[K, M]) Transformer() cache.TransformFunc {
	return func(given any) (any, error) {
		s.sign()
		return s.object(given)
	}
}

// object converts an object, unless it is converted already.
func (s *sink[K, M]) object(given any) (object[K, M], error) {
	if o, ok := given.(object[K, M]); ok {
		return o, nil
	}
	about, err := meta.Accessor(given)
	if err != nil {
		return object[K, M]{}, fmt.Errorf("an object of %s: %w", s.resource, err)
	}
	about.SetNamespace(s.namespaces.intern(about.GetNamespace(), about.GetNamespace()))
	o := object[K, M]{key: s.key(about.GetNamespace(), about.GetName()), version: about.GetResourceVersion()}
	o.model, o.err = s.read(given)
	return o, nil
}

// Add implements cache.ReflectorStore.
func (s *sink[K, M]) Add(given any) error {
	s.sign()
	o, err := s.object(given)
	if err != nil {
		return err
	}
	s.queue.push(change{apply: func(j *joiner) { s.table(j).set(o) }})
	return nil
}

// Update implements cache.ReflectorStore.
func (s *sink[K, M]) Update(given any) error { return s.Add(given) }

// Delete implements cache.ReflectorStore.
func (s *sink[K, M]) Delete(given any) error {
	s.sign()
	about, err := meta.Accessor(given)
	if err != nil {
		return fmt.Errorf("a deleted object of %s: %w", s.resource, err)
	}
	key := s.key(about.GetNamespace(), about.GetName())
	s.queue.push(change{apply: func(j *joiner) { s.table(j).remove(key) }})
	return nil
}

// Replace implements cache.ReflectorStore.
func (s *sink[K, M]) Replace(given []any, _ string) error {
	s.sign()
	all := make([]object[K, M], len(given))
	for i := range given {
		var err error
		if all[i], err = s.object(given[i]); err != nil {
			return err
		}
		given[i] = nil // a long list becomes garbage while it is converted
	}
	s.queue.push(change{apply: func(j *joiner) { s.table(j).replace(all) }, listed: s.place()})
	return nil
}

// Bookmark implements cache.ReflectorBookmarkStore.
func (s *sink[K, M]) Bookmark(string) error {
	s.sign()
	return nil
}

// Resync implements cache.ReflectorStore. There is nothing to do again.
func (s *sink[K, M]) Resync() error { return nil }
