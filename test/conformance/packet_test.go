package conformance

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const (
	patience = 5 * time.Second
	goodID   = 4711
)

// query packs a question; edit, if given, changes the packet.
func query(t *testing.T, id uint16, edit func([]byte) []byte) []byte {
	t.Helper()
	m := new(dns.Msg).SetQuestion("web.testing.svc.cluster.local.", dns.TypeA)
	m.Id = id
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		packet = edit(packet)
	}
	return packet
}

// set returns an edit that writes a 16-bit field of the header.
func set(offset int, value uint16) func([]byte) []byte {
	return func(p []byte) []byte {
		binary.BigEndian.PutUint16(p[offset:], value)
		return p
	}
}

// Offsets in the header (RFC 1035 section 4.1.1), and the bits that are set.
const (
	flags, qdCount, anCount, nsCount, arCount = 2, 4, 6, 8, 10

	headerSize  = 12
	queryFlags  = 0x0100 // QR=0, opcode 0, RD
	silence     = -1     // no reply is expected
	anyOrSilent = -2     // a reply is as good as none
)

// broken are packets that are no good query, with the reply they get.
var broken = []struct {
	name string
	edit func([]byte) []byte
	want int
}{
	{"empty", func([]byte) []byte { return nil }, silence},
	{"one byte", func(p []byte) []byte { return p[:1] }, silence},
	{"half a header", func(p []byte) []byte { return p[:headerSize/2] }, silence},
	// CoreDNS unpacks this to a message without a question, which it cannot place.
	{"header only", func(p []byte) []byte { return p[:headerSize] }, dns.RcodeServerFailure},
	{"truncated in the name", func(p []byte) []byte { return p[:headerSize+5] }, dns.RcodeFormatError},
	{"truncated in the type", func(p []byte) []byte { return p[:len(p)-3] }, dns.RcodeFormatError},
	{"oversized", func(p []byte) []byte { return append(p, bytes.Repeat([]byte{0xff}, 4000)...) }, anyOrSilent},
	{"no question", set(qdCount, 0), dns.RcodeFormatError},
	{"two questions", set(qdCount, 2), dns.RcodeFormatError},
	{"65535 questions", set(qdCount, 0xffff), dns.RcodeFormatError},
	{"records that are not there", set(arCount, 2), anyOrSilent},
	{"answers in a query", set(anCount, 9), dns.RcodeFormatError},
	{"authority in a query", set(nsCount, 9), dns.RcodeFormatError},
	{"name points to itself", func(p []byte) []byte {
		return append(p[:headerSize], 0xc0, headerSize, 0, 1, 0, 1)
	}, dns.RcodeFormatError},
	{"names point to each other", func(p []byte) []byte {
		return append(p[:headerSize], 0xc0, headerSize+2, 0xc0, headerSize, 0, 1, 0, 1)
	}, dns.RcodeFormatError},
	{"name points past the end", func(p []byte) []byte {
		return append(p[:headerSize], 0xff, 0xff, 0, 1, 0, 1)
	}, dns.RcodeFormatError},
	{"reserved label type", func(p []byte) []byte {
		return append(p[:headerSize], 0x80, 1, 0, 0, 1, 0, 1)
	}, dns.RcodeFormatError},
	{"a response", set(flags, 0x8000|queryFlags), silence},
	{"opcode IQUERY", set(flags, 1<<11|queryFlags), dns.RcodeNotImplemented},
	{"opcode UPDATE", set(flags, 5<<11|queryFlags), dns.RcodeNotImplemented},
	{"opcode 15", set(flags, 15<<11|queryFlags), dns.RcodeNotImplemented},
	{"opcode NOTIFY", set(flags, 4<<11|queryFlags), dns.RcodeNotImplemented},
	{"class CH", func(p []byte) []byte { return set(len(p)-2, dns.ClassCHAOS)(p) }, dns.RcodeRefused},
	{"class 0", func(p []byte) []byte { return set(len(p)-2, 0)(p) }, dns.RcodeRefused},
	// RFC 5936 section 2.2.1: who may not have the zone is refused.
	{"AXFR of our zone", func(p []byte) []byte { return transfer(p, dns.TypeAXFR) }, dns.RcodeRefused},
	{"IXFR of our zone", func(p []byte) []byte { return transfer(p, dns.TypeIXFR) }, dns.RcodeRefused},
}

