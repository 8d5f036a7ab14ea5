package dnsload

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	sockets    = 128 // so many that a server with several of its own gets an equal share at each
	batch      = 16  // of questions, one after the other from one socket
	largest    = 4096
	timestamps = 64 // bytes for the time of arrival
)

// mmsghdr is that of recvmmsg(2).
type mmsghdr struct {
	unix.Msghdr
	length uint32
	_      [4]byte
}

// messages are what one call sends or receives.
type messages struct {
	headers [batch]mmsghdr
	iovs    [batch][2]unix.Iovec
	ids     [batch][2]byte
	buffers [batch][largest]byte
	control [batch][timestamps]byte
}

// forSending has an ID and the rest of a question in each message.
func forSending() *messages {
	m := new(messages)
	for i := range m.headers {
		m.iovs[i][0] = unix.Iovec{Base: &m.ids[i][0], Len: 2}
		m.headers[i].Iov, m.headers[i].Iovlen = &m.iovs[i][0], 2
	}
	return m
}

func forReceiving() *messages {
	m := new(messages)
	for i := range m.headers {
		m.iovs[i][0] = unix.Iovec{Base: &m.buffers[i][0], Len: largest}
		m.headers[i].Iov, m.headers[i].Iovlen = &m.iovs[i][0], 1
		m.headers[i].Control = &m.control[i][0]
	}
	return m
}

// put makes the i-th message a question with an ID.
func (m *messages) put(i int, id uint16, question []byte) {
	binary.BigEndian.PutUint16(m.ids[i][:], id)
	m.iovs[i][1] = unix.Iovec{Base: &question[2], Len: uint64(len(question) - 2)}
}

// call is sendmmsg or recvmmsg, which do not wait. It returns how many messages there
// were, 0 if the socket is full or empty, or nobody listens.
func (m *messages) call(trap uintptr, socket, count int) (int, error) {
	n, _, errno := unix.RawSyscall6(trap, uintptr(socket), uintptr(unsafe.Pointer(&m.headers)), uintptr(count), unix.MSG_DONTWAIT, 0, 0)
	switch errno {
	case 0:
		return int(n), nil
	case unix.EAGAIN, unix.EINTR, unix.ECONNREFUSED, unix.ENOBUFS:
		return 0, nil
	}
	return 0, errno
}

// receive has the kernel write anew how long each message is.
func (m *messages) receive(socket int, withTime bool) (int, error) {
	for i := range m.headers {
		m.headers[i].Controllen = 0
		if withTime {
			m.headers[i].Controllen = timestamps
		}
	}
	return m.call(unix.SYS_RECVMMSG, socket, batch)
}

// arrival is when the i-th message came to the socket.
func (m *messages) arrival(i int) (time.Duration, bool) {
	const header = unix.SizeofCmsghdr
	if m.headers[i].Controllen < header+16 {
		return 0, false
	}
	c := m.control[i][header:]
	seconds, nanoseconds := binary.NativeEndian.Uint64(c), binary.NativeEndian.Uint64(c[8:])
	return time.Duration(seconds)*time.Second + time.Duration(nanoseconds), true
}

// open connects the sockets, and an epoll that tells which have something.
func open(server netip.AddrPort, withTime bool) (fds []int, epoll int, err error) {
	if epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, -1, err
	}
	for i := range sockets {
		fd, err := connect(server, withTime)
		if err != nil {
			return fds, epoll, err
		}
		fds = append(fds, fd)
		event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}
		if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
			return fds, epoll, err
		}
	}
	return fds, epoll, nil
}

func connect(server netip.AddrPort, withTime bool) (int, error) {
	var to unix.Sockaddr = &unix.SockaddrInet4{Port: int(server.Port()), Addr: server.Addr().As4()}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	const room = 1 << 20 // for replies, so that none is lost here
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room)
	if withTime {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	}
	if err == nil {
		err = unix.Connect(fd, to)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("a socket to %s: %w", server, err)
	}
	return fd, nil
}
