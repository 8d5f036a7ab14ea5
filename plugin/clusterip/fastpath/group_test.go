package fastpath

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin/pkg/reuseport"
	"github.com/miekg/dns"
)

// echo answers what the fast path is to answer, with the query itself as the reply and an
// RCODE that tells who answered.
type echo struct{ flushed atomic.Int64 }

const (
	byFast  = 11
	byChain = 12
	byStock = 13
)

func (e *echo) Answer(reply, query []byte, _ netip.AddrPort) ([]byte, bool) {
	if len(query) < 14 || query[12] == 4 { // a name that begins with four letters is for the chain
		return reply, false
	}
	start := len(reply)
	reply = append(reply, query...)
	reply[start+2] |= 0x80
	reply[start+3] = byFast
	return reply, true
}

func (e *echo) Flush(time.Duration) { e.flushed.Add(1) }

func rcodeHandler(rcode int) dns.HandlerFunc {
	return func(w dns.ResponseWriter, r *dns.Msg) { w.WriteMsg(new(dns.Msg).SetRcode(r, rcode)) }
}

// stock starts a server at an address of which CoreDNS's server could be the owner, and
// returns the address with its port.
func stock(t testing.TB, address string) string {
	t.Helper()
	p, err := reuseport.ListenPacket("udp", address)
	if err != nil {
		t.Skip(err)
	}
	started := make(chan struct{})
	server := &dns.Server{PacketConn: p, Handler: rcodeHandler(byStock), NotifyStartedFunc: func() { close(started) }}
	go server.ActivateAndServe()
	<-started
	t.Cleanup(func() { server.Shutdown() })
	host, _, _ := net.SplitHostPort(address)
	_, port, _ := net.SplitHostPort(p.LocalAddr().String())
	return net.JoinHostPort(host, port)
}

