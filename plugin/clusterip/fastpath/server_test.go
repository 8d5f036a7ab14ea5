package fastpath

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// tell is a handler that tells the client what it sees of the query, once.
func tell(w dns.ResponseWriter, r *dns.Msg) {
	m := told(r)
	if r.IsTsig() != nil && w.TsigStatus() != nil {
		m.Rcode = dns.RcodeNotAuth
	}
	w.WriteMsg(m)
	w.Close()
	w.WriteMsg(m)
}

func told(r *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(r)
	m.Answer, m.Ns, m.Extra = r.Answer, r.Ns, r.Extra
	if r.IsTsig() != nil {
		m.Extra = nil // nobody here has a key to sign with
	}
	return m
}

// halfTold answers as tell does where the number of octets is odd, and leaves the rest to the chain.
type halfTold struct{}

func (halfTold) Answer(reply, query []byte, _ netip.AddrPort) ([]byte, bool) {
	r := new(dns.Msg)
	if len(query)%2 == 0 || len(query) < headerSize || accepted(query) != dns.MsgAccept || r.Unpack(query) != nil || r.IsTsig() != nil {
		return nil, false
	}
	packed, err := told(r).Pack()
	return append(reply, packed...), err == nil
}

func (halfTold) Flush(time.Duration) {}

func accepted(query []byte) dns.MsgAcceptAction {
	field := func(i int) uint16 { return binary.BigEndian.Uint16(query[2*i:]) }
	return dns.DefaultMsgAcceptFunc(dns.Header{
		Id: field(0), Bits: field(1), Qdcount: field(2), Ancount: field(3), Nscount: field(4), Arcount: field(5),
	})
}

// FuzzAsServer sends any packet to a group and to a server as CoreDNS has it. The replies are the same, and there is one
// at most.
func FuzzAsServer(f *testing.F) {
	for _, query := range strange() {
		f.Add(query)
	}
	address := standIn(f, "127.0.0.1:0")
	o := options(false)
	o.Threads, o.Answerer, o.Chain = 1, func() Answerer { return halfTold{} }, tell
	g := open(f, address, o)
	f.Fuzz(func(t *testing.T, packet []byte) {
		if len(packet) > 65507 {
			t.Skip("more than a packet has")
		}
		beside := plain(t, packet)
		conn := dial(t, address)
		if _, err := conn.Write(packet); err != nil {
			t.Fatal(err)
		}
		g.sockets.readers[0].drain() // or the reader has it
		g.chain.wait(5 * time.Second)
		var got, want [][]byte
		waitFor(t, func() bool { // the kernel may be late
			got, want = append(got, waiting(t, conn)...), append(want, waiting(t, beside)...)
			return len(got) >= len(want)
		})
		if len(want) > 1 || !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("%x is answered %x, want %x", packet, got, want)
		}
		if g.sockets.readers[0].failure != nil {
			t.Fatal(g.sockets.readers[0].failure)
		}
	})
}

// plain gives a packet to a server of its own. The client has the replies when it returns.
func plain(t *testing.T, packet []byte) (client *net.UDPConn) {
	t.Helper()
	conn := bind(t, "127.0.0.1:0")
	again := make(chan struct{}, 2)
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(tell), TsigSecret: map[string]string{}, DecorateReader: func(r dns.Reader) dns.Reader {
		return announced{r, again}
	}}
	ended := make(chan error, 1)
	go func() { ended <- server.ActivateAndServe() }()
	<-again
	client = dial(t, conn.LocalAddr().String())
	if _, err := client.Write(packet); err != nil {
		t.Fatal(err)
	}
	<-again
	server.Shutdown() // waits for the handler
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	return client
}

// announced tells when the server comes for a packet: it has then begun to serve the one before.
type announced struct {
	dns.Reader
	coming chan<- struct{}
}

func (a announced) ReadUDP(conn *net.UDPConn, timeout time.Duration) ([]byte, *dns.SessionUDP, error) {
	a.coming <- struct{}{}
	return a.Reader.ReadUDP(conn, timeout)
}

// waiting reads what there is in a socket.
func waiting(t *testing.T, conn *net.UDPConn) (packets [][]byte) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		for buffer := make([]byte, 1<<16); ; {
			n, _, err := unix.Recvfrom(int(fd), buffer, unix.MSG_DONTWAIT)
			if err != nil {
				return
			}
			packets = append(packets, slices.Clone(buffer[:n]))
		}
	})
	return packets
}

// strange are packets of all kinds that a server tells apart.
func strange() (queries [][]byte) {
	change := func(do func(m *dns.Msg)) {
		m := new(dns.Msg).SetQuestion("A.example.", dns.TypeA)
		m.Id = uint16(len(queries))
		do(m)
		data, err := m.Pack()
		if err != nil {
			panic(err)
		}
		queries = append(queries, data)
	}
	rr := &dns.A{Hdr: dns.RR_Header{Name: "a.", Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(1, 2, 3, 4)}
	change(func(m *dns.Msg) {})
	change(func(m *dns.Msg) { m.Question[0].Name = "AB.example." })
	change(func(m *dns.Msg) { m.SetEdns0(1232, true) })
	change(func(m *dns.Msg) { m.SetTsig("key.", dns.HmacSHA256, 300, 0) })
	change(func(m *dns.Msg) { m.Response = true })
	for _, opcode := range []int{dns.OpcodeIQuery, dns.OpcodeStatus, dns.OpcodeNotify, dns.OpcodeUpdate, 15} {
		change(func(m *dns.Msg) { m.Opcode = opcode })
	}
	change(func(m *dns.Msg) { m.Question = nil })
	change(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) })
	change(func(m *dns.Msg) { m.Answer = []dns.RR{rr} })
	change(func(m *dns.Msg) { m.Answer = []dns.RR{rr, rr} })
	change(func(m *dns.Msg) { m.Ns = []dns.RR{rr, rr} })
	change(func(m *dns.Msg) { m.Extra = []dns.RR{rr, rr, rr} })
	change(func(m *dns.Msg) {
		m.Zero, m.CheckingDisabled, m.AuthenticatedData, m.Authoritative = true, true, true, true
	})
	whole := queries[2]
	for _, n := range []int{0, 1, 2, 11, 12, 13, 20, len(whole) - 1} {
		queries = append(queries, whole[:n])
	}
	for _, n := range []int{511, 512, 513, 4096, 65507} {
		queries = append(queries, append(slices.Clone(queries[0]), make([]byte, n-len(queries[0]))...))
	}
	// One that is whole in more octets than the server reads.
	change(func(m *dns.Msg) {
		m.SetEdns0(1232, false)
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_PADDING{Padding: make([]byte, 600)}}
	})
	return queries
}
