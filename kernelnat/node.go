package kernelnat

import (
	"context"
	"sync"
	"time"

	"github.com/clusterip/clusterip/cluster"
)

// nodeWait is for how long a Node may be missing before that is told. kube-proxy waits
// as long: a kubelet that starts has yet to register it.
const nodeWait = 30 * time.Second

// Node watches what is known of the Node that this runs on. It is one for both IP
// families: whether there is a Node, and whether it says who is a pod, has one answer, in
// the log and in /healthz.
type Node struct {
	log  NodeLogger
	wake chan struct{} // has room for one: there is something to look at

	mu     sync.Mutex
	view   nodeView
	synced bool
}

// NodeLogger takes what is to be told of a Node.
type NodeLogger interface {
	Logger
	Warningf(format string, args ...any)
}

// NewNode returns a Node of which nothing is known. It starts nothing.
func NewNode(options NodeOptions, log NodeLogger) *Node {
	return &Node{log: log, wake: make(chan struct{}, 1), view: newNodeView(options)}
}

// update is the Store's subscriber.
func (n *Node) update(u cluster.Update) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.synced = n.synced || u.Synced
	n.view.apply(u)
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// Eligible reports whether load balancers may send to this node: it has a Node, if nodes
// have one, and the Node is not about to go.
func (n *Node) Eligible() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.synced && n.view.missing() == nil && (n.view.node == nil || !n.view.node.Leaving)
}

// Run follows the Store until the context ends. It calls begin once, when it is known who
// is a pod, or at once if that is not for the Node to say. Nothing is to be written
// before: clients would keep their address and get no answers. A fault of the Node is
// told once, when it has lasted for a while, and once more when it is mended.
func (n *Node) Run(ctx context.Context, store *cluster.Store, begin func()) error {
	defer store.Subscribe(n.update)()
	told := []*trouble{
		{find: (*nodeView).waitsFor, tell: n.log.Errorf},
		{find: (*nodeView).lostPodCIDRs, tell: n.log.Errorf},
		{find: (*nodeView).missing, tell: n.log.Errorf, wait: nodeWait},
		{find: (*nodeView).unused, tell: n.log.Warningf, wait: nodeWait},
		{find: (*nodeView).nowhere, tell: n.log.Warningf, wait: nodeWait},
	}
	for begun := false; ; {
		left := n.look(told)
		if n.mayBegin() && !begun {
			begun = true
			begin()
		}
		if err := sleep(ctx, left, n.wake); err != nil {
			return err
		}
	}
}

// mayBegin reports whether it has been known who is a pod.
func (n *Node) mayBegin() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.view.begun
}

// look tells what is to be told, and returns after how long there may be more.
func (n *Node) look(all []*trouble) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	left := time.Duration(forever)
	if !n.synced {
		return left
	}
	for _, t := range all {
		if mended := t.judge(t.find(&n.view), time.Now()); mended != "" {
			n.log.Infof("no longer so: %s", mended)
		}
		left = min(left, t.left(time.Now()))
	}
	return left
}

// trouble is something wrong with a Node, which is told once, when it has lasted.
type trouble struct {
	find func(*nodeView) error
	wait time.Duration
	tell func(format string, args ...any)

	since time.Time // zero: nothing is wrong
	told  string
}

// judge takes note of what is wrong, or nil. It returns what was told and is no longer
// so.
func (t *trouble) judge(err error, now time.Time) (mended string) {
	if err == nil {
		mended, t.told, t.since = t.told, "", time.Time{}
		return mended
	}
	if t.since.IsZero() {
		t.since = now
	}
	if t.told == "" && now.Sub(t.since) >= t.wait {
		t.told = err.Error()
		t.tell("%s", t.told)
	}
	return ""
}

// left is how long it takes until there is something to tell.
func (t *trouble) left(now time.Time) time.Duration {
	if t.told != "" || t.since.IsZero() {
		return forever
	}
	return t.wait - now.Sub(t.since)
}
