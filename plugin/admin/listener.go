package admin

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"
	"golang.org/x/time/rate"
)

// What all clients of a page get together. Names and NAT come first: whoever wants more waits,
// mostly in the kernel.
const (
	// pageClients are connected at the same time.
	pageClients = 32
	// pageRate is how many connections are accepted in a second, and how many requests are
	// answered, after pageBurst of them.
	pageRate, pageBurst = 20, 50
	// pageTimeout is how long a client may take over a request, and over its answer.
	pageTimeout = 10 * time.Second
	// pageIdle is longer than between two requests of a page that is open.
	pageIdle = 15 * time.Second
)

// listeners are those of this process, by address. On a reload a listener stays, and the next
// server has its connections: a new one beside it would have those reset that wait in the old one.
var listeners = listenersAt{at: make(map[netip.AddrPort]*listener)}

type listenersAt struct {
	mu sync.Mutex
	at map[netip.AddrPort]*listener
}

// listener gives what it accepts to the server whose turn it is.
type listener struct {
	net.Listener
	current atomic.Pointer[inbox]
}

// take has the listener at its address serve an inbox, and returns the one before, nil if there
// was none.
func (ls *listenersAt) take(in *inbox) (before *inbox, err error) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.at[in.at]
	if l == nil {
		opened, err := net.Listen("tcp", in.at.String())
		if err != nil {
			return nil, err
		}
		l = &listener{Listener: netutil.LimitListener(opened, pageClients)}
		ls.at[in.at] = l
		l.current.Store(in)
		go l.run()
		return nil, nil
	}
	return l.current.Swap(in), nil
}

// give closes the listener that serves an inbox, if there is one.
func (ls *listenersAt) give(in *inbox) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if l := ls.at[in.at]; l != nil && l.current.Load() == in {
		l.Close()
		delete(ls.at, in.at)
	}
}

func (l *listener) run() {
	pace := rate.NewLimiter(pageRate, pageBurst)
	for {
		conn, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // as when there are too many open files
			log.Warningf("the page: %v", err)
		default:
			l.deliver(conn)
		}
		_ = pace.Wait(context.Background()) // which does not end
	}
}

func (l *listener) deliver(conn net.Conn) {
	for {
		in := l.current.Load()
		select {
		case in.conns <- conn:
			return
		case <-in.closed:
			if l.current.Load() == in { // there is no other
				conn.Close()
				return
			}
		}
	}
}

// inbox is the net.Listener of one server.
type inbox struct {
	at     netip.AddrPort
	conns  chan net.Conn
	closed chan struct{}
	close  func()
	end    func() // the server; it does not wait
}

func newInbox(at netip.AddrPort, end func()) *inbox {
	in := &inbox{at: at, conns: make(chan net.Conn), closed: make(chan struct{})}
	in.close = sync.OnceFunc(func() { close(in.closed) })
	in.end = sync.OnceFunc(func() {
		in.close()
		end()
	})
	return in
}

// Accept implements net.Listener.
func (in *inbox) Accept() (net.Conn, error) {
	select {
	case conn := <-in.conns:
		return conn, nil
	case <-in.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (in *inbox) Close() error {
	in.close()
	return nil
}

// Addr implements net.Listener.
func (in *inbox) Addr() net.Addr { return net.TCPAddrFromAddrPort(in.at) }
