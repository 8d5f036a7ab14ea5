// Package feed says who shares a source of objects, and when it starts and ends.
//
// Everyone who reads the same objects in the same way shares one source and the Store
// it fills: the server blocks of a Corefile, so that a folder is read once and its
// state file has one writer; and the old and the new server during a reload, so that
// nothing is read anew and the last good state is kept.
//
// A server joins a feed by its Origin and has a Subscription from it until it leaves.
// Start with Feeds.Join; what runs when is decided in feed.run.
package feed

import (
	"net/netip"
	"sync"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/cluster/manifest"
)

// Logger is told what becomes of sources.
type Logger interface {
	Infof(format string, args ...any)
	Warningf(format string, args ...any)
	Errorf(format string, args ...any)
}

// Server stands for one instance of the server, of which there are two during a
// reload. It has a size, so that no two share an address.
type Server struct{ _ byte }

// Block is a server block, by its number in the Corefile. It is the key under which
// the storage of a server has the Subscription of all directives in that block.
type Block int

// Feeds are those of a process. They collect for Prometheus what
// they hold and how their watches are doing.
type Feeds struct {
	log     Logger
	observe func(generation uint64, u cluster.Update)

	mu    sync.Mutex // held while sources start and end, which may take a while
	byKey map[any]*feed
}

// New returns Feeds. Of each Store, observe is a subscriber that comes after those
// that had subscribed when a server started last, as all who serve from it have.
func New(log Logger, observe func(generation uint64, u cluster.Update)) *Feeds {
	return &Feeds{log: log, observe: observe, byKey: make(map[any]*feed)}
}

// Join gives a server what it has of the feed from an origin, one Subscription
// however often it joins, and adds to what it needs of it. It starts nothing.
func (fs *Feeds) Join(own *Server, from Origin, n Needs) (*Subscription, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f := fs.byKey[from.key()]
	if f == nil {
		for _, other := range fs.byKey {
			if other.users[own] == nil {
				continue // of another server, before or after a reload
			}
			if err := from.beside(other.origin, fs.log); err != nil {
				return nil, err
			}
		}
		if err := from.check(); err != nil {
			return nil, err
		}
		f = newFeed(from, fs.log)
		fs.byKey[from.key()] = f
	}
	s := f.users[own]
	if s == nil {
		s = &Subscription{feeds: fs, feed: f, own: own}
		f.users[own] = s
	}
	return s, s.need(n)
}

// Leave ends the Subscriptions of some servers, and the feeds that nobody uses any
// more.
func (fs *Feeds) Leave(who func(*Server) bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for key, f := range fs.byKey {
		for own, s := range f.users {
			if !who(own) {
				continue
			}
			for _, end := range s.ends {
				end()
			}
			delete(f.users, own)
		}
		if len(f.users) == 0 {
			f.close()
			delete(fs.byKey, key)
		} else if err := f.run(nil); err != nil { // what nobody needs any more may be what never came
			fs.log.Errorf("%v", err)
		}
	}
}

// otherAnswers reports whether another server answers.
func (fs *Feeds) otherAnswers(own *Server) bool {
	for _, f := range fs.byKey {
		for other := range f.users {
			if other != own && f.served.Load() != nil {
				return true
			}
		}
	}
	return false
}

// Subscription is what a server has of a feed. But for Need, Start and AtEnd, its
// methods wait for no lock.
type Subscription struct {
	feeds *Feeds
	feed  *feed
	own   *Server
	needs Needs
	ends  []func()
}

// Store is what the source fills.
func (s *Subscription) Store() *cluster.Store { return s.feed.store }

// HasNodes reports whether every node has a Node where the objects come from, as at an
// API server.
func (s *Subscription) HasNodes() bool { return s.feed.origin.hasNodes() }

// Need adds to what the server needs of the source, or says why that cannot be had. It
// is for before Start.
func (s *Subscription) Need(n Needs) error {
	s.feeds.mu.Lock()
	defer s.feeds.mu.Unlock()
	return s.need(n)
}

func (s *Subscription) need(n Needs) error {
	n, err := s.feed.origin.Accept(n)
	if err == nil {
		s.needs = s.needs.with(n)
	}
	return err
}

// AtEnd has a function called when the server leaves.
func (s *Subscription) AtEnd(f func()) {
	s.feeds.mu.Lock()
	defer s.feeds.mu.Unlock()
	s.ends = append(s.ends, f)
}

// Start runs the source, if it does not run yet, and returns when the Store has what
// it gives, or after a while without. A reload is refused then, since the old server
// answers.
func (s *Subscription) Start(patience time.Duration) error {
	newest, reload, err := s.begin()
	if newest == nil || err != nil {
		return err
	}
	return newest.await(patience, reload)
}

// begin returns what is to be waited for, nil if the server is gone before it came;
// and whether another answers meanwhile.
func (s *Subscription) begin() (newest *running, reload bool, err error) {
	s.feeds.mu.Lock()
	defer s.feeds.mu.Unlock()
	f := s.feed
	if f.users[s.own] != s {
		return nil, false, nil
	}
	f.unobserve() // to observe after all that have subscribed by now
	f.unobserve = f.store.Subscribe(func(u cluster.Update) { s.feeds.observe(f.store.Generation(), u) })
	err = f.run(s)
	return f.newest, s.feeds.otherAnswers(s.own), err
}

// Ready reports whether the Store has what the source gives, and for how long at most
// that has been out of date; 0 is for ever.
func (s *Subscription) Ready(staleAfter time.Duration) bool {
	return s.feed.served.Load() != nil && s.feed.store.HasSynced() && (staleAfter == 0 || !s.Stale(staleAfter))
}

// Stale reports whether the source has been cut off for so long from what it follows.
func (s *Subscription) Stale(after time.Duration) bool {
	r := s.feed.served.Load()
	return r != nil && r.source.BrokenFor(after)
}

// Heard returns when the source last heard of the kind of objects that it has heard of
// longest ago; zero if there is nobody to hear of, as of a folder.
func (s *Subscription) Heard() (oldest time.Time) {
	if r := s.feed.served.Load(); r != nil {
		for _, w := range r.source.Watches() {
			if !w.LastSign.IsZero() && (oldest.IsZero() || w.LastSign.Before(oldest)) {
				oldest = w.LastSign
			}
		}
	}
	return oldest
}

// Problems returns what is wrong with the objects themselves, as far as the source can tell,
// the errors first. It must not be written to.
func (s *Subscription) Problems() []manifest.Problem { return s.feed.origin.present() }

// Warn tells the owner of a Service what is wrong, where there is a way to: at an API
// server by an Event.
func (s *Subscription) Warn(service cluster.ServiceName, reason, text string) {
	if r := s.feed.served.Load(); r != nil {
		r.source.Warn(service, reason, text)
	}
}

// WarnRange tells likewise of a range of ClusterIPs.
func (s *Subscription) WarnRange(cidr netip.Prefix, reason, text string) {
	if r := s.feed.served.Load(); r != nil {
		r.source.WarnRange(cidr, reason, text)
	}
}
