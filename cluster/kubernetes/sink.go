package kubernetes

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

// A kind that is followed takes its objects from client-go's reflector. What comes is
// converted at once, also while a list is still streaming in, so that the
// Kubernetes objects never pile up.
var (
	_ cache.TransformingStore      = (*followed[namespace])(nil)
	_ cache.ReflectorBookmarkStore = (*followed[namespace])(nil)
)

// Transformer implements cache.TransformingStore.
func (f *followed[M]) Transformer() cache.TransformFunc {
	return func(given any) (any, error) {
		f.well()
		return f.object(given)
	}
}

// object converts an object, unless it is converted already.
func (f *followed[M]) object(given any) (object[M], error) {
	if o, ok := given.(object[M]); ok {
		return o, nil
	}
	about, err := meta.Accessor(given)
	if err != nil {
		return object[M]{}, fmt.Errorf("an object of %s: %w", f.resource, err)
	}
	about.SetNamespace(f.namespaces.intern(about.GetNamespace(), about.GetNamespace()))
	o := object[M]{key: keyOf(about), version: about.GetResourceVersion()}
	o.model, o.err = f.read(given)
	return o, nil
}

// Add implements cache.ReflectorStore.
func (f *followed[M]) Add(given any) error {
	f.well()
	o, err := f.object(given)
	if err != nil {
		return err
	}
	f.source.queue.push(change{apply: func(j *joiner) { f.table(j).set(o) }})
	return nil
}

// Update implements cache.ReflectorStore.
func (f *followed[M]) Update(given any) error { return f.Add(given) }

// Delete implements cache.ReflectorStore.
func (f *followed[M]) Delete(given any) error {
	f.well()
	about, err := meta.Accessor(given)
	if err != nil {
		return fmt.Errorf("a deleted object of %s: %w", f.resource, err)
	}
	gone := keyOf(about)
	f.source.queue.push(change{apply: func(j *joiner) { f.table(j).remove(gone) }})
	return nil
}

func keyOf(o metav1.Object) key { return key{o.GetNamespace(), o.GetName()} }

// Replace implements cache.ReflectorStore.
func (f *followed[M]) Replace(given []any, _ string) error {
	f.well()
	all := make([]object[M], len(given))
	for i := range given {
		var err error
		if all[i], err = f.object(given[i]); err != nil {
			return err
		}
		given[i] = nil // a long list becomes garbage while it is converted
	}
	f.source.queue.push(change{apply: func(j *joiner) { f.table(j).replace(all) }, listed: f.place()})
	return nil
}

// Bookmark implements cache.ReflectorBookmarkStore.
func (f *followed[M]) Bookmark(string) error {
	f.well()
	return nil
}

// Resync implements cache.ReflectorStore. There is nothing to do again.
func (f *followed[M]) Resync() error { return nil }
