package netlab

import (
	"context"
	"io"
	"net"
	"sync"
)

// Servers are servers that end together, with all their connections.
type Servers struct {
	open    context.Context // until they end
	end     context.CancelFunc
	running sync.WaitGroup
}

// NewServers returns none yet. The caller closes it.
func NewServers() *Servers {
	s := &Servers{}
	s.open, s.end = context.WithCancel(context.Background())
	return s
}

// Serve calls handle in a goroutine of its own for each connection, and closes the
// connection when it returns. It must return when its connection is closed, as Close
// does.
func (s *Servers) Serve(l net.Listener, handle func(net.Conn)) {
	s.use(l, func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.use(conn, func() { handle(conn) })
		}
	})
}

// use calls f in a goroutine that Close waits for, after it has closed the socket.
func (s *Servers) use(socket io.Closer, f func()) {
	s.running.Go(func() {
		defer socket.Close()
		defer context.AfterFunc(s.open, func() { socket.Close() })()
		f()
	})
}

// Close closes listeners and connections and waits for those who handle them. Closing
// twice is fine.
func (s *Servers) Close() {
	s.end()
	s.running.Wait()
}
