package fastpath

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// maxServing is how many queries the chain serves at once. Those that it forwards may
	// take seconds, when an upstream server does not answer.
	maxServing = 4096
	// maxWaiting is how many wait for that.
	maxWaiting = 1024
)

// query is a packet for the chain.
type query struct {
	socket *socket
	packet []byte
	from   netip.AddrPort
	source []byte // control message, see batch.source
}

// chain serves queries with the plugin chain, each in a goroutine, as CoreDNS does.
type chain struct {
	options Options
	mu      sync.Mutex
	serving int
	waiting []query // the oldest is at next
	next    int
	idle    chan struct{} // is closed when nothing is served, if somebody waits for that
}

func newChain(o Options) *chain { return &chain{options: o} }

// take serves a copy of a query, at once or when its turn comes. If too many wait, the
// one that has waited for longest is dropped: whoever sent it may have asked again.
func (c *chain) take(q query) {
	q.packet, q.source = slices.Clone(q.packet), slices.Clone(q.source)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.serving < maxServing {
		c.serving++
		go c.serve(q)
		return
	}
	if len(c.waiting)-c.next == maxWaiting {
		c.waiting[c.next] = query{}
		c.next++
		if c.options.Dropped != nil {
			c.options.Dropped()
		}
	}
	if c.next >= maxWaiting {
		c.waiting, c.next = append(c.waiting[:0], c.waiting[c.next:]...), 0
	}
	c.waiting = append(c.waiting, q)
}

// serve serves a query, and then those that wait.
func (c *chain) serve(q query) {
	for {
		c.serveOne(q)
		c.mu.Lock()
		if c.next == len(c.waiting) {
			c.waiting, c.next = c.waiting[:0], 0
			if c.serving--; c.serving == 0 && c.idle != nil {
				close(c.idle)
			}
			c.mu.Unlock()
			return
		}
		q, c.waiting[c.next] = c.waiting[c.next], query{}
		c.next++
		c.mu.Unlock()
	}
}

// wait returns when nothing is served any more, or after some time. Nothing is taken then.
func (c *chain) wait(most time.Duration) {
	over := time.NewTimer(most)
	defer over.Stop()
	c.mu.Lock()
	c.idle = make(chan struct{})
	if c.serving == 0 {
		close(c.idle)
	}
	c.mu.Unlock()
	select {
	case <-c.idle:
	case <-over.C:
	}
}

// serveOne does what miekg/dns does with a packet before its handler, in serveDNS.
func (c *chain) serveOne(q query) {
	if len(q.packet) < 12 {
		return
	}
	w := &writer{socket: q.socket, source: q.source, to: net.UDPAddrFromAddrPort(q.from)}
	at := func(i int) uint16 { return uint16(q.packet[i])<<8 | uint16(q.packet[i+1]) }
	header := dns.Header{Id: at(0), Bits: at(2), Qdcount: at(4), Ancount: at(6), Nscount: at(8), Arcount: at(10)}
	r := new(dns.Msg)
	switch action := dns.DefaultMsgAcceptFunc(header); action {
	case dns.MsgIgnore:
	case dns.MsgAccept:
		if r.Unpack(q.packet) == nil {
			c.options.Chain(w, r)
			return
		}
		fallthrough
	default:
		w.refuse(header, action)
	}
}

// writer is the dns.ResponseWriter of a query.
type writer struct {
	socket *socket
	to     *net.UDPAddr
	source []byte
}

// refuse replies to a message that cannot be served.
func (w *writer) refuse(h dns.Header, action dns.MsgAcceptAction) {
	m := new(dns.Msg)
	m.Id, m.Response, m.Rcode = h.Id, true, dns.RcodeFormatError
	m.RecursionDesired = h.Bits&(1<<8) != 0
	if action == dns.MsgRejectNotImplemented {
		m.Opcode, m.Rcode = int(h.Bits>>11)&0xF, dns.RcodeNotImplemented
	}
	w.WriteMsg(m)
}

// LocalAddr implements dns.ResponseWriter.
func (w *writer) LocalAddr() net.Addr { return w.socket.conn.LocalAddr() }

// RemoteAddr implements dns.ResponseWriter.
func (w *writer) RemoteAddr() net.Addr { return w.to }

// WriteMsg implements dns.ResponseWriter.
func (w *writer) WriteMsg(m *dns.Msg) error {
	packed, err := m.Pack()
	if err != nil {
		return err
	}
	_, err = w.Write(packed)
	return err
}

// Write implements dns.ResponseWriter.
func (w *writer) Write(packet []byte) (int, error) {
	n, _, err := w.socket.conn.WriteMsgUDP(packet, w.source, w.to)
	return n, err
}

// Close implements dns.ResponseWriter. There is no connection.
func (w *writer) Close() error { return nil }

// TsigStatus implements dns.ResponseWriter. There is no fast path where the server has keys.
func (w *writer) TsigStatus() error { return nil }

// TsigTimersOnly implements dns.ResponseWriter.
func (w *writer) TsigTimersOnly(bool) {}

// Hijack implements dns.ResponseWriter. There is no connection.
func (w *writer) Hijack() {}
