package netlab

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
)

// Reply is the first line an echo server sends: "<host> <client>\n".
type Reply struct {
	Host   string
	Client netip.AddrPort // where the server saw the client
}

func (r Reply) String() string { return r.Host + " " + r.Client.String() }

// ReadReply reads the first line of an echo server; what the client sent comes
// back after it.
func ReadReply(r *bufio.Reader) (Reply, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return Reply{}, fmt.Errorf("read reply of echo server: %w", err)
	}
	var reply Reply
	var client string
	if _, err := fmt.Sscanf(line, "%s %s\n", &reply.Host, &client); err != nil {
		return Reply{}, fmt.Errorf("read reply of echo server %q: %w", line, err)
	}
	reply.Client, err = netip.ParseAddrPort(client)
	return reply, err
}

// Ask makes one connection ("tcp") or one flow ("udp") to an echo server, closes
// it, and says who answered. The context bounds it.
func (n *Namespace) Ask(ctx context.Context, network string, to netip.AddrPort) (Reply, error) {
	conn, err := n.Dial(ctx, network, to)
	if err != nil {
		return Reply{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if network == "udp" {
		if _, err := io.WriteString(conn, "hello\n"); err != nil {
			return Reply{}, err
		}
	}
	return ReadReply(bufio.NewReader(conn))
}

// ServeTCP starts an echo server on all addresses of the host, that runs until
// Close. On each connection it sends a Reply, then what it receives.
func (h *Host) ServeTCP(port uint16) error {
	l, err := h.Listen("tcp", netip.AddrPortFrom(netip.IPv6Unspecified(), port))
	if err != nil {
		return fmt.Errorf("serve TCP in %s: %w", h.Name, err)
	}
	h.Serve(l, func(conn net.Conn) {
		if _, err := fmt.Fprintln(conn, h.reply(conn.RemoteAddr())); err == nil {
			io.Copy(conn, conn)
		}
	})
	return nil
}

// ServeUDP starts an echo server on each address of the host, that runs until
// Close. It answers each datagram with a Reply and the datagram.
func (h *Host) ServeUDP(port uint16) error {
	// One socket an address: from a socket for all of them, a host with
	// several would answer from another address than it was asked at.
	for _, a := range h.Addrs {
		c, err := h.ListenPacket("udp", netip.AddrPortFrom(a, port))
		if err != nil {
			return fmt.Errorf("serve UDP in %s: %w", h.Name, err)
		}
		h.use(c, func() { h.echoDatagrams(c) })
	}
	return nil
}

func (h *Host) echoDatagrams(c net.PacketConn) {
	datagram := make([]byte, 1<<16)
	for {
		n, from, err := c.ReadFrom(datagram)
		if err != nil {
			return
		}
		// A client that is gone again is no reason to stop.
		c.WriteTo(fmt.Appendf(nil, "%s\n%s", h.reply(from), datagram[:n]), from)
	}
}

func (h *Host) reply(client net.Addr) Reply {
	a, err := netip.ParseAddrPort(client.String())
	if err != nil {
		panic(fmt.Sprintf("address of a socket: %v", err))
	}
	return Reply{Host: h.Name, Client: netip.AddrPortFrom(a.Addr().Unmap(), a.Port())}
}
