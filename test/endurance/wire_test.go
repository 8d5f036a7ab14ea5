package endurance

import (
	"errors"
	"fmt"
	"net"
	"time"
	"unsafe"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/netlab"
	"golang.org/x/sys/unix"
)

// Sizes of a wire: frames at a time, and bytes of one.
const (
	chunk    = 64
	maxFrame = 2048
)

// wire sends and receives the frames of one IP family on a host's uplink, past the host's
// own IP. It receives only what comes in. It is for one goroutine.
type wire struct {
	fd       int
	mac      net.HardwareAddr
	received batch
	sent     batch
}

// batch is the messages of sendmmsg(2) and recvmmsg(2).
type batch struct {
	buffers [chunk][maxFrame]byte
	vectors [chunk]unix.Iovec
	headers [chunk]message
}

// message is struct mmsghdr.
type message struct {
	header unix.Msghdr
	length uint32
}

// idle is how long a wire waits for a frame.
const idle = 50 * time.Millisecond

func openWire(host *netlab.Host, family cluster.Family) (*wire, error) {
	w := new(wire)
	protocol := uint16(unix.ETH_P_IP)
	if family == cluster.IPv6 {
		protocol = unix.ETH_P_IPV6
	}
	protocol = protocol<<8 | protocol>>8
	err := host.Do(func() (err error) {
		link, err := net.InterfaceByName(netlab.Uplink)
		if err != nil {
			return err
		}
		w.mac = link.HardwareAddr
		if w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(protocol)); err != nil {
			return err
		}
		timeout := unix.NsecToTimeval(idle.Nanoseconds())
		return errors.Join(
			unix.SetsockoptInt(w.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20),
			unix.SetsockoptInt(w.fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1),
			unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
			unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: link.Index}),
		)
	})
	if err != nil {
		return nil, fmt.Errorf("open a packet socket in %s: %w", host.Name, err)
	}
	for _, b := range []*batch{&w.received, &w.sent} {
		for i := range chunk {
			b.vectors[i].Base = &b.buffers[i][0]
			b.headers[i].header.Iov = &b.vectors[i]
			b.headers[i].header.Iovlen = 1
		}
	}
	return w, nil
}

func (w *wire) close() error { return unix.Close(w.fd) }

// receive returns frames that have come, which are valid until the next call. If there are
// none it waits for one for a moment, if it may.
func (w *wire) receive(wait bool) ([][]byte, error) {
	b := &w.received
	for i := range chunk {
		b.vectors[i].SetLen(maxFrame)
	}
	flags := unix.MSG_DONTWAIT
	if wait {
		flags = unix.MSG_WAITFORONE
	}
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(w.fd), uintptr(unsafe.Pointer(&b.headers[0])), chunk, uintptr(flags), 0, 0)
	switch errno {
	case 0:
	case unix.EAGAIN, unix.EINTR:
		return nil, nil
	default:
		return nil, fmt.Errorf("receive frames: %w", errno)
	}
	out := make([][]byte, n)
	for i := range out {
		out[i] = b.buffers[i][:b.headers[i].length]
	}
	return out, nil
}

// send sends n frames, at most chunk, that fill writes one after the other.
func (w *wire) send(n int, fill func(i int, frame []byte) (length int)) error {
	b := &w.sent
	for i := range n {
		b.vectors[i].SetLen(fill(i, b.buffers[i][:]))
	}
	for at := 0; at < n; {
		sent, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(w.fd), uintptr(unsafe.Pointer(&b.headers[at])), uintptr(n-at), 0, 0, 0)
		switch errno {
		case 0:
			at += int(sent)
		case unix.EINTR, unix.ENOBUFS, unix.EAGAIN:
		default:
			return fmt.Errorf("send frames: %w", errno)
		}
	}
	return nil
}
