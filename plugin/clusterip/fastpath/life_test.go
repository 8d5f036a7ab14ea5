package fastpath

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// load is 128 clients that ask one query after another, at most so many a second together.
type load struct {
	t       testing.TB
	stop    chan struct{}
	clients sync.WaitGroup

	asked, lost, twice atomic.Uint64
	by                 [16]atomic.Uint64 // replies by who has answered
}

const (
	clients = 128
	rate    = 20_000 // queries a second of all clients
)

// start starts clients, which take turns with the addresses that they ask. They know a reply to a query that is answered
// already from one to a query that is not, since a socket has one query on its way at a time.
func start(t testing.TB, hosts []string, port string) *load {
	t.Helper()
	l := &load{t: t, stop: make(chan struct{})}
	for i := range clients {
		conn := dial(t, net.JoinHostPort(hosts[i%len(hosts)], port))
		l.clients.Go(func() { l.ask(conn, question(1+i%2)) })
	}
	return l
}

func (l *load) ask(conn *net.UDPConn, query []byte) {
	next := time.Now()
	for id := uint16(0); ; id++ {
		select {
		case <-l.stop:
			l.late(conn)
			return
		default:
		}
		time.Sleep(time.Until(next))
		next = next.Add(clients * time.Second / rate)
		if behind := time.Now(); next.Before(behind) {
			next = behind
		}
		binary.BigEndian.PutUint16(query, id)
		if _, err := conn.Write(query); err != nil {
			l.t.Errorf("asking: %v", err)
			return
		}
		l.asked.Add(1)
		l.await(conn, id)
	}
}

// await reads until the reply to a query has come.
func (l *load) await(conn *net.UDPConn, id uint16) {
	var reply [512]byte
	conn.SetReadDeadline(time.Now().Add(3 * time.Second))
	for {
		n, err := conn.Read(reply[:])
		if err != nil || n < headerSize {
			l.lost.Add(1)
			return
		}
		if binary.BigEndian.Uint16(reply[:]) == id {
			l.by[reply[2]>>3&0xf].Add(1)
			return
		}
		l.twice.Add(1)
	}
}

// late counts replies that nobody waits for.
func (l *load) late(conn *net.UDPConn) {
	conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	for {
		if _, err := conn.Read(make([]byte, 512)); err != nil {
			return
		}
		l.twice.Add(1)
	}
}

// some waits until somebody has answered that many queries more.
func (l *load) some(who int, n uint64) {
	l.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for want := l.by[who].Load() + n; l.by[who].Load() < want; {
		if time.Now().After(deadline) {
			l.t.Fatalf("%d answers nothing", who)
		}
		time.Sleep(time.Millisecond)
	}
}

// end stops the clients and checks that each query had one reply.
func (l *load) end() {
	l.t.Helper()
	close(l.stop)
	l.clients.Wait()
	if lost, twice := l.lost.Load(), l.twice.Load(); lost > 0 || twice > 0 {
		l.t.Errorf("of %d queries, %d were lost and %d answered twice", l.asked.Load(), lost, twice)
	}
	l.t.Logf("%d queries: %d answered by the fast path, %d by the chain, %d by the server",
		l.asked.Load(), l.by[byAnswerer].Load(), l.by[byChain].Load(), l.by[byServer].Load())
}

// No query is lost or answered twice when a new server takes over from the old one, with more threads, fewer or as many,
// and when one starts or the last one ends.
func TestReloads(t *testing.T) {
	const rounds = 100
	for _, c := range at {
		t.Run(c.name, func(t *testing.T) {
			address := standIn(t, c.bind)
			_, port, _ := net.SplitHostPort(address)
			l := start(t, c.hosts, port)
			l.some(byServer, clients)
			var old *Group
			for round := range rounds {
				o := options(true)
				o.Threads = 1 + round%3
				g := open(t, address, o)
				if old != nil {
					old.Close()
				}
				l.some(byAnswerer, 50)
				l.some(byChain, 50)
				switch old = g; round % 10 {
				case 4: // the new server fails to start
					open(t, address, options(true)).Close()
					l.some(byAnswerer, 50)
				case 9: // the old server stops before the new one has opened
					g.Close()
					old = nil
					l.some(byServer, 50)
				}
			}
			l.end()
			if len(all.at) != 0 {
				t.Errorf("left behind: %v", all.at)
			}
		})
	}
}

