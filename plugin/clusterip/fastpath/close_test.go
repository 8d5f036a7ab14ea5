package fastpath

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// stuck answers nothing until it is released.
type stuck struct {
	echo
	entered func()
	release chan struct{}
}

func (s stuck) Answer(reply, query []byte, from netip.AddrPort) ([]byte, bool) {
	s.entered()
	<-s.release
	return s.echo.Answer(reply, query, from)
}

// What waits in a socket when its group closes is answered.
func TestCloseDrains(t *testing.T) {
	address := standIn(t, "127.0.0.1:0")
	entered, release := make(chan struct{}), make(chan struct{})
	o := options(false)
	o.Threads = 1
	o.Answerer = func() Answerer { return stuck{echo{}, sync.OnceFunc(func() { close(entered) }), release} }
	g := open(t, address, o)
	conn := dial(t, address)
	const queries = 3*batchSize + 5
	query := question(1)
	for id := range uint16(queries) {
		binary.BigEndian.PutUint16(query, id)
		if _, err := conn.Write(query); err != nil {
			t.Fatal(err)
		}
		if id == 0 {
			<-entered
		}
	}
	closed := make(chan struct{})
	go func() { g.Close(); close(closed) }()
	waitFor(t, func() bool { // Close has the lock, and waits for the reader
		if all.TryLock() {
			all.Unlock()
			return false
		}
		return true
	})
	close(release)
	<-closed
	seen := make(map[uint16]bool)
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	for range queries {
		var reply [512]byte
		if _, err := conn.Read(reply[:]); err != nil {
			t.Fatalf("after %d replies: %v", len(seen), err)
		}
		if who := reply[2] >> 3 & 0xf; who != byAnswerer {
			t.Fatalf("%d has answered", who)
		}
		seen[binary.BigEndian.Uint16(reply[:])] = true
	}
	if len(seen) != queries {
		t.Errorf("%d of %d queries were answered", len(seen), queries)
	}
}

// Close waits for what is in the chain, and its reply is sent.
func TestCloseWaitsForChain(t *testing.T) {
	address := standIn(t, "127.0.0.1:0")
	entered, release := make(chan struct{}), make(chan struct{})
	o := options(true)
	o.Chain = func(w dns.ResponseWriter, r *dns.Msg) {
		close(entered)
		<-release
		handler(byChain)(w, r)
	}
	g := open(t, address, o)
	conn := dial(t, address)
	if _, err := conn.Write(question(2)); err != nil {
		t.Fatal(err)
	}
	<-entered
	closed := make(chan struct{})
	go func() { g.Close(); close(closed) }()
	waitFor(t, func() bool { return ask(t, dial(t, address), 1, question(1)) == byServer })
	select {
	case <-closed:
		t.Error("Close has not waited")
	default:
	}
	close(release)
	<-closed
	var reply [512]byte
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := conn.Read(reply[:]); err != nil || reply[2]>>3&0xf != byChain {
		t.Errorf("the chain's reply is %x: %v", reply[:n], err)
	}
}

// sized answers with as many octets as the query says after the header.
type sized struct{ echo }

func (sized) Answer(reply, query []byte, _ netip.AddrPort) ([]byte, bool) {
	reply = append(reply, query[:headerSize]...)
	return append(reply, make([]byte, int(binary.BigEndian.Uint16(query[headerSize:]))-headerSize)...), true
}

// Replies of all sizes arrive, many in one batch, and one that the kernel does not take stops no other.
func TestReplySizes(t *testing.T) {
	address := standIn(t, "127.0.0.1:0")
	var unsent atomic.Int64
	o := options(false)
	o.Threads, o.Answerer = 1, func() Answerer { return sized{} }
	o.Unsent = func(n int) { unsent.Add(int64(n)) }
	g := open(t, address, o)
	conn := dial(t, address)
	g.sockets.readers[0].mu.Lock() // so that what follows is one batch
	sizes := []uint16{12, 4096, 1232, 65507, 65535, 40000, 512, 4096, 4097, 4096, 4096, 4096, 4096, 4096, 4096, 13}
	for id, size := range sizes {
		query := make([]byte, headerSize+2)
		binary.BigEndian.PutUint16(query, uint16(id))
		binary.BigEndian.PutUint16(query[headerSize:], size)
		if _, err := conn.Write(query); err != nil {
			t.Fatal(err)
		}
	}
	g.sockets.readers[0].mu.Unlock()
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	for id, size := range sizes {
		if size == 65535 {
			continue // more than a packet has
		}
		reply := make([]byte, 1<<16)
		n, err := conn.Read(reply)
		if err != nil || n != int(size) || binary.BigEndian.Uint16(reply) != uint16(id) {
			t.Fatalf("reply %d has %d octets, want %d: %v", id, n, size, err)
		}
	}
	waitFor(t, func() bool { return unsent.Load() == 1 })
}
