package clusterip

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/cluster/manifest"
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

// feed is a source and the Store it fills. Everyone who reads the same folder in
// the same way shares one: the server blocks of a Corefile, so that the folder is
// read once and its state file has one writer; and the old and the new server
// during a reload, so that nothing is read anew and the last good state of a
// broken manifest is kept.
type feed struct {
	options  manifest.Options
	source   *manifest.Source
	store    *cluster.Store
	problems *problems
	counted  *counted
	users    map[*server][]*Handler

	cancel context.CancelFunc // nil until it runs
	done   chan struct{}
}

// feeds are those of this process.
var feeds struct {
	sync.Mutex
	byKey map[string]*feed
}

func keyOf(o manifest.Options) string {
	absolute := func(path string) string {
		if abs, err := filepath.Abs(path); err == nil {
			return abs
		}
		return path
	}
	return fmt.Sprintf("%q %q %v", absolute(o.Dir), absolute(o.StateFile()), o.ServiceCIDRs)
}

// serve makes the Handler of a server block, with the feed that it shares. It
// starts nothing.
func serve(own *server, o Options, hosts []string) (*Handler, *feed, error) {
	feeds.Lock()
	defer feeds.Unlock()
	key := keyOf(o.Manifest)
	f := feeds.byKey[key]
	if f == nil {
		if err := checkState(own, o.Manifest); err != nil {
			return nil, nil, err
		}
		p := new(problems)
		source, err := manifest.New(o.Manifest, p.report)
		if err != nil {
			return nil, nil, err
		}
		f = &feed{
			options: o.Manifest, source: source, store: cluster.NewStore(), problems: p, counted: newCounted(),
			users: make(map[*server][]*Handler), done: make(chan struct{}),
		}
		f.store.Subscribe(func(u cluster.Update) {
			f.counted.apply(u)
			generation.Set(float64(f.store.Generation()))
		})
		if feeds.byKey == nil {
			feeds.byKey = make(map[string]*feed)
		}
		feeds.byKey[key] = f
	}
	h := New(o, f.store, ownAddresses(hosts))
	f.users[own] = append(f.users[own], h)
	return h, f, nil
}

// checkState refuses a second feed of one server with the state file of another:
// each would overwrite what the other remembers. During a reload the feeds of the
// old server are not meant.
func checkState(own *server, o manifest.Options) error {
	for _, f := range feeds.byKey {
		if f.users[own] != nil && samePlace(f.options.StateFile(), o.StateFile()) {
			return fmt.Errorf("state file %s is kept by two clusterip directives, of manifests %s with service_cidr %v and of %s with %v: make them the same, or give each a state of its own",
				o.StateFile(), f.options.Dir, f.options.ServiceCIDRs, o.Dir, o.ServiceCIDRs)
		}
	}
	return nil
}

// samePlace reports whether two paths lead to one file, which need not exist.
func samePlace(a, b string) bool {
	place := func(path string) string {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			path = real
		} else if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
			path = filepath.Join(dir, filepath.Base(path))
		}
		if abs, err := filepath.Abs(path); err == nil {
			path = abs
		}
		return path
	}
	return place(a) == place(b)
}

// leave ends the use that some servers make of feeds, and the feeds that nobody
// uses any more.
func leave(who func(*server) bool) {
	feeds.Lock()
	defer feeds.Unlock()
	for key, f := range feeds.byKey {
		for s, handlers := range f.users {
			if !who(s) {
				continue
			}
			for _, h := range handlers {
				h.close()
			}
			delete(f.users, s)
		}
		if len(f.users) == 0 {
			f.stop()
			delete(feeds.byKey, key)
		}
	}
}

// start runs the source, if it does not run yet, and returns when the Store is
// synced, or after a while without.
func (f *feed) start() error {
	f.run()
	timeout := time.NewTimer(syncTimeout)
	defer timeout.Stop()
	select {
	case <-f.store.Synced():
	case <-f.done:
	case <-timeout.C:
		log.Warningf("manifests are not read after %s: answering SERVFAIL until they are", syncTimeout)
	}
	return nil
}

func (f *feed) run() {
	feeds.Lock()
	defer feeds.Unlock()
	if f.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	go func() {
		defer close(f.done)
		if err := f.source.Run(ctx, f.store); err != nil && !errors.Is(err, context.Canceled) {
			log.Errorf("manifests are not followed any more: %v", err)
		}
	}()
}

func (f *feed) stop() {
	if f.cancel != nil {
		f.cancel()
		<-f.done
	}
	f.counted.remove()
	f.problems.report(nil)
}
