package fastpath

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// batchSize is how many packets are read at once.
	batchSize = 32
	// maxQuery is the longest query: CoreDNS's server reads so much of a packet and
	// answers FORMERR if that is not all.
	maxQuery = 512
	// replies is room for the replies of most batches. More is made for larger ones, and
	// kept up to maxReplies.
	replies    = 16 << 10
	maxReplies = 256 << 10
	// controlSize is room for where a packet was sent to.
	controlSize = 64
)

// message is struct mmsghdr of recvmmsg(2).
type message struct {
	header unix.Msghdr
	length uint32
	_      [4]byte
}

// batch is memory for packets that are read together, and for the replies. The kernel has
// pointers into it during system calls.
type batch struct {
	in, out  [batchSize]message
	vectors  [2 * batchSize]unix.Iovec
	names    [batchSize]unix.RawSockaddrInet6
	controls [batchSize][controlSize]byte
	queries  [batchSize][maxQuery]byte
	replies  []byte
	answered int // of out
}

func newBatch(controls bool) *batch {
	b := &batch{replies: make([]byte, 0, replies)}
	for i := range b.in {
		h := &b.in[i].header
		b.vectors[i].Base = &b.queries[i][0]
		b.vectors[i].SetLen(maxQuery)
		h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
		h.Iov = &b.vectors[i]
		h.SetIovlen(1)
		if controls {
			h.Control = &b.controls[i][0]
		}
		b.out[i].header.Iov = &b.vectors[batchSize+i]
		b.out[i].header.SetIovlen(1)
	}
	return b
}

// receive reads packets that are there. The error is EAGAIN if there is none.
func (b *batch) receive(fd uintptr) (n int, errno unix.Errno) {
	b.answered = 0
	if cap(b.replies) > maxReplies {
		b.replies = make([]byte, 0, replies)
	}
	b.replies = b.replies[:0]
	for i := range b.in {
		h := &b.in[i].header
		h.Namelen = unix.SizeofSockaddrInet6
		if h.Control != nil {
			h.SetControllen(controlSize)
		}
	}
	got, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&b.in[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
	return int(got), errno
}

// query returns a packet that was read.
func (b *batch) query(i int) []byte { return b.queries[i][:b.in[i].length] }

// from returns where a packet came from.
func (b *batch) from(i int) netip.AddrPort {
	name := &b.names[i]
	port := (*[2]byte)(unsafe.Pointer(&name.Port)) // in the order of the network
	number := uint16(port[0])<<8 | uint16(port[1])
	if name.Family == unix.AF_INET {
		four := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		return netip.AddrPortFrom(netip.AddrFrom4(four.Addr), number)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(name.Addr), number)
}

// reply has what was appended to the replies from a place on sent to where a packet came
// from, and from where that was sent to.
func (b *batch) reply(i, start int) {
	h := &b.out[b.answered].header
	b.answered++
	h.Iov.Base = &b.replies[start]
	h.Iov.SetLen(len(b.replies) - start)
	h.Name, h.Namelen = b.in[i].header.Name, b.in[i].header.Namelen
	h.Control = nil
	h.SetControllen(0)
	if source := b.source(i); len(source) > 0 {
		h.Control = &source[0]
		h.SetControllen(len(source))
	}
}

// source returns the control message that has a reply to a packet come from where that was
// sent to; none if the socket is bound to an address.
func (b *batch) source(i int) []byte {
	h := &b.in[i].header
	if h.Control == nil || h.Controllen == 0 {
		return nil
	}
	return asSource(b.controls[i][:h.Controllen])
}

// send sends replies from one on. It returns how many are sent.
func (b *batch) send(fd uintptr, from int) (n int, errno unix.Errno) {
	sent, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&b.out[from])), uintptr(b.answered-from), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(sent), 0
}

// asSource turns the control message of a packet into one for its reply, in place. The
// kernel is to choose the interface, but for IPv6 addresses that only one has.
func asSource(control []byte) []byte {
	if len(control) < unix.SizeofCmsghdr {
		return nil
	}
	header := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	data := control[unix.SizeofCmsghdr:]
	switch {
	case header.Level == unix.IPPROTO_IP && header.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
		(*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0])).Ifindex = 0
		return control[:unix.CmsgSpace(unix.SizeofInet4Pktinfo)]
	case header.Level == unix.IPPROTO_IPV6 && header.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
		info := (*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0]))
		if !netip.AddrFrom16(info.Addr).IsLinkLocalUnicast() {
			info.Ifindex = 0
		}
		return control[:unix.CmsgSpace(unix.SizeofInet6Pktinfo)]
	}
	return nil
}
