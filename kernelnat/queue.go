package kernelnat

import (
	"sync"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// maxUnsettled is about how many changes are remembered, to be measured, while no
// write succeeds.
const maxUnsettled = 10_000

// queue gathers what the Store tells until a Controller takes it up.
type queue struct {
	wake chan struct{} // has room for one: there is something to take

	mu         sync.Mutex
	services   map[cluster.ServiceName]*cluster.Service // changed; nil: gone
	triggers   map[cluster.ServiceName]time.Time        // when the change was made that led to that, if it is known
	unsettled  []time.Time                              // likewise, of what was taken
	node       plan.Node
	around     around
	incomplete bool      // not all Services are known
	resync     bool      // the node is another: so is what the backend writes for it
	waiting    time.Time // since when there is something; zero: there is nothing
	abandoned  []*abandoned
	touched    bool   // somebody else has written where the backend does
	by         string // who, if that is known
}

func newQueue(node string) *queue {
	return &queue{
		wake:     make(chan struct{}, 1),
		services: make(map[cluster.ServiceName]*cluster.Service),
		triggers: make(map[cluster.ServiceName]time.Time),
		node:     plan.Node{Name: node},
	}
}

// add takes an Update over and reports whether there is something to do.
func (q *queue) add(u cluster.Update) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range u.Services {
		q.services[s.Name] = s.Service
		if _, waits := q.triggers[s.Name]; !waits && !s.Triggered.IsZero() {
			q.triggers[s.Name] = s.Triggered
		}
	}
	q.around.add(u)
	for _, n := range u.Nodes {
		if n.Name == q.node.Name {
			q.setNode(n.Node)
		}
	}
	something := len(u.Services) > 0 || q.resync || q.around.changed || q.incomplete != u.Incomplete
	q.incomplete = u.Incomplete
	if !something {
		return false
	}
	if q.waiting.IsZero() {
		q.waiting = time.Now()
	}
	q.signal()
	return true
}

// touch notes that somebody else has written where the backend does.
func (q *queue) touch(by string) {
	q.mu.Lock()
	q.touched, q.by = true, by
	q.mu.Unlock()
	q.signal()
}

// takeTouched reports whether that was noted since the last time.
func (q *queue) takeTouched() (by string, touched bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	by, touched = q.by, q.touched
	q.by, q.touched = "", false
	return by, touched
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// setNode takes over the Node, nil if there is none any more.
func (q *queue) setNode(n *cluster.Node) {
	next := plan.NodeOf(q.node.Name, n)
	next.PodCIDRs = keepPodCIDRs(q.node.PodCIDRs, next.PodCIDRs)
	if !next.Equal(q.node) {
		q.node, q.resync = next, true
	}
}

// taken is what a Controller is to work on.
type taken struct {
	services map[cluster.ServiceName]*cluster.Service // changed; nil: gone
	state    State                                    // without its Services
	resync   bool                                     // the rest of the state is another
	around   around                                   // what ranges of ClusterIPs depend on
}

// take empties the queue, but for Services that are to stay. Nothing wakes who waits for the
// queue when they need to stay no more; see holds.
func (q *queue) take(stays func(*cluster.Service) bool) taken {
	q.mu.Lock()
	defer q.mu.Unlock()
	t := taken{
		services: q.services,
		state:    State{Incomplete: q.incomplete, Node: q.node},
		resync:   q.resync,
		around:   q.around.take(),
	}
	q.services, q.resync = make(map[cluster.ServiceName]*cluster.Service), false
	for name, s := range t.services {
		if s != nil && !t.resync && stays(s) {
			q.services[name] = s
			delete(t.services, name)
		}
	}
	for name, at := range q.triggers {
		if _, left := q.services[name]; left {
			continue
		}
		if delete(q.triggers, name); len(q.unsettled) < maxUnsettled {
			q.unsettled = append(q.unsettled, at)
		}
	}
	return t
}

// holds reports whether there are Services that were left.
func (q *queue) holds() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.services) > 0
}

// settled notes that the kernel holds all that was taken. It returns when the changes
// were made that led to that.
func (q *queue) settled() (triggers []time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	triggers, q.unsettled = q.unsettled, nil
	if q.waiting = (time.Time{}); len(q.services) > 0 || q.resync {
		q.waiting = time.Now()
	}
	return triggers
}

// late reports whether something in the queue, or taken and not settled, has waited for
// longer than the limit.
func (q *queue) late(limit time.Duration) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return !q.waiting.IsZero() && time.Since(q.waiting) > limit
}
