package fastpath

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// reader reads a socket and answers.
type reader struct {
	group    *Group
	socket   *socket
	answerer Answerer
	batch    *batch

	read      int // packets
	sent      int // replies
	errno     unix.Errno
	doReceive func(fd uintptr) bool
	doSend    func(fd uintptr) bool
}

func newReader(g *Group, s *socket) *reader {
	r := &reader{group: g, socket: s, answerer: g.options.Answerer(), batch: newBatch(s.any)}
	r.doReceive, r.doSend = r.receive, r.send // made once: a method value allocates
	return r
}

// run reads until the Group ends and no packet is there.
func (r *reader) run() {
	defer r.group.readers.Done()
	for {
		err := r.socket.raw.Read(r.doReceive)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && r.group.ending.Load():
			r.drain()
			return
		case err == nil && r.errno != 0:
			err = r.errno
			fallthrough
		case err != nil:
			r.group.fail(fmt.Errorf("read UDP packets at %s: %w", r.group.address, err))
			return
		}
		r.answer()
		if r.read == batchSize {
			runtime.Gosched() // others of this process may have waited for long
		}
	}
}

// yields is how often the thread lets others run before it waits. Where clients share its
// CPU, they send more meanwhile: to wait and be woken for each packet costs more than to
// answer it.
const yields = 4

// receive is called until it is true, whenever there may be something to read.
func (r *reader) receive(fd uintptr) bool {
	r.read, r.errno = r.batch.receive(fd)
	for n := 0; r.errno == unix.EINTR || r.errno == unix.EAGAIN && n < yields; n++ {
		unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
		r.read, r.errno = r.batch.receive(fd)
	}
	return r.errno != unix.EAGAIN
}

// drain answers what is there. The deadline that has ended the wait is over.
func (r *reader) drain() {
	r.socket.conn.SetReadDeadline(time.Time{})
	for {
		empty := false
		err := r.socket.raw.Read(func(fd uintptr) bool {
			empty = !r.receive(fd)
			return true
		})
		if err != nil || empty || r.errno != 0 {
			return
		}
		r.answer()
	}
}

// answer answers the packets of a batch, or leaves them to the chain.
func (r *reader) answer() {
	began, b := time.Now(), r.batch
	for i := range r.read {
		start, from := len(b.replies), b.from(i)
		out, ok := r.answerer.Answer(b.replies, b.query(i), from)
		if !ok {
			r.group.chain.take(query{socket: r.socket, packet: b.query(i), from: from, source: b.source(i)})
			continue
		}
		b.replies = out
		b.reply(i, start)
	}
	for r.sent = 0; r.sent < b.answered; {
		if r.socket.raw.Write(r.doSend) != nil {
			break
		}
	}
	r.answerer.Flush(time.Since(began))
}

// send is called until it is true, whenever there is room to send. A reply that cannot be
// sent, as to where no route leads, does not keep the others.
func (r *reader) send(fd uintptr) bool {
	for r.sent < r.batch.answered {
		n, errno := r.batch.send(fd, r.sent)
		switch errno {
		case 0:
			r.sent += n
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			r.sent++
		}
	}
	return true
}
