package fastpath

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// Group answers the queries to one address, from Open to Close.
type Group struct {
	options   Options
	sockets   *sockets
	chain     *chain
	answerers map[*reader]Answerer // guarded by the lock of all sockets
	once      sync.Once
}

// grace is how long Close waits for queries that are in the chain, as CoreDNS does when it stops a server.
const grace = 5 * time.Second

// Open answers the queries to an address, such as "10.96.0.10:53" or ":53", where CoreDNS's server has bound its socket
// already: from now on that gets none. If another Group of this process is open at the address, it is idle until this
// one closes. The threads of the two may differ.
//
// It fails, and changes nothing, if no other socket is bound to the address, or if others than before are, which
// happens when a reload changes the number of CoreDNS's sockets.
func Open(address string, o Options) (*Group, error) {
	o = o.complete()
	if o.Threads > maxThreads {
		return nil, fmt.Errorf("%d threads are more than %d", o.Threads, maxThreads)
	}
	address, err := canonical(address)
	if err != nil {
		return nil, err
	}
	all.Lock()
	defer all.Unlock()
	s, known := all.at[address]
	if !known {
		s = &sockets{address: address}
		all.at[address] = s
	} else if err := s.look(); err != nil {
		return nil, err
	}
	g := &Group{options: o, sockets: s, chain: newChain(o, maxWorking, maxWaiting), answerers: make(map[*reader]Answerer)}
	s.groups = append(s.groups, g)
	err = s.grow(o.Threads, s.groups[0])
	if err == nil {
		err = s.serve(g)
	}
	if err != nil {
		if s.leave(g) && !known {
			s.close()
		}
		return nil, err
	}
	return g, nil
}

// Close ends the Group. The one that was opened at this address before it answers again, or if there is none CoreDNS's
// sockets get everything. All queries that this one has received are answered when Close returns, but for those that
// take the chain longer than CoreDNS waits for when it stops a server.
func (g *Group) Close() {
	g.once.Do(func() {
		all.Lock()
		g.sockets.leave(g)
		all.Unlock()

		g.chain.wait(grace)

		all.Lock()
		defer all.Unlock()
		if s := g.sockets; len(s.groups) == 0 && len(s.readers) > 0 {
			s.close()
		}
	})
}

// leave has what answers without a group answer. It is true if that is no other group, so that the sockets may be closed.
func (s *sockets) leave(g *Group) bool {
	s.groups = slices.DeleteFunc(s.groups, func(other *Group) bool { return other == g })
	if len(s.groups) == 0 {
		s.empty()
		return true
	}
	if err := s.serve(s.groups[len(s.groups)-1]); err != nil {
		log.Errorf("Steering to the threads from before at %s: %v", s.address, err)
	}
	return false
}

// answerer is what answers for this group at a socket.
func (g *Group) answerer(r *reader) Answerer {
	a := g.answerers[r]
	if a == nil {
		a = g.options.Answerer()
		g.answerers[r] = a
	}
	return a
}
