// Package kubernetes reads Services from a Kubernetes API server.
//
// It watches Namespaces, Services and EndpointSlices, and Pods, ServiceImports, a
// Node and the ServiceCIDRs where somebody needs them. Every object is converted to
// the model as it arrives, and the Kubernetes object is dropped: client-go's informer
// would hold every object a second time, ten times as large. EndpointSlices are
// merged with their Service or ServiceImport, so an event costs what its own Service
// costs. Nothing is published before every kind has been listed; then all that has
// come meanwhile is published at once.
//
// Where ServiceCIDRs are watched, it lists the other Nodes now and then, to find those
// that are in them.
//
// It needs the verbs list and watch for what it watches, and an API server of
// Kubernetes 1.21 or later. It writes nothing to the cluster but Events.
//
// The way of a change: kind (how to watch it, and what its objects mean), sink
// (converted, in a queue), joiner (merged with what belongs together), and out
// comes a cluster.Update. Start with Source.Run.
package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"github.com/clusterip/clusterip/cluster"
)

// Source publishes the Services of an API server. Make one with New.
type Source struct {
	options   Options
	clients   clients
	troubles  troubles
	watches   *watches
	queue     *queue
	ranges    []netip.Prefix      // that neighbours were last looked for in; used by Run alone
	newRanges chan []netip.Prefix // has the latest ranges, if they are new
	warnings  chan warning
}

// New prepares a Source. It starts nothing and asks the API server nothing; it
// fails if the options do not say where the API server is, or name files that
// cannot be read.
//
// Run calls report, from several goroutines but one at a time, when something
// begins to be wrong and, with nil, when it no longer is. The place is a kind of
// objects, such as "services", or an object, such as "Service shop/web". ErrGoingOn
// tells what need not be mended from what must.
func New(options Options, report func(place string, err error)) (*Source, error) {
	s := &Source{
		options:   options,
		troubles:  troubles{report: report, present: make(map[string]string)},
		watches:   newWatches(),
		queue:     newQueue(),
		newRanges: make(chan []netip.Prefix, 1),
		warnings:  make(chan warning, maxWarnings),
	}
	var err error
	s.clients, err = options.clients(func(to netip.Addr) {
		if options.Node != "" { // as NAT does, which alone asks for origins
			s.queue.push(change{apply: func(j *joiner) { j.addOrigin(to) }})
		}
	})
	return s, err
}

// Load returns what Run would publish first. If the context ends before that, it
// returns what kept it.
func Load(ctx context.Context, options Options) (cluster.Update, error) {
	var mu sync.Mutex
	last := errors.New("the API server does not answer")
	s, err := New(options, func(place string, err error) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil && !errors.Is(err, ErrGoingOn) {
			last = fmt.Errorf("%s: %w", place, err)
		}
	})
	if err != nil {
		return cluster.Update{}, err
	}
	store := cluster.NewStore()
	ctx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	running.Go(func() { s.Run(ctx, store, func(publish func()) { publish() }) })
	// Of other Nodes it may not be known yet, when all is listed, what they have.
	whole := make(chan struct{})
	once := sync.OnceFunc(func() { close(whole) })
	synced := false
	defer store.Subscribe(func(u cluster.Update) {
		if synced = synced || u.Synced; synced && !u.Unsure {
			once()
		}
	})()
	select {
	case <-whole:
	case <-ctx.Done():
	}
	if update := store.Snapshot(); update.Synced {
		return update, nil
	}
	mu.Lock()
	defer mu.Unlock()
	return cluster.Update{}, fmt.Errorf("list what the API server has: %w", last)
}

// Watches returns how the watch of each kind is doing.
func (s *Source) Watches() []Watch { return s.watches.list() }

// BrokenFor reports whether the requests for some kind of objects have failed for so
// long. It takes no lock.
func (s *Source) BrokenFor(limit time.Duration) bool {
	since := s.watches.brokenSince.Load()
	return since != nil && time.Since(*since) >= limit
}

// Run publishes to the Store what the API server has, and then every change, until
// the context is done. What becomes unreachable keeps its last state. Run must be
// called only once.
//
// When everything has been listed, Run calls takeOver once with a function that
// publishes the first Update. That has Synced set and takes the Store, whatever
// another source has left there by then, to the state of the API server.
func (s *Source) Run(ctx context.Context, store *cluster.Store, takeOver func(publish func())) error {
	ctx, stop := context.WithCancel(ctx)
	var followers sync.WaitGroup
	defer followers.Wait()
	defer stop()

	loaded := beginLoading()
	defer loaded()
	j := newJoiner(cluster.Update{}, s.options.NamespaceLabels != "", s.troubles.set)
	unlisted := make(map[string]struct{})
	for _, f := range s.followers() {
		unlisted[f.place()] = struct{}{}
		followers.Go(func() { f.follow(ctx) })
	}

	followers.Go(func() { s.recordEvents(ctx) })
	if s.options.Node != "" {
		followers.Go(func() { s.followTouch(ctx) })
		followers.Go(func() { s.followNeighbours(ctx) })
	}
	unsure := false
	for first := true; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-s.queue.filled:
		}
		for _, c := range s.queue.take() {
			c.apply(j)
			delete(unlisted, c.listed)
		}
		if _, waits := unlisted[serviceCIDRs.String()]; !waits {
			s.lookForNeighbours(j)
		}
		switch {
		case len(unlisted) > 0:
		case first:
			takeOver(func() {
				j.hold(store.Snapshot())
				update := j.take()
				update.Synced = true
				unsure = update.Unsure
				store.Apply(update)
			})
			loaded()
			// What the lists have needed goes back to the system, once: by
			// itself the runtime keeps it.
			followers.Go(debug.FreeOSMemory)
			first = false
		default:
			if update := j.take(); !update.IsEmpty() || update.Unsure != unsure {
				unsure = update.Unsure
				store.Apply(update)
			}
		}
	}
}
