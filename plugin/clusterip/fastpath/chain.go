package fastpath

import (
	"runtime"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// chain has CoreDNS's plugin chain answer what an Answerer did not. At most so many queries are in it, each with a
// goroutine, and at most so many wait for that.
//
// Queries come faster than a chain that computes can answer them. If each had its goroutine at once, thousands would
// be ready to run and the readers, which answer far more with the same time, would wait for all of them. So a query
// enters through a starter, which lets everybody else who is ready run before it has the next one enter: those in
// the chain that are ready are about as many as there are starters, while any number may wait for an upstream.
type chain struct {
	serve    func(dns.ResponseWriter, *dns.Msg)
	dropped  func()
	most     int // in the chain
	starters int // at most

	mu       sync.Mutex
	waiting  []*query // a ring
	oldest   int      // its place in waiting
	waits    int      // how many do
	free     []*query // to use again
	working  int      // in the chain
	starting int      // starters that are there
	idle     chan struct{}
}

// query is a copy of one.
type query struct {
	client
	data    [querySize]byte
	length  int
	control [controlSize]byte
}

// maxFree is how many queries are kept to be used again.
const maxFree = 256

// How many queries may be in the chain, and how many may wait for that. A query may wait in the chain for seconds for a
// server that it was forwarded to. Those that compute are few at any time, whatever the number. A query that comes when
// so many wait takes the place of the oldest of them.
const (
	maxWorking = 4096
	maxWaiting = 1024
)

func newChain(o Options, working, waiting int) *chain {
	return &chain{serve: o.Chain, dropped: o.Dropped, most: working, starters: runtime.GOMAXPROCS(0), waiting: make([]*query, waiting)}
}

// add copies a query and has it answered. If too many wait, the oldest of them is not.
func (c *chain) add(data []byte, from client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var q *query
	switch {
	case c.waits == len(c.waiting):
		c.dropped()
		q = c.take()
	case len(c.free) > 0:
		q = c.free[len(c.free)-1]
		c.free = c.free[:len(c.free)-1]
	default:
		q = new(query)
	}
	q.length = copy(q.data[:], data)
	q.client = from
	q.client.control = q.control[:copy(q.control[:], from.control)]
	c.waiting[(c.oldest+c.waits)%len(c.waiting)] = q
	c.waits++
	c.start()
}

// take is the oldest query that waits.
func (c *chain) take() *query {
	q := c.waiting[c.oldest]
	c.waiting[c.oldest] = nil
	c.oldest = (c.oldest + 1) % len(c.waiting)
	c.waits--
	return q
}

// start adds a starter if one has something to do.
func (c *chain) start() {
	if c.waits > 0 && c.starting < c.starters && c.working < c.most {
		c.starting++
		go c.starter()
	}
}

// starter has queries enter until none waits or too many have.
func (c *chain) starter() {
	for {
		c.mu.Lock()
		if c.waits == 0 || c.working == c.most {
			c.starting--
			c.mu.Unlock()
			return
		}
		q := c.take()
		c.working++
		c.mu.Unlock()
		go c.work(q)
		runtime.Gosched()
	}
}

// work answers a query.
func (c *chain) work(q *query) {
	defer c.done(q)
	c.handle(newResponse(q.client), q.data[:q.length])
}

func (c *chain) done(q *query) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.working--
	if len(c.free) < maxFree {
		c.free = append(c.free, q)
	}
	c.start()
	if c.idle != nil && c.working == 0 && c.waits == 0 {
		close(c.idle)
		c.idle = nil
	}
}

// wait returns when no query waits or is in the chain, or when the time is over.
func (c *chain) wait(most time.Duration) {
	c.mu.Lock()
	if c.working == 0 && c.waits == 0 {
		c.mu.Unlock()
		return
	}
	if c.idle == nil {
		c.idle = make(chan struct{})
	}
	idle := c.idle
	c.mu.Unlock()
	select {
	case <-idle:
	case <-time.After(most):
	}
}
