package kubernetes

import "sync"

// change is a step of the joiner.
type change struct {
	apply  func(*joiner)
	listed string // the kind of which all objects have now come, or ""
}

// queue holds changes until the joiner is free. All that have come while it was
// busy are taken at once, so a burst becomes one Update and nothing waits for a
// timer.
type queue struct {
	filled chan struct{} // has an element when there are changes
	mu     sync.Mutex
	all    []change
}

func newQueue() *queue { return &queue{filled: make(chan struct{}, 1)} }

func (q *queue) push(c change) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.all = append(q.all, c)
	signal(q.filled)
}

// signal puts an element into a channel with room for one, unless there is one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (q *queue) take() []change {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := q.all
	q.all = nil
	return all
}
