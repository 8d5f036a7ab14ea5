// Package commits watches, for measurements, what anybody commits to nf_tables in a
// network namespace: when the kernel holds a change (Watch), and how long a writer waits
// for others (Wait).
package commits

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clusterip/clusterip/kernelnat/netlab"
	"golang.org/x/sys/unix"
)

// Marks is how many marks there are.
const Marks = 1 << 16

// marked are the first bytes of the addresses that are marks.
var marked = [2]byte{10, 44}

// Mark returns an address by which a change can be told from others in the kernel: an
// endpoint at that address is in some message of the commit that brings it, whether that is
// a rule or an element. Numbers are taken modulo Marks.
func Mark(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{marked[0], marked[1], byte(n >> 8), byte(n)})
}

// Commit is a transaction that has changed something.
type Commit struct {
	// At is when this process was told of it, which is after it is in force.
	At time.Time
	// Marks are the numbers of the marks that came or went with it. One may be there
	// several times.
	Marks []int
}

// received is how much the kernel keeps of what it tells until it is read. A commit of
// 100,000 rules tells some 100 MB at once.
const received = 512 << 20

// Watch calls a function for each commit in a namespace from now on, in order and in a
// goroutine of its own, until the test ends. The test fails where something was missed.
func Watch(t testing.TB, namespace *netlab.Namespace, each func(Commit)) {
	t.Helper()
	fd, err := listen(namespace)
	if err != nil {
		t.Fatalf("watch nf_tables: %v", err)
	}
	var over atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := read(fd, &over, each); err != nil {
			t.Errorf("watch nf_tables: %v", err)
		}
	}()
	t.Cleanup(func() {
		over.Store(true)
		<-done
		unix.Close(fd)
	})
}

func listen(namespace *netlab.Namespace) (fd int, err error) {
	err = namespace.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
		return err
	})
	if err != nil {
		return 0, err
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, received),
		// So that it is noticed when it is over.
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}),
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (unix.NFNLGRP_NFTABLES - 1)}))
	if err != nil {
		unix.Close(fd)
	}
	return fd, err
}

func read(fd int, over *atomic.Bool, each func(Commit)) error {
	buffer := make([]byte, 1<<18)
	var marks []int
	for !over.Load() {
		n, _, err := unix.Recvfrom(fd, buffer, 0)
		at := time.Now()
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		for rest := buffer[:n]; len(rest) > 0; {
			var kind uint16
			var message []byte
			if kind, message, rest, err = next(rest); err != nil {
				return err
			}
			if kind != unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN {
				marks = appendMarks(marks, message)
				continue
			}
			each(Commit{at, marks})
			marks = nil
		}
	}
	return nil
}

// next takes the first of several messages.
func next(b []byte) (kind uint16, message, rest []byte, err error) {
	if len(b) < unix.NLMSG_HDRLEN {
		return 0, nil, nil, fmt.Errorf("a message of %d bytes", len(b))
	}
	length := int(binary.NativeEndian.Uint32(b))
	if length < unix.NLMSG_HDRLEN || length > len(b) {
		return 0, nil, nil, fmt.Errorf("a message of %d bytes, of which %d are there", length, len(b))
	}
	aligned := min((length+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1), len(b))
	return binary.NativeEndian.Uint16(b[4:]), b[unix.NLMSG_HDRLEN:length], b[aligned:], nil
}

// appendMarks looks for marks wherever they may be: rules of iptables have them in what
// belongs to the target, elements in their data, and both as four bytes in a row.
func appendMarks(marks []int, message []byte) []int {
	for i := 0; i+4 <= len(message); i++ {
		if message[i] == marked[0] && message[i+1] == marked[1] {
			marks = append(marks, int(message[i+2])<<8|int(message[i+3]))
		}
	}
	return marks
}
