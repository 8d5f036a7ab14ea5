package clusterip

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/cluster/kubernetes"
	"github.com/coredns/caddy"
)

// server stands for one instance of the server, of which there are two during a
// reload. It has a size, so that no two share an address.
type server struct{ _ byte }

func serverOf(c *caddy.Controller) *server {
	type key struct{}
	if s, ok := c.Get(key{}).(*server); ok {
		return s
	}
	s := &server{}
	c.Set(key{}, s)
	return s
}

// source fills a Store until the context is done. When it has all that it is to
// publish first, it calls takeOver with a function that publishes that.
type source interface {
	Run(ctx context.Context, store *cluster.Store, takeOver func(publish func())) error
}

// origin is where the objects of a feed are: a folder or an API server.
type origin interface {
	// String says what is read, for the log.
	String() string
	// accept returns what of the needs makes a difference to the source, or why
	// they cannot be met.
	accept(needs) (needs, error)
	// open makes a source, which is not started.
	open(needs) (source, error)
	// close is called when no source runs any more.
	close()
}

// needs are what somebody needs of a source beyond Services.
type needs struct {
	pods     bool
	podsNode string // those on this Node are enough; "" for all
	podNames bool   // of endpoints
	imports  bool   // of ServiceImports
	node     string // the Node whose packets are translated, or ""
}

// with returns the needs of both. One Node is enough: there is one kernelnat in a
// process, and the last to ask is the one that runs.
func (n needs) with(o needs) needs {
	if o.node == "" {
		o.node = n.node
	}
	switch {
	case !o.pods:
		o.pods, o.podsNode = n.pods, n.podsNode
	case n.pods && n.podsNode != o.podsNode:
		o.podsNode = ""
	}
	o.podNames = o.podNames || n.podNames
	o.imports = o.imports || n.imports
	return o
}

// feed is a source and the Store it fills. Everyone who reads the same objects in
// the same way shares one: the server blocks of a Corefile, so that a folder is
// read once and its state file has one writer; and the old and the new server
// during a reload, so that nothing is read anew and the last good state is kept.
type feed struct {
	origin  origin
	store   *cluster.Store
	counted *counted
	users   map[*server]*use

	unobserve func() // ends the measuring, which is to come after all Handlers

	// current has filled the Store and keeps it up to date. coming gives more, and
	// takes its place when it has listed everything; until then nothing stands
	// still. Either may be nil.
	current, coming *running
	served          atomic.Pointer[running] // whose state the Handlers have
}

// running is a source at work.
type running struct {
	source source
	began  time.Time
	given  needs
	cancel context.CancelFunc
	done   chan struct{}
	listed chan struct{} // closed when the Handlers have what it gives
}

// end waits until the source does nothing any more.
func (r *running) end() {
	r.cancel()
	<-r.done
}

func (r *running) hasListed() bool {
	select {
	case <-r.listed:
		return true
	default:
		return false
	}
}

// use is what one server makes of a feed.
type use struct {
	handlers []*Handler
	needs    needs
}

// feeds are those of this process.
var feeds struct {
	sync.Mutex
	byKey map[any]*feed
}

// serve makes the Handler of a server block, with the feed that it shares. It
// starts nothing.
func serve(own *server, o Options, hosts []string) (*Handler, *feed, error) {
	feeds.Lock()
	defer feeds.Unlock()
	key := o.key()
	f := feeds.byKey[key]
	if f == nil {
		from, err := newOrigin(own, o)
		if err != nil {
			return nil, nil, err
		}
		f = newFeed(from)
		if feeds.byKey == nil {
			feeds.byKey = make(map[any]*feed)
		}
		feeds.byKey[key] = f
	}
	if f.users[own] == nil {
		f.users[own] = &use{}
	}
	if err := f.need(own, o.needs()); err != nil {
		return nil, nil, err
	}
	h := New(o, f.store, ownAddresses(hosts))
	h.ready = func() bool { return f.ready(o.StaleAfter) }
	if o.StaleAfter > 0 {
		h.stale = func() bool { return f.stale(o.StaleAfter) }
	}
	h.followNode = func(name string) error { return f.followNode(own, name) }
	h.warn, h.warnRange = f.warn, f.warnRange
	f.users[own].handlers = append(f.users[own].handlers, h)
	return h, f, nil
}

func newFeed(from origin) *feed {
	f := &feed{
		origin: from, store: cluster.NewStore(), counted: newCounted(), users: make(map[*server]*use), unobserve: func() {},
	}
	f.store.Subscribe(f.counted.apply)
	return f
}

// need adds to what a server needs of the feed.
func (f *feed) need(own *server, n needs) error {
	n, err := f.origin.accept(n)
	if err == nil {
		f.users[own].needs = f.users[own].needs.with(n)
	}
	return err
}

// followNode has the source read what NAT needs on a node: the Node and the
// ServiceCIDRs.
func (f *feed) followNode(own *server, name string) error {
	feeds.Lock()
	defer feeds.Unlock()
	if f.users[own] == nil {
		return nil // the server is gone
	}
	if err := f.need(own, needs{node: name}); err != nil {
		return err
	}
	if f.newest() == nil {
		return nil // start comes after all who need something
	}
	return f.run(own)
}

