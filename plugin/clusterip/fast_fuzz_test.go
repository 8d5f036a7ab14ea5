package clusterip

import (
	"bytes"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// FuzzFastServer sends any packet to a server with a fast path and to one without. The
// replies say the same, and there is one at most, whether the fast path takes the packet or
// leaves it to the chain.
func FuzzFastServer(f *testing.F) {
	for _, r := range fastQueries() {
		packed, err := r.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packed)
		r.Opcode = dns.OpcodeNotify
		packed, _ = r.Pack()
		f.Add(packed[:len(packed)-1])
	}
	withFast, without := bothWays(f, "errors")
	servers := []string{withFast, without}
	f.Fuzz(func(t *testing.T, packet []byte) {
		if len(packet) > 65507 {
			t.Skip("more than a packet has")
		}
		var conns []net.Conn
		var replies [][]byte
		for _, server := range servers {
			conn, err := net.Dial("udp", server)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conns, replies = append(conns, conn), append(replies, replyTo(t, conn, packet))
		}
		if !sameReply(replies[0], replies[1]) {
			t.Errorf("%x is answered %x, want %x", packet, replies[0], replies[1])
		}
		for i, conn := range conns {
			// A good query comes behind all that there may be: nothing but its reply may come.
			again, err := new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA).Pack()
			if err != nil {
				t.Fatal(err)
			}
			if more := replyTo(t, conn, again); len(more) < 2 || !bytes.Equal(more[:2], again[:2]) {
				t.Errorf("%x has another reply from %s: %x", packet, servers[i], more)
			}
		}
	})
}

// replyTo sends a packet and returns the reply, or nil where a server has none to give: to
// what is too short, or is a reply itself.
func replyTo(t *testing.T, conn net.Conn, packet []byte) []byte {
	t.Helper()
	if _, err := conn.Write(packet); err != nil {
		t.Fatal(err)
	}
	if len(packet) < 12 || packet[2]&0x80 != 0 {
		return nil
	}
	reply := make([]byte, 1<<16)
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, err := conn.Read(reply)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	case err != nil:
		t.Fatal(err)
	}
	return reply[:n]
}

// sameReply compares what two replies say: names may be compressed or not.
func sameReply(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var one, other dns.Msg
	return one.Unpack(a) == nil && other.Unpack(b) == nil && one.String() == other.String()
}
