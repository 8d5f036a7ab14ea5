package hostaddrs

import (
	"fmt"
	"net/netip"
	"os"

	"github.com/prometheus/procfs"
)

// Socket is one that listens or, with UDP, is bound.
type Socket struct {
	UDP   bool
	At    netip.AddrPort // IPv4 is never in IPv6 form
	Inode uint64
}

// The states of such a socket (tcp_states.h; UDP uses them too).
const (
	tcpListen = 10
	udpBound  = 7
)

// Sockets returns those at some ports, in the network namespace of the calling thread. It reads a line
// for each socket that there is.
func Sockets(ports map[uint16]bool) (out []Socket, err error) {
	proc, err := procfs.NewFS("/proc/thread-self") // /proc/net is that of the first thread
	if err != nil {
		return nil, fmt.Errorf("look at sockets: %w", err)
	}
	add := func(udp bool, addr []byte, port, inode uint64) {
		if ip, ok := netip.AddrFromSlice(addr); ok && ports[uint16(port)] {
			out = append(out, Socket{udp, netip.AddrPortFrom(ip.Unmap(), uint16(port)), inode})
		}
	}
	//nolint:staticcheck // deprecated, but what is to take its place needs a module of the kernel, tcp_diag, and asking for it loads that
	for _, read := range []func() (procfs.NetTCP, error){proc.NetTCP, proc.NetTCP6} {
		list, err := read()
		if err != nil && !os.IsNotExist(err) { // IPv6 may be off
			return nil, fmt.Errorf("look at TCP sockets: %w", err)
		}
		for _, s := range list {
			if s.St == tcpListen {
				add(false, s.LocalAddr, s.LocalPort, s.Inode)
			}
		}
	}
	for _, read := range []func() (procfs.NetUDP, error){proc.NetUDP, proc.NetUDP6} {
		list, err := read()
		if err != nil && !os.IsNotExist(err) {
			return nil, fmt.Errorf("look at UDP sockets: %w", err)
		}
		for _, s := range list {
			if s.St == udpBound {
				add(true, s.LocalAddr, s.LocalPort, s.Inode)
			}
		}
	}
	return out, nil
}