// transfer cuts the name down to the zone and asks for all of it.
func transfer(p []byte, qtype uint16) []byte {
	zone := bytes.Index(p, []byte("\x07cluster\x05local\x00"))
	return set(len(p)-4-zone+headerSize, qtype)(slices.Delete(p, headerSize, zone))
}

// A bad packet gets its reply or none, and the next query is answered.
func TestRFC1035_BadPacketsOverUDP(t *testing.T) {
	for _, c := range broken {
		t.Run(c.name, func(t *testing.T) {
			conn := dial(t, "udp")
			const badID = 1234
			for _, p := range [][]byte{query(t, badID, c.edit), query(t, goodID, nil)} {
				if _, err := conn.Write(p); err != nil {
					t.Fatal(err)
				}
			}
			replies := make(map[uint16]*dns.Msg)
			for replies[goodID] == nil || c.want >= 0 && replies[badID] == nil {
				packet := make([]byte, dns.MaxMsgSize)
				n, err := conn.Read(packet)
				if err != nil {
					t.Fatalf("replies so far: %v: %v", replies, err)
				}
				m := unpack(t, packet[:n])
				replies[m.Id] = m
			}
			checkGood(t, replies[goodID])
			checkBad(t, replies[badID], c.want)
		})
	}
}

func TestRFC7766_BadPacketsOverTCP(t *testing.T) {
	for _, c := range broken {
		t.Run(c.name, func(t *testing.T) {
			conn := dial(t, "tcp")
			if _, err := conn.Write(framed(query(t, 1234, c.edit))); err != nil {
				t.Fatal(err)
			}
			if c.want >= 0 {
				m, err := receive(t, conn)
				if err != nil {
					t.Fatal(err)
				}
				checkBad(t, m, c.want)
			}
			goodOverTCP(t)
		})
	}
}

// A length without the bytes it promises keeps nobody else waiting.
func TestRFC7766_ShortFrames(t *testing.T) {
	for _, frame := range [][]byte{{0}, {0xff, 0xff}, {0xff, 0xff, 1, 2, 3}, {0, 0}} {
		conn := dial(t, "tcp")
		if _, err := conn.Write(frame); err != nil {
			t.Fatal(err)
		}
		goodOverTCP(t)
	}
}

// RFC 7766 section 6.2.1.1: many queries on one connection, sent at once.
func TestRFC7766_Pipelining(t *testing.T) {
	conn := dial(t, "tcp")
	var all []byte
	ids := make(map[uint16]bool)
	for id := range uint16(20) {
		all = append(all, framed(query(t, id, nil))...)
		ids[id] = true
	}
	if _, err := conn.Write(all); err != nil {
		t.Fatal(err)
	}
	for len(ids) > 0 {
		m, err := receive(t, conn)
		if err != nil {
			t.Fatalf("%d queries have no answer: %v", len(ids), err)
		}
		delete(ids, m.Id)
	}
}

func dial(t *testing.T, network string) net.Conn {
	t.Helper()
	conn, err := net.Dial(network, net.JoinHostPort(host, port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func framed(packet []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(packet))), packet...)
}

func receive(t *testing.T, conn net.Conn) (*dns.Msg, error) {
	t.Helper()
	var length uint16
	if err := binary.Read(conn, binary.BigEndian, &length); err != nil {
		return nil, err
	}
	packet := make([]byte, length)
	if _, err := io.ReadFull(conn, packet); err != nil {
		return nil, err
	}
	return unpack(t, packet), nil
}

func unpack(t *testing.T, packet []byte) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	if err := m.Unpack(packet); err != nil {
		t.Fatalf("unreadable reply %x: %v", packet, err)
	}
	return m
}

func goodOverTCP(t *testing.T) {
	t.Helper()
	conn := dial(t, "tcp")
	if _, err := conn.Write(framed(query(t, goodID, nil))); err != nil {
		t.Fatal(err)
	}
	m, err := receive(t, conn)
	if err != nil {
		t.Fatal(err)
	}
	checkGood(t, m)
}

func checkGood(t *testing.T, m *dns.Msg) {
	t.Helper()
	if m.Id != goodID || m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 {
		t.Errorf("the query after it got\n%v", m)
	}
}

func checkBad(t *testing.T, m *dns.Msg, want int) {
	t.Helper()
	switch {
	case want == silence && m != nil:
		t.Errorf("got a reply, want none:\n%v", m)
	case want >= 0 && m.Rcode != want:
		t.Errorf("got %s, want %s", dns.RcodeToString[m.Rcode], dns.RcodeToString[want])
	}
}
