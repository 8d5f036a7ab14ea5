package fastpath

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// batchSize is how many datagrams one system call takes at most.
	batchSize = 32
	// querySize is what the server of CoreDNS reads of a query. It cuts off what is longer.
	querySize = 512
	// replySize is what a reply can take without an allocation, and arenaSize what those of a batch can together.
	replySize = 4096
	arenaSize = batchSize * 1232
)

// batch receives datagrams and sends their replies, with nothing allocated in between. What the kernel fills in for a
// query, the client's address and the address that was asked, is what it is given with the reply.
//
// Its system calls do not wait, so Go's scheduler is not told of them. It would have other threads look for work.
type batch struct {
	queries  [batchSize]unix.Mmsghdr
	received int // how many of them the last receive has used

	replies [batchSize]unix.Mmsghdr
	queued  int    // replies that are to be sent
	arena   []byte // what they consist of
	used    int

	names      [batchSize]unix.RawSockaddrInet6
	controls   [batchSize]control
	queryParts [batchSize]unix.Iovec
	replyParts [batchSize]unix.Iovec
	data       [batchSize][querySize]byte
}

func newBatch() *batch {
	b := &batch{arena: make([]byte, arenaSize), received: batchSize}
	for i := range batchSize {
		b.queryParts[i].Base = &b.data[i][0]
		b.queryParts[i].SetLen(querySize)
		b.queries[i].Hdr = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&b.names[i])), Iov: &b.queryParts[i], Control: &b.controls[i].data[0]}
		b.queries[i].Hdr.SetIovlen(1)
		b.replies[i].Hdr.SetIovlen(1)
		b.replies[i].Hdr.Iov = &b.replyParts[i]
	}
	return b
}

// receive takes what is there, at most batchSize datagrams. It does not wait: the error is EAGAIN if there is nothing.
func (b *batch) receive(fd int) (int, error) {
	for i := range b.received {
		h := &b.queries[i].Hdr
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(controlSize)
		h.Flags = 0
	}
	b.received = 0
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.queries[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			b.received = int(n)
			for i := range b.received {
				b.controls[i].answerFrom(int(b.queries[i].Hdr.Controllen))
			}
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// query is what was received of query i, and whether it is all of it.
func (b *batch) query(i int) ([]byte, bool) {
	return b.data[i][:b.queries[i].Len], b.queries[i].Hdr.Flags&unix.MSG_TRUNC == 0
}

// from is the client of query i, and the number of its interface if its address is link-local.
func (b *batch) from(i int) (client netip.AddrPort, scope uint32) {
	name := &b.names[i]
	if name.Family == unix.AF_INET {
		name := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		return netip.AddrPortFrom(netip.AddrFrom4(name.Addr), networkPort(&name.Port)), 0
	}
	return netip.AddrPortFrom(netip.AddrFrom16(name.Addr).Unmap(), networkPort(&name.Port)), name.Scope_id
}

// control is the control data of the reply to query i.
func (b *batch) control(i int) []byte {
	return b.controls[i].data[:b.queries[i].Hdr.Controllen]
}

// room is where the next reply may go. Before that, it sends those that have left none.
func (b *batch) room(fd int) (room []byte, unsent int) {
	if len(b.arena)-b.used < replySize {
		unsent = b.send(fd)
	}
	return b.arena[b.used:b.used], unsent
}

// reply queues the reply to query i, which was appended to room, or somewhere else if it found none there.
func (b *batch) reply(i int, reply []byte) {
	if &reply[0] == &b.arena[b.used] {
		b.used += len(reply)
	}
	query, h := &b.queries[i].Hdr, &b.replies[b.queued].Hdr
	h.Name, h.Namelen = query.Name, query.Namelen
	h.Control, h.Controllen = query.Control, query.Controllen
	h.Iov.Base = &reply[0]
	h.Iov.SetLen(len(reply))
	b.queued++
}

// send sends the replies and returns how many could not be sent. The reason may lie in one destination, such as a
// packet filter, so the others are sent. If the socket is full it waits once for a moment, as the server of CoreDNS
// would without end, then drops what does not fit.
func (b *batch) send(fd int) (unsent int) {
	waited := false
	for sent := 0; sent < b.queued; {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.replies[sent])), uintptr(b.queued-sent), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == 0:
			sent += int(n)
		case errno == unix.EINTR:
		case errno == unix.EAGAIN && !waited:
			waited = true
			unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, fullWait)
		default:
			sent, unsent = sent+1, unsent+1
		}
	}
	b.queued, b.used = 0, 0
	return unsent
}

// fullWait is how many milliseconds a batch waits for room in its socket.
const fullWait = 10
