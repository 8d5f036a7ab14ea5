package commits

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/clusterip/clusterip/kernelnat/netlab"
)

// Held knows when the kernel has first held each mark.
type Held struct {
	mu      sync.Mutex
	at      map[int]time.Time
	changed chan struct{} // closed with the next commit that has a mark
}

// Follow returns what a namespace holds of what is committed from now on. It ends with
// the test.
func Follow(t testing.TB, namespace *netlab.Namespace) *Held {
	t.Helper()
	h := &Held{at: make(map[int]time.Time), changed: make(chan struct{})}
	Watch(t, namespace, func(c Commit) {
		if len(c.Marks) == 0 {
			return
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, m := range c.Marks {
			if h.at[m].IsZero() {
				h.at[m] = c.At
			}
		}
		close(h.changed)
		h.changed = make(chan struct{})
	})
	return h
}

func (h *Held) since(mark int) (at time.Time, changed <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.at[mark], h.changed
}

// Await waits until the kernel holds a mark, and returns since when; ok is false if it
// does not within the limit.
func (h *Held) Await(mark int, limit time.Duration) (at time.Time, ok bool) {
	timeout := time.After(limit)
	for {
		at, changed := h.since(mark)
		if !at.IsZero() {
			return at, true
		}
		select {
		case <-changed:
		case <-timeout:
			return at, false
		}
	}
}

// Behind returns for how long the kernel did not hold changes. Change i was made at
// made[i], if that is not zero, with the mark first+i. What it changes is changed again
// with change i+period, and a change that is not written before that is in the kernel with
// the next one. The last ones are waited for.
func (h *Held) Behind(made []time.Time, first, period int, limit time.Duration) ([]time.Duration, error) {
	var out []time.Duration
	held := make([]time.Time, len(made))
	for i := len(made) - 1; i >= 0; i-- {
		if made[i].IsZero() {
			continue
		}
		held[i], _ = h.since(first + i)
		if held[i].IsZero() && i+period < len(made) {
			held[i] = held[i+period]
		}
		if held[i].IsZero() {
			var ok bool
			if held[i], ok = h.Await(first+i, limit); !ok {
				return nil, fmt.Errorf("the kernel does not hold change %d within %v", i, limit)
			}
		}
		out = append(out, max(0, held[i].Sub(made[i])))
	}
	return out, nil
}