// leave ends the use that some servers make of feeds, and the feeds that nobody
// uses any more.
func leave(who func(*server) bool) {
	feeds.Lock()
	defer feeds.Unlock()
	for key, f := range feeds.byKey {
		for s, use := range f.users {
			if !who(s) {
				continue
			}
			for _, h := range use.handlers {
				h.close()
			}
			delete(f.users, s)
		}
		if len(f.users) > 0 {
			// What nobody needs any more may be what never came.
			if err := f.run(nil); err != nil {
				log.Error(err)
			}
		} else {
			f.stop()
			f.counted.remove()
			f.origin.close()
			delete(feeds.byKey, key)
		}
	}
}

// start runs the source, if it does not run yet, and returns when the Handlers have
// what it gives, or after a while without. A reload is refused then, since the old
// server answers.
func (f *feed) start(own *server, patience time.Duration) error {
	feeds.Lock()
	if f.users[own] == nil {
		feeds.Unlock()
		return nil // the server is gone before it came
	}
	err := f.run(own)
	newest, reload := f.newest(), anyOther(own)
	f.unobserve()
	f.unobserve = f.store.Subscribe(func(u cluster.Update) { observe(f.store.Generation(), u) })
	feeds.Unlock()
	if err != nil {
		return err
	}
	// Several server blocks that share the source wait for it together, though
	// CoreDNS starts them one by one.
	timeout := time.NewTimer(patience - time.Since(newest.began))
	defer timeout.Stop()
	select {
	case <-newest.listed:
	case <-newest.done:
	case <-timeout.C:
		if newest.hasListed() {
			return nil
		}
		if reload {
			return fmt.Errorf("%s not read after %s: what runs goes on. Mend what the log says of it, or give it more time with startup_timeout, and reload again", f.origin, patience)
		}
		log.Warningf("%s not read after %s: answering SERVFAIL until it is", f.origin, patience)
	}
	return nil
}

// anyOther reports whether another server answers.
func anyOther(own *server) bool {
	for _, f := range feeds.byKey {
		f.settle()
		for s := range f.users {
			if s != own && f.current != nil {
				return true
			}
		}
	}
	return false
}

// newest is the source that gives most.
func (f *feed) newest() *running {
	if f.coming != nil {
		return f.coming
	}
	return f.current
}

// settle notes that the source that was coming has come.
func (f *feed) settle() {
	if f.coming != nil && f.coming.hasListed() {
		f.current, f.coming = f.coming, nil
	}
}

// abandon ends the source that is coming.
func (f *feed) abandon() {
	if f.coming == nil {
		return
	}
	f.coming.end()
	if f.coming.hasListed() {
		f.current = nil // it had just taken over
	}
	f.coming = nil
}

// run sees to it that a source runs, or is coming, that gives what everybody needs;
// of two servers that follow different Nodes the one counts that is given.
func (f *feed) run(own *server) error {
	f.settle()
	var wanted needs
	for s, use := range f.users {
		if s != own {
			wanted = wanted.with(use.needs)
		}
	}
	if own != nil {
		wanted = wanted.with(f.users[own].needs)
	}
	gives := func(r *running) bool { return r != nil && r.given.with(wanted) == r.given }
	if gives(f.current) {
		if f.abandon(); f.current != nil {
			return nil
		}
	} else if gives(f.coming) {
		return nil
	}
	next, err := f.origin.open(wanted)
	if err != nil {
		return err
	}
	f.abandon()
	f.launch(next, wanted)
	return nil
}

// launch has a source run. It ends the one before it when it can take over.
func (f *feed) launch(next source, given needs) {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{source: next, began: time.Now(), given: given, cancel: cancel, done: make(chan struct{}), listed: make(chan struct{})}
	before := f.current
	f.coming = r
	takeOver := func(publish func()) {
		if before != nil {
			before.end()
		}
		publish()
		f.served.Store(r)
		log.Infof("%s is read: %s", f.origin, f.counted)
		close(r.listed)
	}
	go func() {
		defer close(r.done)
		if err := next.Run(ctx, f.store, takeOver); err != nil && !errors.Is(err, context.Canceled) {
			log.Errorf("%s is not followed any more: %v", f.origin, err)
		}
	}()
}

// stop ends what runs. The Store keeps what it has.
func (f *feed) stop() {
	f.abandon()
	if f.current != nil {
		f.current.end()
		f.current = nil
	}
}

// ready reports whether the Handlers have what the source gives, and for how long at
// most that has been out of date; 0 is for ever.
func (f *feed) ready(staleAfter time.Duration) bool {
	feeds.Lock()
	defer feeds.Unlock()
	f.settle()
	return f.current != nil && f.store.HasSynced() && (staleAfter == 0 || !f.stale(staleAfter))
}

// stale reports whether the source has been cut off for so long from what it follows.
// It takes no lock.
func (f *feed) stale(after time.Duration) bool {
	r := f.served.Load()
	if r == nil {
		return false
	}
	api, ok := r.source.(*kubernetes.Source)
	return ok && api.BrokenFor(after)
}
