package fastpath

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// Who has answered is the opcode of a reply: nobody else minds it.
const (
	byAnswerer = 0
	byChain    = 8
	byServer   = 9
)

// bind binds a socket as CoreDNS does.
func bind(t testing.TB, address string) *net.UDPConn {
	t.Helper()
	listen := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
	}}
	conn, err := listen.ListenPacket(context.Background(), "udp", address)
	if err != nil {
		t.Skipf("binding %s: %v", address, err)
	}
	return conn.(*net.UDPConn)
}

// standIn stands for CoreDNS's server. It returns its address.
func standIn(t testing.TB, address string) string {
	t.Helper()
	conn := bind(t, address)
	started := make(chan struct{})
	server := &dns.Server{PacketConn: conn, NotifyStartedFunc: func() { close(started) }, Handler: handler(byServer)}
	var done sync.WaitGroup
	done.Go(func() { server.ActivateAndServe() })
	<-started
	t.Cleanup(func() { server.Shutdown(); done.Wait() })
	_, port, _ := net.SplitHostPort(conn.LocalAddr().String())
	host, _, _ := net.SplitHostPort(address)
	return net.JoinHostPort(host, port)
}

func handler(who int) dns.HandlerFunc {
	return func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		m.Opcode = who
		w.WriteMsg(m)
	}
}

// echo answers every query with itself. Names of an even length it leaves to the chain if it is picky.
type echo struct{ picky bool }

func (e echo) Answer(reply, query []byte, _ netip.AddrPort) ([]byte, bool) {
	if len(query) < headerSize || e.picky && query[headerSize]%2 == 0 {
		return nil, false
	}
	start := len(reply)
	reply = append(reply, query...)
	reply[start+2] |= 0x80
	return reply, true
}

func (echo) Flush(time.Duration) {}

func options(picky bool) Options {
	return Options{Threads: 2, Answerer: func() Answerer { return echo{picky} }, Chain: handler(byChain)}
}

func open(t testing.TB, address string, o Options) *Group {
	t.Helper()
	g, err := Open(address, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// question is a query for a name whose first label has the given length.
func question(length int) []byte {
	label := make([]byte, length)
	for i := range label {
		label[i] = 'a'
	}
	data, err := new(dns.Msg).SetQuestion(string(label)+".example.", dns.TypeA).Pack()
	if err != nil {
		panic(err)
	}
	return data
}

func dial(t testing.TB, address string) *net.UDPConn {
	t.Helper()
	conn, err := net.Dial("udp", address)
	if err != nil {
		t.Skipf("dialing %s: %v", address, err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.UDPConn)
}

// ask sends a query and returns who has answered it.
func ask(t testing.TB, conn net.Conn, id uint16, query []byte) int {
	t.Helper()
	binary.BigEndian.PutUint16(query, id)
	if _, err := conn.Write(query); err != nil {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	var reply [4096]byte
	n, err := conn.Read(reply[:])
	if err != nil {
		t.Fatal(err)
	}
	if n < headerSize || binary.BigEndian.Uint16(reply[:]) != id {
		t.Fatalf("the reply to query %d is %x", id, reply[:n])
	}
	return int(reply[2]>>3) & 0xf
}

// onCPU runs a function on each CPU that this process may use.
func onCPU(t testing.TB, do func()) {
	t.Helper()
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer unix.SchedSetaffinity(0, &allowed)
	for cpu := range len(allowed) * 64 {
		if !allowed.IsSet(cpu) {
			continue
		}
		var one unix.CPUSet
		one.Set(cpu)
		if err := unix.SchedSetaffinity(0, &one); err != nil {
			t.Fatal(err)
		}
		do()
	}
}