// What answers at one address is what was opened last, and what was open before when that closes.
func TestWhoAnswers(t *testing.T) {
	address := standIn(t, "127.0.0.1:0")
	conn := dial(t, address)
	marked := func(who byte) *Group {
		o := options(false)
		o.Threads = int(who)
		o.Answerer = func() Answerer { return opcode(who) }
		return open(t, address, o)
	}
	id := uint16(0)
	expect := func(want int) {
		t.Helper()
		onCPU(t, func() {
			id++
			if who := ask(t, conn, id, question(1)); who != want {
				t.Fatalf("%d has answered, want %d", who, want)
			}
		})
	}
	two := marked(2)
	expect(2)
	four := marked(4)
	expect(4)
	one := marked(1)
	expect(1)
	four.Close()
	expect(1)
	one.Close()
	expect(2)
	two.Close()
	expect(byServer)
	two.Close()
}

// opcode answers with itself as the opcode.
type opcode byte

func (o opcode) Answer(reply, query []byte, _ netip.AddrPort) ([]byte, bool) {
	start := len(reply)
	reply = append(reply, query...)
	reply[start+2] |= 0x80 | byte(o)<<3
	return reply, true
}

func (opcode) Flush(time.Duration) {}

// If CoreDNS has other sockets than when ours were opened, their places are not known.
func TestOtherSockets(t *testing.T) {
	address := standIn(t, "127.0.0.1:0")
	open(t, address, options(false))
	second := bind(t, address)
	if g, err := Open(address, options(false)); err == nil {
		g.Close()
		t.Error("opened beside a socket that has come in between")
	}
	if who := ask(t, dial(t, address), 1, question(1)); who != byAnswerer {
		t.Errorf("%d has answered", who)
	}
	second.Close()
	open(t, address, options(false)).Close()
}

// CoreDNS has several sockets with the plugin multisocket. They share what comes after ours have closed.
func TestSeveralServers(t *testing.T) {
	address := standIn(t, "127.0.0.1:0")
	standIn(t, address)
	g := open(t, address, options(false))
	l := start(t, []string{"127.0.0.1"}, address[len("127.0.0.1:"):])
	l.some(byAnswerer, 1000)
	if n := l.by[byServer].Load(); n > 0 {
		t.Errorf("the server has got %d", n)
	}
	g.Close()
	l.some(byServer, 1000)
	l.end()
}

// A thread whose answerer panics has the chain answer the query that did it, and gets no more of them.
func TestPanic(t *testing.T) {
	address := standIn(t, "127.0.0.1:0")
	o := options(false)
	o.Answerer = func() Answerer { return fragile{} }
	open(t, address, o)
	bad, good := question(13), question(1)
	for n := range uint16(8) {
		onCPU(t, func() {
			conn := dial(t, address)
			if who := ask(t, conn, n, bad); who != byChain && who != byServer {
				t.Fatalf("%d has answered", who)
			}
			ask(t, conn, n, good)
		})
	}
	waitFor(t, func() bool { return ask(t, dial(t, address), 1, good) == byServer })
}

type fragile struct{ echo }

func (f fragile) Answer(reply, query []byte, from netip.AddrPort) ([]byte, bool) {
	if query[headerSize] == 13 {
		panic("a bad query")
	}
	return f.echo.Answer(reply, query, from)
}

func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain")
		}
	}
}

// A thread whose socket fails steps aside, and no other loses a query.
func TestSocketFails(t *testing.T) {
	address := standIn(t, "127.0.0.1:0")
	g := open(t, address, options(false))
	failing := g.sockets.readers[1]
	l := start(t, []string{"127.0.0.1"}, address[len("127.0.0.1:"):])
	l.some(byAnswerer, 1000)
	g.sockets.stepAside(failing, os.ErrInvalid)
	settle()
	failing.drain()
	g.sockets.stepAside(g.sockets.readers[0], os.ErrInvalid)
	l.some(byServer, 1000)
	l.end()
	if got := fmt.Sprint(failing.aside, g.sockets.readers[0].aside); got != "true true" {
		t.Error(got)
	}
}
