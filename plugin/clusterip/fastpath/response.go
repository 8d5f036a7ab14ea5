package fastpath

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"

	"github.com/miekg/dns"
)

// headerSize is that of a DNS message.
const headerSize = 12

// handle does what the server of miekg/dns does with what it has received: it ignores what is no query, refuses what
// the handler should not see, and gives it the rest.
func (c *chain) handle(w *response, data []byte) {
	if len(data) < headerSize {
		return
	}
	field := func(i int) uint16 { return binary.BigEndian.Uint16(data[2*i:]) }
	r := new(dns.Msg)
	action := dns.DefaultMsgAcceptFunc(dns.Header{
		Id: field(0), Bits: field(1), Qdcount: field(2), Ancount: field(3), Nscount: field(4), Arcount: field(5),
	})
	switch action {
	case dns.MsgIgnore:
		return
	case dns.MsgAccept:
		if r.Unpack(data) == nil {
			c.serve(w, r)
			return
		}
	default:
		r.Unpack(data[:headerSize])
	}
	opcode := r.Opcode
	r.SetRcodeFormatError(r)
	r.Zero = false
	if action == dns.MsgRejectNotImplemented {
		r.Opcode, r.Rcode = opcode, dns.RcodeNotImplemented
	}
	r.Ns, r.Answer, r.Extra = nil, nil, nil
	w.WriteMsg(r)
}

// client is where a query came from and its reply goes to.
type client struct {
	conn    *net.UDPConn
	from    netip.AddrPort
	scope   uint32 // the number of the interface if the address is link-local
	control []byte // has the address that was asked
}

// response is the dns.ResponseWriter for one query. It may outlive the query, so it has all that it needs.
type response struct {
	client
	source [controlSize]byte // which control is part of
	closed bool
}

func newResponse(to client) *response {
	w := &response{client: to}
	w.control = w.source[:copy(w.source[:], to.control)]
	return w
}

// LocalAddr is that of the socket, as it is in the server of miekg/dns: the wildcard address where it has that.
func (w *response) LocalAddr() net.Addr { return w.conn.LocalAddr() }

// RemoteAddr is a *net.UDPAddr. The zone is the name of an interface.
func (w *response) RemoteAddr() net.Addr {
	a := net.UDPAddrFromAddrPort(w.from)
	if w.scope != 0 {
		a.Zone = strconv.Itoa(int(w.scope))
		if i, err := net.InterfaceByIndex(int(w.scope)); err == nil {
			a.Zone = i.Name
		}
	}
	return a
}

// WriteMsg packs and sends a reply.
func (w *response) WriteMsg(m *dns.Msg) error {
	data, err := m.Pack()
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	return err
}

// Write sends a reply from the address that was asked.
func (w *response) Write(data []byte) (int, error) {
	if w.closed {
		return 0, net.ErrClosed
	}
	to := w.from
	if w.scope != 0 {
		to = netip.AddrPortFrom(to.Addr().WithZone(strconv.Itoa(int(w.scope))), to.Port())
	}
	n, _, err := w.conn.WriteMsgUDPAddrPort(data, w.control, to)
	return n, err
}

// Close has later writes fail. The socket is everybody's.
func (w *response) Close() error {
	if w.closed {
		return net.ErrClosed
	}
	w.closed = true
	return nil
}

// TsigStatus trusts no signature: nobody has checked it. Who asks has seen that there is one.
func (w *response) TsigStatus() error { return dns.ErrSecret }

// TsigTimersOnly does nothing.
func (w *response) TsigTimersOnly(bool) {}

// Hijack does nothing: over UDP there is no connection to take over.
func (w *response) Hijack() {}
