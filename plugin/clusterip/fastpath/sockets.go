package fastpath

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// sockets are ours at one address. Their group in the kernel is CoreDNS's, then ours in the order of readers. That order
// stands as long as none closes, since the kernel moves the last socket of a group into the place of one that closes.
// So ours close together, when no Group is left.
type sockets struct {
	address string
	first   int // the place of ours that joined first: how many CoreDNS has
	inodes  []uint64
	readers []*reader
	groups  []*Group // the last one answers
}

// all has the sockets of this process by their address. The lock guards all that sockets have.
var all = struct {
	sync.Mutex
	at map[string]*sockets
}{at: make(map[string]*sockets)}

// canonical is the same for two spellings of an address to which net.ListenPacket binds alike. All wildcard addresses
// are one of them.
func canonical(address string) (string, error) {
	a, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return "", err
	}
	if a.IP == nil || a.IP.IsUnspecified() {
		return net.JoinHostPort("", strconv.Itoa(a.Port)), nil
	}
	return a.String(), nil
}

// grow opens sockets until there are as many as asked for. Those of a group that has a program get nothing until they
// are steered to. The very first gets its share by hash at once.
func (s *sockets) grow(threads int, g *Group) error {
	for len(s.readers) < threads {
		if err := s.join(g); err != nil {
			return err
		}
		if len(s.readers) == 1 {
			if err := s.steerToOthers(); err != nil {
				return err
			}
		}
	}
	return nil
}

// join opens one socket and starts its reader. It fails unless the rest of the group is what it was.
func (s *sockets) join(g *Group) error {
	listen := net.ListenConfig{Control: beforeBind}
	packets, err := listen.ListenPacket(context.Background(), "udp", s.address)
	if err != nil {
		return err
	}
	conn := packets.(*net.UDPConn)
	raw, err := conn.SyscallConn()
	if err != nil {
		conn.Close()
		return err
	}
	r := &reader{conn: conn, raw: raw, batch: newBatch()}
	r.use(g)
	s.readers = append(s.readers, r)
	go r.run(func(err error) { s.stepAside(r, err) })

	var ino uint64
	if controlErr := raw.Control(func(fd uintptr) { ino, err = inode(int(fd)) }); controlErr != nil || err != nil {
		return errors.Join(controlErr, err)
	}
	s.inodes = append(s.inodes, ino)
	return s.look()
}

// look finds the place of ours in the group, or that it is no more what it was.
func (s *sockets) look() error {
	local := s.readers[0].conn.LocalAddr().(*net.UDPAddr).AddrPort()
	n, err := others(local, local.Addr().Is6(), s.inodes)
	switch {
	case err != nil:
		return err
	case n == 0:
		return fmt.Errorf("no socket of a server is bound to %s", local)
	case s.first == 0:
		s.first = n
	case s.first != n:
		return fmt.Errorf("%d sockets of servers are bound to %s, which were %d before", n, local, s.first)
	}
	return nil
}

// receiveBuffer is room for some 1,000 queries, with what the kernel needs for each: those that come in the milliseconds
// in which a reader does not run.
const receiveBuffer = 1 << 20

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

// serve has a group answer, on as many sockets as it has threads.
func (s *sockets) serve(g *Group) error {
	for _, r := range s.readers {
		r.use(g)
	}
	var places []int
	for i, r := range s.readers[:min(g.options.Threads, len(s.readers))] {
		if !r.aside {
			places = append(places, s.first+i)
		}
	}
	if len(places) == 0 {
		return s.steerToOthers()
	}
	return s.steer(places)
}

// steerToOthers gives CoreDNS's sockets everything, also when ours are closed.
func (s *sockets) steerToOthers() error {
	places := make([]int, s.first)
	for i := range places {
		places[i] = i
	}
	return s.steer(places)
}

// steer uses any socket that is left.
func (s *sockets) steer(places []int) error {
	err := errors.New("there is no socket")
	for _, r := range s.readers {
		controlErr := r.raw.Control(func(fd uintptr) { err = steer(int(fd), places) })
		if err = errors.Join(controlErr, err); err == nil {
			return nil
		}
	}
	return err
}

// stepAside steers past a reader that has failed. It reads on, and its group's chain answers, if it still can be read.
func (s *sockets) stepAside(r *reader, cause error) {
	all.Lock()
	defer all.Unlock()
	if !slices.Contains(s.readers, r) {
		return // closed
	}
	log.Errorf("A thread that answers queries to %s has stopped, and others take over: %v", s.address, cause)
	r.aside = true
	if len(s.groups) == 0 {
		return
	}
	if err := s.serve(s.groups[len(s.groups)-1]); err != nil {
		log.Errorf("Steering past it: %v", err)
	}
}

// empty has CoreDNS's sockets get everything, and what ours have received or will be dealt with.
func (s *sockets) empty() {
	if s.first > 0 {
		if err := s.steerToOthers(); err != nil {
			log.Errorf("Steering to the server's sockets at %s: %v", s.address, err)
		}
	}
	settle()
	for _, r := range s.readers {
		r.drain()
	}
}

// close closes the sockets.
func (s *sockets) close() {
	for _, r := range s.readers {
		r.conn.Close()
	}
	s.readers = nil
	delete(all.at, s.address)
}
