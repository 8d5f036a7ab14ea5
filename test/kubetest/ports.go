package kubetest

import (
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

// given has the ports that this process has been told are free.
var given sync.Map

// FreePort returns a port of the loopback that nobody has, for TCP or UDP, and that
// nobody comes by who only connects: those have their ports from 32768 on
// (ip_local_port_range, ip(7)).
func FreePort(t testing.TB) string {
	t.Helper()
	for range 1000 {
		port := strconv.Itoa(20_000 + rand.IntN(12_000))
		tcp, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
		if err != nil {
			continue
		}
		tcp.Close()
		udp, err := net.ListenPacket("udp", net.JoinHostPort("127.0.0.1", port))
		if err != nil {
			continue
		}
		udp.Close()
		if _, taken := given.LoadOrStore(port, true); !taken {
			return port
		}
	}
	t.Fatal("no port from 20000 to 31999 is free")
	return ""
}

func freeAddress(t testing.TB) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", FreePort(t))
}
