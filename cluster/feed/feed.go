package feed

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/clusterip/clusterip/cluster"
)

// feed is a source and the Store it fills. Feeds.mu guards it.
type feed struct {
	origin    Origin
	log       Logger
	store     *cluster.Store
	users     map[*Server]*Subscription
	unobserve func()

	// served has filled the Store, or is about to, and keeps it up to date. newest
	// may be another, which gives more: it takes that one's place when it has listed
	// everything, and until then nothing stands still.
	served atomic.Pointer[running]
	newest *running
}

func newFeed(from Origin, log Logger) *feed {
	return &feed{origin: from, log: log, store: cluster.NewStore(), users: make(map[*Server]*Subscription), unobserve: func() {}}
}

// wanted is what all need. Of two servers that follow different Nodes the one that is
// given counts.
func (f *feed) wanted(own *Subscription) (all Needs) {
	for _, s := range f.users {
		if s != own {
			all = all.with(s.needs)
		}
	}
	if own != nil {
		all = all.with(own.needs)
	}
	return all
}

// run sees to it that a source runs, or is to come, that gives what is wanted.
func (f *feed) run(own *Subscription) error {
	wanted := f.wanted(own)
	if served := f.served.Load(); served.gives(wanted) {
		if f.newest != served {
			f.newest.end()
		}
		f.newest = served // which has ended too if the other had just taken over
	}
	if f.newest.gives(wanted) {
		return nil
	}
	next, err := f.origin.open(wanted, f.log)
	if err != nil {
		return err
	}
	if f.newest != f.served.Load() {
		f.newest.end()
	}
	f.newest = f.launch(next, wanted)
	return nil
}

// launch has a source run, which ends the one before it when it can take over.
func (f *feed) launch(next source, given Needs) *running {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{feed: f, source: next, began: time.Now(), given: given, cancel: cancel, done: make(chan struct{}), listed: make(chan struct{})}
	takeOver := func(publish func()) {
		f.served.Swap(r).end()
		publish()
		held := f.store.Counts()
		f.log.Infof("%s is read: %d Services with %d endpoints", f.origin, held.Services, held.Endpoints)
		close(r.listed)
	}
	go func() {
		defer close(r.done)
		if err := next.Run(ctx, f.store, takeOver); err != nil && !errors.Is(err, context.Canceled) {
			f.log.Errorf("%s is not followed any more: %v", f.origin, err)
		}
	}()
	return r
}

// close ends what runs. The Store keeps what it has.
func (f *feed) close() {
	f.newest.end()
	f.served.Load().end()
	f.origin.close()
}

// running is a source at work; nil is none.
type running struct {
	feed   *feed
	source source
	began  time.Time
	given  Needs
	cancel context.CancelFunc
	done   chan struct{}
	listed chan struct{} // closed when the Store has what it gives
}

// end waits until the source does nothing any more.
func (r *running) end() {
	if r != nil {
		r.cancel()
		<-r.done
	}
}

// gives reports whether the source runs and gives all that is wanted.
func (r *running) gives(wanted Needs) bool {
	return r != nil && !isClosed(r.done) && r.given.with(wanted) == r.given
}

// await returns when the Store has what the source gives, or when it has run for as
// long as there is patience: with an error then, if refused says so.
func (r *running) await(patience time.Duration, refused bool) error {
	// Several server blocks that share the source wait for it together, though
	// CoreDNS starts them one by one.
	timeout := time.NewTimer(patience - time.Since(r.began))
	defer timeout.Stop()
	select {
	case <-r.listed:
	case <-r.done:
	case <-timeout.C:
		switch {
		case isClosed(r.listed):
		case refused:
			return fmt.Errorf("%s not read after %s: what runs goes on. Mend what the log says of it, or give it more time with startup_timeout, and reload again", r.feed.origin, patience)
		default:
			r.feed.log.Warningf("%s not read after %s: answering SERVFAIL until it is", r.feed.origin, patience)
		}
	}
	return nil
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
