package fastpath

import (
	"encoding/binary"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestBadQueries sends what the chain cannot serve. Some get a reply, all are survived.
func TestBadQueries(t *testing.T) {
	address := standIn(t, "127.0.0.1:0")
	g := open(t, address, options(true))
	defer g.Close()
	conn := dial(t, address)
	header := func(bits, questions uint16, rest string) []byte {
		b := binary.BigEndian.AppendUint16(nil, 4711)
		b = binary.BigEndian.AppendUint16(b, bits)
		b = binary.BigEndian.AppendUint16(b, questions)
		return append(append(b, make([]byte, 6)...), rest...)
	}
	for _, c := range []struct {
		what   string
		packet []byte
		rcode  int // -1 for no reply
	}{
		{"nothing", nil, -1},
		{"a short packet", []byte("short"), -1},
		{"a reply", header(0x8000, 1, "\x04slow\x00\x00\x01\x00\x01"), -1},
		{"a cut name", header(0, 1, "\x04sl"), dns.RcodeFormatError},
		{"two questions", header(0, 2, "\x04slow\x00\x00\x01\x00\x01"), dns.RcodeFormatError},
		{"an update", header(5<<11, 1, "\x04slow\x00\x00\x01\x00\x01"), dns.RcodeNotImplemented},
		{"a long packet", header(0, 1, "\x04slow\x00\x00\x01\x00\x01"+strings.Repeat("x", 60000)), dns.RcodeSuccess},
		{"a long name", header(0, 1, "\x04slow"+strings.Repeat("\x3f"+strings.Repeat("x", 63), 9)+"\x00\x00\x01\x00\x01"), dns.RcodeFormatError},
	} {
		if _, err := conn.Write(c.packet); err != nil {
			t.Fatal(err)
		}
		if c.rcode < 0 {
			continue
		}
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		reply := make([]byte, 1000)
		n, err := conn.Read(reply)
		if err != nil || n < headerSize || binary.BigEndian.Uint16(reply) != 4711 || int(reply[3]&15) != c.rcode {
			t.Errorf("%s: %x, %v; want the code %d", c.what, reply[:n], err, c.rcode)
		}
	}
	if who := ask(t, conn, 1, question(1)); who != byAnswerer {
		t.Errorf("then %d answers", who)
	}
}

// TestOverload gives the chain more than may be in it and wait. The oldest are dropped and counted, the newest are
// answered.
func TestOverload(t *testing.T) {
	const working, waiting, extra = 20, 10, 30
	entered, release := make(chan bool, working), make(chan struct{})
	var dropped atomic.Int64
	var served sync.Map
	c := newChain(Options{
		Dropped: func() { dropped.Add(1) },
		Chain: func(_ dns.ResponseWriter, r *dns.Msg) {
			served.Store(r.Question[0].Name, true)
			select {
			case entered <- true:
				<-release
			default: // all that fill the chain have come
			}
		},
	}, working, waiting)
	add := func(i int) {
		packet, err := new(dns.Msg).SetQuestion(fmt.Sprintf("n%d.", i), dns.TypeA).Pack()
		if err != nil {
			t.Fatal(err)
		}
		c.add(packet, client{})
	}
	for i := range working {
		add(i)
		waitFor(t, func() bool { return len(entered) == i+1 })
	}
	for i := range waiting + extra {
		add(working + i)
	}
	if n := dropped.Load(); n != extra {
		t.Errorf("%d are dropped, want %d", n, extra)
	}
	close(release)
	c.wait(10 * time.Second)
	for i := range working + waiting + extra {
		_, done := served.Load(fmt.Sprintf("n%d.", i))
		if want := i < working || i >= working+extra; done != want {
			t.Errorf("query %d is served: %v, want %v", i, done, want)
		}
	}
}

// TestReaderAllocates demands that queries which the Answerer answers allocate nothing on their way.
func TestReaderAllocates(t *testing.T) {
	address := standIn(t, "127.0.0.1:0")
	defer open(t, address, options(false)).Close()
	conn, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	packet, reply := question(1), make([]byte, 512)
	once := func() {
		conn.Write(packet)
		if _, err := conn.Read(reply); err != nil {
			t.Fatal(err)
		}
	}
	once()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const queries = 2000
	for range queries {
		once()
	}
	runtime.ReadMemStats(&after)
	if n := after.Mallocs - before.Mallocs; n > queries/10 {
		t.Errorf("%d allocations for %d queries", n, queries)
	}
}
