package fastpath

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// socket is one of ours. Its reader waits in the kernel for what comes, so Go's poller is to know nothing of it: for
// each batch that would be two system calls more, and another thread that is woken.
type socket struct {
	file  *os.File
	raw   syscall.RawConn // Control keeps the socket open as long as it takes; there is nothing else in it
	local *net.UDPAddr
}

// receiveBuffer is room for some 2,700 queries, with what the kernel needs for each, since the kernel doubles it: those
// that come in the tens of milliseconds in which a reader of a busy machine does not run.
const receiveBuffer = 1 << 20

// listen opens a socket in the reuseport group of an address.
func listen(address string) (*socket, error) {
	config := net.ListenConfig{Control: beforeBind}
	packets, err := config.ListenPacket(context.Background(), "udp", address)
	if err != nil {
		return nil, err
	}
	conn := packets.(*net.UDPConn)
	defer conn.Close() // the poller forgets the socket, which is ours in another descriptor
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	controlErr := raw.Control(func(original uintptr) {
		if fd, err = unix.FcntlInt(original, unix.F_DUPFD_CLOEXEC, 0); err == nil {
			err = unix.SetNonblock(fd, false) // or a File has the poller take it
		}
	})
	if err = errors.Join(controlErr, err); err != nil {
		return nil, err
	}
	s := &socket{file: os.NewFile(uintptr(fd), "udp "+address), local: conn.LocalAddr().(*net.UDPAddr)}
	s.raw, err = s.file.SyscallConn()
	return s, err
}

// beforeBind sets the options of a socket of ours: SO_REUSEPORT as CoreDNS has it, room for queries, and the address
// that was asked where it is not the socket's.
func beforeBind(_, address string, c syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	wildcard := err != nil || at.Addr().IsUnspecified()
	controlErr := c.Control(func(fd uintptr) {
		var ipv6 bool
		// Without CAP_NET_ADMIN it is what net.core.rmem_max allows.
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
		}
		if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil || !wildcard {
			return
		}
		if ipv6, err = isIPv6(int(fd)); err == nil {
			err = askDestination(int(fd), ipv6)
		}
	})
	return errors.Join(controlErr, err)
}

// await waits until there is something to receive. It is false when the socket is closed.
func await(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	unix.Poll(fds, -1) // an error is EINTR, and whoever looks for queries finds that there are none
	return fds[0].Revents&unix.POLLHUP == 0
}

// awaitRoom waits for a moment until there is something to send with.
func awaitRoom(fd int) {
	const milliseconds = 10
	unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, milliseconds)
}

// write sends one reply. If the socket is full it waits once for a moment.
func (s *socket) write(data, control []byte, to unix.Sockaddr) error {
	var err error
	controlErr := s.raw.Control(func(fd uintptr) {
		if err = unix.Sendmsg(int(fd), data, control, to, unix.MSG_DONTWAIT); err == unix.EAGAIN {
			awaitRoom(int(fd))
			err = unix.Sendmsg(int(fd), data, control, to, unix.MSG_DONTWAIT)
		}
	})
	return errors.Join(controlErr, err)
}

// sockaddr is the address of a client as the socket takes it. The scope is that of a link-local one.
func (s *socket) sockaddr(client netip.AddrPort, scope uint32) unix.Sockaddr {
	if s.local.IP.To4() == nil {
		return &unix.SockaddrInet6{Addr: client.Addr().As16(), Port: int(client.Port()), ZoneId: scope}
	}
	return &unix.SockaddrInet4{Addr: client.Addr().As4(), Port: int(client.Port())}
}

// close has await return. The socket is closed when nobody uses it any more.
func (s *socket) close() {
	s.raw.Control(func(fd uintptr) { unix.Shutdown(int(fd), unix.SHUT_RDWR) })
	s.file.Close()
}
