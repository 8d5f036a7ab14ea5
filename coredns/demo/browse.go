package demo

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
)

// pageAt is where the server has its page, on the node.
var pageAt = netip.MustParseAddrPort("127.0.0.1:8053")

// relayPage lets a browser on this machine see the page of the node's server, whose loopback is
// another. It returns where. That ends with the context.
func (s *stage) relayPage(ctx context.Context) (address string, err error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	context.AfterFunc(ctx, func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go s.relay(ctx, conn)
		}
	}()
	return l.Addr().String(), nil
}

func (s *stage) relay(ctx context.Context, browser net.Conn) {
	defer browser.Close()
	server, err := s.node.Dial(ctx, "tcp", pageAt)
	if err != nil {
		return
	}
	defer server.Close()
	defer context.AfterFunc(ctx, func() { browser.Close() })()
	var both sync.WaitGroup
	both.Go(func() {
		io.Copy(server, browser)
		server.(*net.TCPConn).CloseWrite()
	})
	both.Go(func() {
		io.Copy(browser, server)
		browser.(*net.TCPConn).CloseWrite()
	})
	both.Wait()
}
