package kubernetes

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// key names an object. The namespace is "" where a kind has none.
type key struct{ Namespace, Name string }

// String returns "namespace/name", or the name alone.
func (k key) String() string { return strings.TrimPrefix(k.Namespace+"/"+k.Name, "/") }

// Compare orders by namespace, then by name.
func (k key) Compare(o key) int {
	return cmp.Or(cmp.Compare(k.Namespace, o.Namespace), cmp.Compare(k.Name, o.Name))
}

// object is what became of an object of the API server. A nil model means that
// there is nothing of it to use; err says what is wrong with it, if anything.
type object[M any] struct {
	key     key
	version string // its resourceVersion: the same version is the same object
	model   *M
	err     error
}

// GetObjectKind implements runtime.Object.
func (object[M]) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject implements runtime.Object. Objects are immutable.
func (o object[M]) DeepCopyObject() runtime.Object { return o }

// table holds the objects of one kind. It is for one goroutine.
type table[M any] struct {
	kind string // such as "Service"
	rows map[key]row[M]
	// dirty are those whose models may be others than when they were taken.
	dirty map[key]struct{}
	// changed is told of every model that was replaced, nil standing for none, and
	// reports whether that makes a difference; nil: always.
	changed func(old, now *M) bool
	// judged is told what is wrong with an object, and with nil that nothing is
	// any more.
	judged func(place string, err error)
}

func newTable[M any](kind string, judged func(place string, err error), changed func(old, now *M) bool) table[M] {
	return table[M]{kind: kind, rows: make(map[key]row[M]), dirty: make(map[key]struct{}), changed: changed, judged: judged}
}

type row[M any] struct {
	version string
	model   *M
	faulty  bool
}

// set takes an object over, unless it is there in the same version: a new list after an
// outage costs what differs. One that is too faulty for a model keeps the last it had.
func (t *table[M]) set(o object[M]) {
	old, known := t.rows[o.key]
	if known && old.version == o.version {
		return
	}
	if o.err != nil || old.faulty {
		t.judge(o.key, o.err)
	}
	if o.model == nil && o.err != nil {
		o.model = old.model
	}
	t.rows[o.key] = row[M]{o.version, o.model, o.err != nil}
	t.change(o.key, old.model, o.model)
}

func (t *table[M]) remove(k key) {
	old, known := t.rows[k]
	if !known {
		return
	}
	delete(t.rows, k)
	if old.faulty {
		t.judge(k, nil)
	}
	t.change(k, old.model, nil)
}

func (t *table[M]) judge(k key, err error) { t.judged(t.kind+" "+k.String(), err) }

func (t *table[M]) change(k key, old, now *M) {
	if old != now && (t.changed == nil || t.changed(old, now)) {
		t.dirty[k] = struct{}{}
	}
}

// replace makes the objects the only ones there are.
func (t *table[M]) replace(objects []object[M]) {
	present := make(map[key]struct{}, len(objects))
	for _, o := range objects {
		present[o.key] = struct{}{}
		t.set(o)
	}
	for k := range t.rows {
		if _, ok := present[k]; !ok {
			t.remove(k)
		}
	}
}

// takeDirty returns the dirty ones, by name, which are so no more.
func (t *table[M]) takeDirty() []key {
	if len(t.dirty) == 0 {
		return nil
	}
	all := slices.AppendSeq(make([]key, 0, len(t.dirty)), maps.Keys(t.dirty))
	slices.SortFunc(all, key.Compare)
	t.dirty = make(map[key]struct{})
	return all
}