func openGroup(t testing.TB, address string, threads int) *Group {
	t.Helper()
	g, err := Open(address, Options{
		Threads: threads, Answerer: func() Answerer { return new(echo) }, Chain: rcodeHandler(byChain),
		Failed: func(err error) { t.Error(err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func ask(t testing.TB, server, name string) (rcode int) {
	t.Helper()
	m, _, err := new(dns.Client).Exchange(new(dns.Msg).SetQuestion(name, dns.TypeA), server)
	if err != nil {
		t.Fatalf("%s at %s: %v", name, server, err)
	}
	return m.Rcode
}

// everyAddress runs a test at addresses of all kinds. It is given where the server listens,
// and where clients send to.
func everyAddress(t *testing.T, test func(t *testing.T, listen string, clients []string)) {
	for _, host := range []string{"127.0.0.1", "::1", "", "0.0.0.0", "::"} {
		t.Run("host "+host, func(t *testing.T) {
			address := stock(t, net.JoinHostPort(host, "0"))
			_, port, _ := net.SplitHostPort(address)
			clients := []string{host}
			switch host {
			case "", "::":
				clients = []string{"127.0.0.1", "127.0.0.2", "::1"}
			case "0.0.0.0":
				clients = []string{"127.0.0.1", "127.0.0.2"}
			}
			for i := range clients {
				clients[i] = net.JoinHostPort(clients[i], port)
			}
			test(t, address, clients)
		})
	}
}

// TestWhoAnswers asks before, while and after there is a fast path. Clients take replies only
// from where they sent to.
func TestWhoAnswers(t *testing.T) {
	everyAddress(t, func(t *testing.T, listen string, clients []string) {
		expect := func(fast, chain int) {
			t.Helper()
			for _, server := range clients {
				for range 20 { // from ports of all kinds
					if got := ask(t, server, "fast.example."[1:]); got != fast {
						t.Fatalf("%s answers %d, want %d", server, got, fast)
					}
				}
				if got := ask(t, server, "slow.example."); got != chain {
					t.Fatalf("%s answers %d by the chain, want %d", server, got, chain)
				}
			}
		}
		expect(byStock, byStock)
		first := openGroup(t, listen, 3)
		expect(byFast, byChain)
		second := openGroup(t, listen, 2)
		expect(byFast, byChain)
		first.Close()
		expect(byFast, byChain)
		third := openGroup(t, listen, 4)
		third.Close() // as when a reload fails
		expect(byFast, byChain)
		second.Close()
		expect(byStock, byStock)
	})
}

// TestBadQueries sends what the chain cannot serve. Some get a reply, all are survived.
func TestBadQueries(t *testing.T) {
	server := stock(t, "127.0.0.1:0")
	defer openGroup(t, server, 1).Close()
	conn, err := net.Dial("udp", server)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
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
		{"a long packet", header(0, 1, "\x04slow\x00\x00\x01\x00\x01"+strings.Repeat("x", 60000)), byChain},
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
		if err != nil || n < 12 || binary.BigEndian.Uint16(reply) != 4711 || int(reply[3]&15) != c.rcode {
			t.Errorf("%s: %x, %v; want the code %d", c.what, reply[:n], err, c.rcode)
		}
	}
	if got := ask(t, server, "ast.example."); got != byFast {
		t.Errorf("then the answer is %d", got)
	}
}

// TestNothingIsLost opens and closes Groups under load, as reloads do. Every query must have
// exactly one reply.
func TestNothingIsLost(t *testing.T) {
	const rounds = 30
	everyAddress(t, func(t *testing.T, listen string, clients []string) {
		load := startLoad(t, clients, 64, 10_000)
		var current *Group
		for i := range rounds {
			next := openGroup(t, listen, 1+i%4)
			if current != nil {
				if i%5 == 4 { // a reload that fails
					next.Close()
					continue
				}
				current.Close()
			}
			current = next
		}
		current.Close()
		sent, lost, twice := load.stop()
		if t.Logf("%d queries", sent); lost > 0 || twice > 0 || sent < 1000 {
			t.Errorf("of %d queries %d are lost, %d answered twice", sent, lost, twice)
		}
	})
}

// load is queries that are sent at a rate from several sockets.
type load struct {
	conns   []net.Conn
	ending  chan struct{}
	senders sync.WaitGroup
	sent    atomic.Int64
	got     []map[uint16]int // replies by ID, by socket
	asked   []int
	readers sync.WaitGroup
}

func startLoad(t *testing.T, servers []string, sockets, rate int) *load {
	t.Helper()
	l := &load{ending: make(chan struct{}), asked: make([]int, sockets)}
	for i := range sockets {
		conn, err := net.Dial("udp", servers[i%len(servers)])
		if err != nil {
			t.Fatal(err)
		}
		l.conns, l.got = append(l.conns, conn), append(l.got, make(map[uint16]int))
		l.readers.Add(1)
		go func() {
			defer l.readers.Done()
			reply := make([]byte, 512)
			for {
				n, err := conn.Read(reply)
				if err != nil {
					return
				}
				if n >= 12 {
					l.got[i][binary.BigEndian.Uint16(reply)]++
				}
			}
		}()
	}
	l.senders.Add(1)
	go func() {
		defer l.senders.Done()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for n := 0; ; {
			select {
			case <-l.ending:
				return
			case <-tick.C:
			}
			for range rate / 1000 {
				i := n % sockets
				if l.asked[i] == 60_000 {
					return // IDs are used once
				}
				packet := binary.BigEndian.AppendUint16(nil, uint16(l.asked[i]))
				name := "\x03abc" // for the fast path
				if n%10 == 0 {
					name = "\x04slow"
				}
				packet = append(packet, []byte("\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00"+name+"\x00\x00\x01\x00\x01")...)
				if _, err := l.conns[i].Write(packet); err == nil {
					l.asked[i]++
					l.sent.Add(1)
				}
				n++
			}
		}
	}()
	return l
}

// stop ends the load, and waits for replies as long as they come.
func (l *load) stop() (sent, lost, twice int) {
	close(l.ending)
	l.senders.Wait()
	for _, c := range l.conns {
		c.SetReadDeadline(time.Now().Add(2 * time.Second))
	}
	l.readers.Wait()
	for i, got := range l.got {
		l.conns[i].Close()
		for id := range l.asked[i] {
			switch n := got[uint16(id)]; {
			case n == 0:
				lost++
			case n > 1:
				twice++
			}
		}
	}
	return int(l.sent.Load()), lost, twice
}

// TestReaderAllocates sends batches through a reader and demands that queries which the fast
// path answers allocate nothing.
func TestReaderAllocates(t *testing.T) {
	server := stock(t, "127.0.0.1:0")
	g := openGroup(t, server, 1)
	defer g.Close()
	conn, err := net.Dial("udp", server)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	packet, _ := new(dns.Msg).SetQuestion("abc.", dns.TypeA).Pack()
	reply := make([]byte, 512)
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

// TestOverload has the chain serve more than it may at once. The oldest are dropped and
// counted, the newest are served.
func TestOverload(t *testing.T) {
	release := make(chan struct{})
	var dropped atomic.Int64
	var served sync.Map
	c := newChain(Options{
		Chain: func(_ dns.ResponseWriter, r *dns.Msg) {
			<-release
			served.Store(r.Question[0].Name, true)
		},
		Dropped: func() { dropped.Add(1) },
	})
	const extra = 300
	for i := range maxServing + maxWaiting + extra {
		packet, err := new(dns.Msg).SetQuestion(fmt.Sprintf("n%d.", i), dns.TypeA).Pack()
		if err != nil {
			t.Fatal(err)
		}
		c.take(query{packet: packet})
	}
	close(release)
	c.wait(10 * time.Second)
	if n := dropped.Load(); n != extra {
		t.Errorf("%d are dropped, want %d", n, extra)
	}
	for i := range maxServing + maxWaiting + extra {
		_, done := served.Load(fmt.Sprintf("n%d.", i))
		if want := i < maxServing || i >= maxServing+extra; done != want {
			t.Fatalf("query %d is served: %v, want %v", i, done, want)
		}
	}
}
