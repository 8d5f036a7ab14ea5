package fastpath

import (
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// at has the addresses that a server may bind, and where clients reach it then.
var at = []struct {
	name, bind string
	hosts      []string
}{
	{"IPv4", "127.0.0.1:0", []string{"127.0.0.1"}},
	{"IPv6", "[::1]:0", []string{"::1"}},
	{"wildcard", ":0", []string{"127.0.0.1", "127.0.0.2", "::1"}},
	{"wildcard of IPv4", "0.0.0.0:0", []string{"127.0.0.1", "::1"}},
}

// Ours get every packet, whatever CPU receives it, and CoreDNS's all of them afterwards.
func TestSteering(t *testing.T) {
	for _, c := range at {
		t.Run(c.name, func(t *testing.T) {
			address := standIn(t, c.bind)
			_, port, _ := net.SplitHostPort(address)
			everywhere := func(want int) {
				t.Helper()
				for _, host := range c.hosts {
					onCPU(t, func() {
						for id := range uint16(32) {
							if who := ask(t, dial(t, net.JoinHostPort(host, port)), id, question(1)); who != want {
								t.Fatalf("%d has answered, want %d", who, want)
							}
						}
					})
				}
			}
			everywhere(byServer)
			for _, threads := range []int{1, 2, 5} {
				o := options(false)
				o.Threads = threads
				g := open(t, address, o)
				everywhere(byAnswerer)
				g.Close()
				everywhere(byServer)
			}
		})
	}
}

// The kernel takes the program for the place of each socket that it names.
func TestSteeringToPlaces(t *testing.T) {
	const sockets = 5
	first := bind(t, "127.0.0.1:0")
	conns := []*net.UDPConn{first}
	for len(conns) < sockets {
		conns = append(conns, bind(t, first.LocalAddr().String()))
	}
	for _, c := range conns {
		defer c.Close()
	}
	raw, err := first.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for _, places := range [][]int{{0}, {4}, {1, 2}, {0, 4}, {3, 1, 2}, {4, 3, 2, 1, 0}} {
		t.Run(fmt.Sprint(places), func(t *testing.T) {
			var err error
			raw.Control(func(fd uintptr) { err = steer(int(fd), places) })
			if err != nil {
				t.Fatal(err)
			}
			onCPU(t, func() {
				var cpu int
				if cpu, err = currentCPU(); err != nil {
					t.Fatal(err)
				}
				for range 8 {
					if _, err := dial(t, first.LocalAddr().String()).Write([]byte("packet")); err != nil {
						t.Fatal(err)
					}
				}
				settle()
				got := received(conns)
				want := make([]int, sockets)
				want[places[cpu%len(places)]] = 8
				if !slices.Equal(got, want) {
					t.Errorf("CPU %d: the sockets have received %v, want %v", cpu, got, want)
				}
			})
		})
	}
}

// received reads what waits in sockets.
func received(conns []*net.UDPConn) (counts []int) {
	for _, c := range conns {
		n := 0
		for c.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); ; n++ {
			if _, err := c.Read(make([]byte, 64)); err != nil {
				break
			}
		}
		counts = append(counts, n)
	}
	return counts
}

func currentCPU() (int, error) {
	var set unix.CPUSet
	err := unix.SchedGetaffinity(0, &set)
	for cpu := range len(set) * 64 {
		if set.IsSet(cpu) {
			return cpu, err
		}
	}
	return 0, err
}

func TestNoServer(t *testing.T) {
	conn := bind(t, "127.0.0.1:0")
	address := conn.LocalAddr().String()
	conn.Close()
	if g, err := Open(address, options(false)); err == nil {
		g.Close()
		t.Error("opened where no server has a socket")
	}
	if len(all.at) != 0 {
		t.Errorf("left behind: %v", all.at)
	}
}
