package clusterip

import (
	"sync"
	"time"
)

// notifyDelay is how long changes gather before secondaries hear of them. Pods
// come and go in bursts; and a server that starts is asked for the zone at once,
// so it had better listen by then.
const notifyDelay = time.Second

// notifier tells secondaries that zones have changed (RFC 1996).
type notifier struct {
	notify func(origin string) error
	wake   chan struct{}
	done   chan struct{}
	failed map[string]string // by zone, as last logged

	mu     sync.Mutex
	marked map[string]bool
}

func newNotifier(notify func(string) error) *notifier {
	return &notifier{
		notify: notify,
		wake:   make(chan struct{}, 1), done: make(chan struct{}),
		failed: make(map[string]string), marked: make(map[string]bool),
	}
}

// mark has secondaries of a zone told soon. It does not wait.
func (n *notifier) mark(origin string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.marked[origin] = true
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// run notifies until stop is called. What changes meanwhile is for the next round.
func (n *notifier) run() {
	for {
		select {
		case <-n.done:
			return
		case <-n.wake:
		}
		select {
		case <-n.done:
			return
		case <-time.After(notifyDelay):
		}
		for origin := range n.take() {
			n.send(origin)
		}
	}
}

// stop ends run, after the round that it may be in: a secondary that does not
// answer holds it up for seconds.
func (n *notifier) stop() { close(n.done) }

func (n *notifier) take() map[string]bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	marked := n.marked
	n.marked = make(map[string]bool)
	return marked
}

// send logs a failure once as long as it lasts.
func (n *notifier) send(origin string) {
	message := ""
	if err := n.notify(origin); err != nil {
		message = err.Error()
	}
	switch {
	case message == n.failed[origin]:
	case message == "":
		log.Infof("secondaries of %s take notifies again", origin)
	default:
		log.Warningf("secondaries may hear late of changes to %s: %s", origin, message)
	}
	n.failed[origin] = message
}
