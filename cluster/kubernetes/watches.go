package kubernetes

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Watch is how the watch of one kind is doing.
type Watch struct {
	Kind string // such as "services" or "endpointslices.discovery.k8s.io"
	// LastSign is when the API server last said something, be it that nothing
	// has changed (a bookmark). Zero: never.
	LastSign time.Time
	// BrokenSince is when the first request failed of those that have failed since
	// LastSign. Zero: none has.
	BrokenSince time.Time
}

// watches knows how all of them are doing.
type watches struct {
	mu  sync.Mutex
	all map[string]Watch
	// brokenSince is the oldest of theirs; nil for none.
	brokenSince atomic.Pointer[time.Time]
	changed     chan struct{} // has an element when that is another
}

func newWatches() *watches {
	return &watches{all: make(map[string]Watch), changed: make(chan struct{}, 1)}
}

func (w *watches) sign(kind string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	broken := !w.all[kind].BrokenSince.IsZero()
	w.all[kind] = Watch{Kind: kind, LastSign: time.Now()}
	if broken {
		w.findOldest()
	}
}

// forget is for a kind that the API server does not have, or not for us: there is
// nothing to hear of, and nothing is broken.
func (w *watches) forget(kind string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.all, kind)
	w.findOldest()
}

func (w *watches) failed(kind string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	watch := w.all[kind]
	if !watch.BrokenSince.IsZero() {
		return
	}
	watch.Kind, watch.BrokenSince = kind, time.Now()
	w.all[kind] = watch
	w.findOldest()
}

func (w *watches) findOldest() {
	var oldest *time.Time
	for _, watch := range w.all {
		if since := watch.BrokenSince; !since.IsZero() && (oldest == nil || since.Before(*oldest)) {
			oldest = &since
		}
	}
	w.brokenSince.Store(oldest)
	signal(w.changed)
}

// list returns them by kind.
func (w *watches) list() []Watch {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.SortedFunc(maps.Values(w.all), func(a, b Watch) int { return cmp.Compare(a.Kind, b.Kind) })
}
