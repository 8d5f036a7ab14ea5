package kubetest

import (
	"context"
	"net"
	"sync"
)

// Line is a way to the API server that can be cut.
type Line struct {
	c       *ControlPlane
	address string

	mu       sync.Mutex
	listener net.Listener // nil while the line is cut
	cut      context.CancelFunc
	running  sync.WaitGroup
}

// NewLine returns a line that works. It ends with the test.
func (c *ControlPlane) NewLine() *Line {
	c.t.Helper()
	l := &Line{c: c, address: freeAddress(c.t)}
	l.Mend()
	c.t.Cleanup(l.Cut)
	return l
}

// URL is where clients find the API server by way of the line.
func (l *Line) URL() string { return "https://" + l.address }

// Mend has the line accept connections.
func (l *Line) Mend() {
	l.c.t.Helper()
	listener, err := net.Listen("tcp", l.address)
	if err != nil {
		l.c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listener, l.cut = listener, cancel
	l.running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			l.running.Go(func() {
				defer context.AfterFunc(ctx, func() { client.Close() })()
				l.c.relay(client)
			})
		}
	})
}

// Cut breaks all connections and refuses others, until Mend.
func (l *Line) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.listener == nil {
		return
	}
	l.listener.Close()
	l.cut()
	l.running.Wait()
	l.listener = nil
}
