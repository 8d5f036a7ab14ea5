package dnsload

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	window = 256 // questions that are open at a time; a socket of usual size has room for them
	late   = 100 * time.Millisecond
	nap    = 20 * time.Microsecond
)

// pending is a question that has had no reply, in a ring of those of a socket.
type pending struct {
	sent     time.Duration // since 1970; 0: none
	question int32
	id       uint16
}

// asking is a load in the middle.
type asking struct {
	*Load
	fds          []int
	epoll        int
	ring         int         // size, a power of two
	asked        [][]pending // by socket
	ids          []uint16    // the next, by socket
	turn, next   int         // socket, question
	open         int
	swept        time.Duration
	result       Result
	latencies    histogram
	sends, recvs *messages
	events       [sockets]unix.EpollEvent
}

// Run asks. It takes a thread of its own, which a load of so many questions a second has
// run before all others: a question is not late because the server is busy.
func (l Load) Run() Result {
	runtime.LockOSThread() // and the thread ends with the goroutine
	a := &asking{Load: &l, ring: 128, ids: make([]uint16, sockets), sends: forSending(), recvs: forReceiving()}
	if l.PerSecond > 0 {
		a.ring = 2048
	}
	for range sockets {
		a.asked = append(a.asked, make([]pending, a.ring))
	}
	var err error
	a.fds, a.epoll, err = open(l.Server, l.PerSecond > 0)
	if err == nil {
		err = l.schedule()
	}
	if err == nil {
		err = a.run()
	}
	for _, fd := range append(slices.Clone(a.fds), a.epoll) {
		unix.Close(fd)
	}
	if err != nil {
		a.result.Failed = err.Error()
	}
	h := &a.latencies
	a.result.P50, a.result.P99, a.result.P999, a.result.Longest = h.at(.5), h.at(.99), h.at(.999), h.most
	return a.result
}

// schedule has the thread run where and as it is to.
func (l *Load) schedule() error {
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("timer slack: %w", err)
	}
	if l.CPU >= 0 {
		var set unix.CPUSet
		set.Set(l.CPU)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return fmt.Errorf("processor %d: %w", l.CPU, err)
		}
	}
	if l.PerSecond > 0 {
		if err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}, 0); err != nil {
			return fmt.Errorf("priority: %w", err)
		}
	}
	return nil
}

func now() time.Duration { return time.Duration(time.Now().UnixNano()) }

func (a *asking) run() error {
	began := now()
	end := began + a.For
	for at := began; at < end; at = now() {
		if err := a.turnAround(at, a.due(at-began)); err != nil {
			return err
		}
	}
	a.result.Took = now() - began
	for limit := now() + cmp.Or(a.Patience, late); a.open > 0 && now() < limit; {
		if err := a.turnAround(now(), 0); err != nil {
			return err
		}
	}
	return nil
}

// due is how many questions are to be sent so long after the beginning.
func (a *asking) due(after time.Duration) int {
	if a.PerSecond > 0 {
		return int(after.Seconds()*a.PerSecond) + 1 - a.result.Sent
	}
	return (window - a.open) / batch * batch
}

// turnAround sends, takes the replies that are there, and rests if there was nothing to do.
// It is not woken by replies: what that costs is the server's, and depends on whether
// it sends several at a time.
func (a *asking) turnAround(at time.Duration, due int) error {
	sent := a.result.Sent
	for due > 0 {
		n, err := a.send(min(due, batch))
		if err != nil {
			return err
		}
		if due -= n; n == 0 {
			break
		}
	}
	ready, err := unix.EpollWait(a.epoll, a.events[:], 0)
	if err != nil && err != unix.EINTR {
		return err
	}
	for i := range max(ready, 0) {
		if err := a.receive(int(a.events[i].Fd)); err != nil {
			return err
		}
	}
	if a.PerSecond == 0 && at-a.swept > late/2 {
		a.sweep(at)
	}
	if a.PerSecond > 0 || ready <= 0 && a.result.Sent == sent {
		rest := unix.NsecToTimespec(int64(nap))
		unix.Nanosleep(&rest, nil)
	}
	return nil
}

// send sends so many questions from the socket whose turn it is.
func (a *asking) send(count int) (int, error) {
	s := a.turn
	a.turn = (s + 1) % sockets
	for i := range count {
		q := a.next + i
		a.sends.put(i, a.ids[s]+uint16(i), a.Questions[q%len(a.Questions)].Message)
	}
	at := now()
	n, err := a.sends.call(unix.SYS_SENDMMSG, a.fds[s], count)
	for i := range n {
		slot := &a.asked[s][int(a.ids[s])&(a.ring-1)]
		if slot.sent == 0 {
			a.open++
		}
		*slot = pending{at, int32((a.next + i) % len(a.Questions)), a.ids[s]}
		a.ids[s]++
	}
	a.next = (a.next + n) % len(a.Questions)
	a.result.Sent += n
	return n, err
}

// receive takes the replies of a socket.
func (a *asking) receive(s int) error {
	for {
		n, err := a.recvs.receive(a.fds[s], a.PerSecond > 0)
		if err != nil {
			return err
		}
		for i := range n {
			a.reply(s, i, a.recvs.buffers[i][:a.recvs.headers[i].length])
		}
		if n < batch {
			return nil
		}
	}
}

func (a *asking) reply(s, i int, reply []byte) {
	if len(reply) < 12 {
		return
	}
	id := binary.BigEndian.Uint16(reply)
	slot := &a.asked[s][int(id)&(a.ring-1)]
	if slot.sent == 0 || slot.id != id {
		return // too late
	}
	if at, ok := a.recvs.arrival(i); ok {
		a.latencies.add(at - slot.sent)
	}
	slot.sent = 0
	a.open--
	const response, truncated = 0x80, 2
	q := &a.Questions[slot.question]
	if reply[2]&(response|truncated) == response && int(reply[3]&15) == q.Rcode && int(binary.BigEndian.Uint16(reply[6:])) == q.Answers {
		a.result.Answered++
		return
	}
	a.result.Wrong++
	a.result.Sample = slices.Clone(reply)
}

// sweep gives up questions that were sent too long ago, so that others take their place.
func (a *asking) sweep(at time.Duration) {
	a.swept = at
	for _, ring := range a.asked {
		for i := range ring {
			if sent := ring[i].sent; sent != 0 && at-sent > late {
				ring[i].sent = 0
				a.open--
			}
		}
	}
}
