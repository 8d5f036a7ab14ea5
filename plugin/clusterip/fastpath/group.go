// Package fastpath reads the UDP packets of a CoreDNS server in its stead, in batches, and
// answers at once what an Answerer knows. All others go to the server's plugin chain in
// the same process.
//
// Its sockets join the reuseport group of CoreDNS's socket, which gets nothing as long as
// they are there, and everything when they are gone. The package knows sockets and
// CoreDNS's chain. It knows neither Services nor how an answer is made.
//
// Start with Open, then reader.run.
package fastpath

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// Answerer answers queries on one thread.
type Answerer interface {
	// Answer appends the reply to a query to a buffer. It is false where the plugin chain
	// is to answer. It keeps neither of them.
	Answer(reply, query []byte, from netip.AddrPort) ([]byte, bool)
	// Flush is called when the answers of a batch are sent, with the time since the batch
	// was read.
	Flush(took time.Duration)
}

// Options say how a Group answers.
type Options struct {
	Threads  int
	Answerer func() Answerer // of one thread
	// Chain serves a message as CoreDNS's server does.
	Chain func(w dns.ResponseWriter, r *dns.Msg)
	// Dropped is called for each query that had to wait for the chain for too long.
	Dropped func()
	// Failed is told why a Group has ended itself. CoreDNS goes on with its queries.
	Failed func(error)
}

// maxEnding is how long queries may take that the chain serves when a Group is closed, as in
// CoreDNS's own server.
const maxEnding = 5 * time.Second

// Group is the sockets at one address of a server, each with a goroutine that reads it.
type Group struct {
	address string
	options Options
	sockets []*socket
	chain   *chain
	readers sync.WaitGroup
	ending  atomic.Bool
	once    sync.Once
}

// Open takes over the packets that come to a CoreDNS server at an address, such as ":53",
// whose socket is open.
func Open(address string, o Options) (*Group, error) {
	if _, port, err := net.SplitHostPort(address); err != nil || port == "0" {
		return nil, fmt.Errorf("%q is no address with a port that is known beforehand", address)
	}
	g := &Group{address: address, options: o, chain: newChain(o)}
	if err := ports.join(g); err != nil {
		return nil, err
	}
	for _, s := range g.sockets {
		g.readers.Add(1)
		go newReader(g, s).run()
	}
	if err := ports.steer(g.address); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// Close gives the packets to another Group at the same address, or back to CoreDNS, and
// returns when all that came before are answered.
func (g *Group) Close() {
	g.once.Do(func() {
		g.ending.Store(true)
		err := ports.steer(g.address)
		awaitPackets()
		for _, s := range g.sockets {
			s.conn.SetReadDeadline(time.Unix(1, 0)) // wakes who waits
		}
		g.readers.Wait()
		g.chain.wait(maxEnding)
		if err := errors.Join(err, ports.leave(g)); err != nil && g.options.Failed != nil {
			g.options.Failed(err)
		}
	})
}

// fail ends a Group that cannot go on.
func (g *Group) fail(err error) {
	if g.options.Failed != nil {
		g.options.Failed(err)
	}
	go g.Close()
}

// socket is one of ours.
type socket struct {
	conn *net.UDPConn
	raw  syscall.RawConn
	v6   bool // of the family IPv6; packets of IPv4 may come to it too
	any  bool // bound to no address: packets tell where they were sent to
}

// openSocket opens a socket as CoreDNS does.
func openSocket(address string) (*socket, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return control(c, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
	}}
	conn, err := config.ListenPacket(context.Background(), "udp", address)
	if err != nil {
		return nil, err
	}
	s := &socket{conn: conn.(*net.UDPConn)}
	s.any = s.conn.LocalAddr().(*net.UDPAddr).IP.IsUnspecified()
	if s.raw, err = s.conn.SyscallConn(); err == nil {
		err = control(s.raw, s.prepare)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

// receiveBuffer is room for some 1,000 packets, with what the kernel needs for each: those
// that come in the milliseconds in which the thread does not run.
const receiveBuffer = 1 << 20

// prepare makes room for packets, and has them tell where they were sent to.
func (s *socket) prepare(fd int) error {
	// Without CAP_NET_ADMIN it is what net.core.rmem_max allows.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	s.v6 = domain == unix.AF_INET6
	switch {
	case err != nil || !s.any:
		return err
	case s.v6:
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
}

// control runs a function with the descriptor of a socket.
func control(c syscall.RawConn, f func(fd int) error) (err error) {
	return errors.Join(c.Control(func(fd uintptr) { err = f(int(fd)) }), err)
}
