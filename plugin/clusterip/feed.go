package clusterip

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/clusterip/clusterip/cluster"
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

// source fills a Store until the context is done.
type source interface {
	Run(context.Context, *cluster.Store) error
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
	pods    bool
	imports bool   // of ServiceImports
	node    string // the Node whose packets are translated, or ""
}

// with returns the needs of both. One Node is enough: there is one kernelnat in a
// process, and the last to ask is the one that runs.
func (n needs) with(o needs) needs {
	if o.node == "" {
		o.node = n.node
	}
	o.pods = o.pods || n.pods
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

	// Of the source that runs; nil before the first.
	source source
	given  needs
	cancel context.CancelFunc
	done   chan struct{}
	synced chan struct{} // closed when the source has filled the Store
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
	h.followNode = func(name string) error { return f.followNode(own, name) }
	h.warn = f.warn
	f.users[own].handlers = append(f.users[own].handlers, h)
	return h, f, nil
}

func newFeed(from origin) *feed {
	f := &feed{
		origin: from, store: cluster.NewStore(), counted: newCounted(), users: make(map[*server]*use), unobserve: func() {},
	}
	f.store.Subscribe(func(u cluster.Update) {
		f.counted.apply(u)
		generation.Set(float64(f.store.Generation()))
		if u.Synced {
			close(f.synced)
		}
	})
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
	if f.source == nil {
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
		if len(f.users) == 0 {
			f.stop()
			f.counted.remove()
			f.origin.close()
			delete(feeds.byKey, key)
		}
	}
}

// start runs the source, if it does not run yet, and returns when the Store is
// synced, or after a while without.
func (f *feed) start(own *server, patience time.Duration) error {
	feeds.Lock()
	err := f.run(own)
	synced, done := f.synced, f.done
	f.unobserve()
	f.unobserve = f.store.Subscribe(observeProgramming)
	feeds.Unlock()
	if err != nil {
		return err
	}
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case <-synced:
		<-f.store.Synced() // the Handlers have it too
	case <-done:
	case <-timeout.C:
		log.Warningf("%s not read after %s: answering SERVFAIL until it is", f.origin, patience)
	}
	return nil
}

// run has a source run that gives what everybody needs. One that does, goes on;
// another takes the place of one that does not, and the Store with it. If that
// cannot be, the one that runs goes on.
func (f *feed) run(own *server) error {
	var wanted needs
	for s, use := range f.users {
		if s != own {
			wanted = wanted.with(use.needs)
		}
	}
	wanted = wanted.with(f.users[own].needs)
	if f.source != nil && f.given.with(wanted) == f.given {
		return nil
	}
	next, err := f.origin.open(wanted)
	if err != nil {
		return err
	}
	f.stop()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	f.source, f.given, f.cancel, f.done, f.synced = next, wanted, cancel, done, make(chan struct{})
	go func() {
		defer close(done)
		if err := next.Run(ctx, f.store); err != nil && !errors.Is(err, context.Canceled) {
			log.Errorf("%s is not followed any more: %v", f.origin, err)
		}
	}()
	return nil
}

// stop ends the source, if one runs. The Store keeps what it has.
func (f *feed) stop() {
	if f.source != nil {
		f.cancel()
		<-f.done
		f.source = nil
	}
}

// ready reports whether the Store has what the source gives, and for how long at
// most that has been out of date; 0 is for ever.
func (f *feed) ready(staleAfter time.Duration) bool {
	feeds.Lock()
	source, synced := f.source, f.synced
	feeds.Unlock()
	if source == nil {
		return false
	}
	select {
	case <-synced:
	default:
		return false
	}
	if !f.store.HasSynced() {
		return false // it is still handed to the Handlers
	}
	return staleAfter == 0 || !brokenFor(source, staleAfter)
}
