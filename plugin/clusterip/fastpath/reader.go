package fastpath

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// reader answers what one socket receives.
type reader struct {
	conn *net.UDPConn
	raw  syscall.RawConn

	mu       sync.Mutex // held while a batch is dealt with
	batch    *batch
	group    *Group // which answers
	answerer Answerer
	failure  error // why the answerer is asked no more

	aside bool // nothing is steered here any more; guarded by the lock of all sockets
}

// use has another group answer. When it returns, the one before does no more for this socket.
func (r *reader) use(g *Group) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.group, r.answerer = g, g.answerer(r)
}

// run reads until the socket is closed. It calls aside, at most once, when this reader is to get no more queries.
//
// It waits in Go's poller, and returns to it without asking the socket once more when a batch was not full: the poller
// tells of whatever has come since the batch was read. While batches are full it lets other goroutines run in between.
func (r *reader) run(aside func(error)) {
	told := false
	r.raw.Read(func(fd uintptr) bool {
		for {
			n, err := r.turn(int(fd))
			if err != nil && err != unix.EAGAIN && !told {
				told = true
				go aside(err) // which may wait for someone who waits for this reader
				continue      // what was queued before that
			}
			if n < batchSize {
				return false
			}
			runtime.Gosched()
		}
	})
}

// turn deals with one batch and returns how many queries it had. An error means that the socket cannot be read or the
// answerer has failed. The queries of the batch are dealt with in any case.
func (r *reader) turn(fd int) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.batch
	n, err := b.receive(fd)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	answered, unsent := 0, 0
	for i := range n {
		query, whole := b.query(i)
		from, scope := b.from(i)
		if whole && r.failure == nil {
			room, dropped := b.room(fd)
			unsent += dropped
			if reply, ok := r.answer(room, query, from); ok && len(reply) > 0 {
				b.reply(i, reply)
				answered++
				continue
			}
		}
		r.group.chain.add(query, client{r.conn, from, scope, b.control(i)})
	}
	if answered > 0 {
		unsent += b.send(fd)
	}
	if unsent > 0 {
		r.group.options.Unsent(unsent)
	}
	r.flush(time.Since(began))
	return n, r.failure
}

// answer asks the answerer. If that panics it has said no, and is not asked again.
func (r *reader) answer(room, query []byte, from netip.AddrPort) (reply []byte, ok bool) {
	defer func() {
		if v := recover(); v != nil {
			r.fail(v)
			reply, ok = nil, false
		}
	}()
	return r.answerer.Answer(room, query, from)
}

// flush tells the answerer that its replies were sent.
func (r *reader) flush(took time.Duration) {
	defer func() {
		if v := recover(); v != nil {
			r.fail(v)
		}
	}()
	r.answerer.Flush(took)
}

func (r *reader) fail(panicked any) {
	r.failure = fmt.Errorf("panic: %v\n%s", panicked, debug.Stack())
}

// drain deals with all that is queued in the socket.
func (r *reader) drain() {
	r.raw.Control(func(fd uintptr) {
		for {
			if n, _ := r.turn(int(fd)); n == 0 {
				return
			}
		}
	})
}
