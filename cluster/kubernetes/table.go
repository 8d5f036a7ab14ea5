package kubernetes

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// object is what became of an object of the API server. A nil model means that
// there is nothing of it to use; err says what is wrong with it, if anything.
type object[K comparable, M any] struct {
	key     K
	version string // its resourceVersion: the same version is the same object
	model   *M
	err     error
}

// GetObjectKind implements runtime.Object.
func (object[K, M]) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject implements runtime.Object. Objects are immutable.
func (o object[K, M]) DeepCopyObject() runtime.Object { return o }

// table holds the objects of one kind. It is for one goroutine.
type table[K comparable, M any] struct {
	rows map[K]row[M]
	// changed is told of every model that was replaced; nil stands for none.
	changed func(key K, old, now *M)
	// judged is told what is wrong with an object, and with nil that nothing is
	// any more.
	judged func(key K, err error)
}

type row[M any] struct {
	version string
	model   *M
	faulty  bool
}

// set takes an object over, unless it is there in the same version: a new list after an
// outage costs what differs. One that is too faulty for a model keeps the last it had.
func (t *table[K, M]) set(o object[K, M]) {
	old, known := t.rows[o.key]
	if known && old.version == o.version {
		return
	}
	if o.err != nil || old.faulty {
		t.judged(o.key, o.err)
	}
	if o.model == nil && o.err != nil {
		o.model = old.model
	}
	t.rows[o.key] = row[M]{o.version, o.model, o.err != nil}
	if o.model != old.model {
		t.changed(o.key, old.model, o.model)
	}
}

func (t *table[K, M]) remove(key K) {
	old, known := t.rows[key]
	if !known {
		return
	}
	delete(t.rows, key)
	if old.faulty {
		t.judged(key, nil)
	}
	if old.model != nil {
		t.changed(key, old.model, nil)
	}
}

// replace makes the objects the only ones there are.
func (t *table[K, M]) replace(objects []object[K, M]) {
	present := make(map[K]struct{}, len(objects))
	for _, o := range objects {
		present[o.key] = struct{}{}
		t.set(o)
	}
	for key := range t.rows {
		if _, ok := present[key]; !ok {
			t.remove(key)
		}
	}
}
