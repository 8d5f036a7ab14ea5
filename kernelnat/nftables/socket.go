package nftables

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// socket is a netlink socket that lasts: the kernel takes it for the owner of a table.
type socket struct {
	conn     *netlink.Conn
	raw      syscall.RawConn
	sequence uint32
	buf      []byte
}

// Sizes of a socket's buffers, in bytes. The first holds a transaction, the second the
// answers to it.
const (
	sendBuffer    = 4 << 20
	receiveBuffer = 1 << 20
)

// patience is how long the kernel may take to answer. It answers before sending returns.
const patience = 10 * time.Second

func dial() (*socket, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	raw, err := conn.SyscallConn()
	if err == nil {
		err = errors.Join(conn.SetWriteBuffer(sendBuffer), conn.SetReadBuffer(receiveBuffer))
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("set up a netlink socket: %w", err)
	}
	_ = conn.SetOption(netlink.ExtendedAcknowledge, true) // for better words in errors
	return &socket{conn: conn, raw: raw, buf: make([]byte, 1<<16)}, nil
}

var _ io.Closer = (*socket)(nil)

func (s *socket) Close() error { return s.conn.Close() }

// commit makes a transaction and waits until the kernel has taken it, or refused all of it.
// Another error may leave it either way.
func (s *socket) commit(ctx context.Context, transaction []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	first := s.sequence + 1
	last := s.number(transaction)
	if err := s.send(transaction); err != nil {
		return err
	}
	var refused []error
	// The answers come in the order of the messages, but for one to the first, which is
	// that the kernel has looked at none.
	for {
		answer, err := s.receive()
		if err != nil {
			return errors.Join(append(refused, err)...)
		}
		for _, m := range answer {
			if m.sequence < first {
				continue // to something before, which ended with an error
			}
			if err := m.err(); err != nil {
				refused = append(refused, fmt.Errorf("%s: %w", describe(transaction, m.sequence), err))
			}
			if m.sequence == last || m.sequence == first && m.err() != nil {
				return errors.Join(refused...)
			}
		}
	}
}

// number gives the messages of a transaction their sequence numbers, asks for an answer to
// the last that does something, and returns its number.
func (s *socket) number(transaction []byte) (last uint32) {
	const flags, sequence = 6, 8 // offsets in a header
	previous := 0
	for at := 0; at < len(transaction); {
		s.sequence++
		binary.NativeEndian.PutUint32(transaction[at+sequence:], s.sequence)
		next := at + int(binary.NativeEndian.Uint32(transaction[at:]))
		if next == len(transaction) {
			break
		}
		previous, at = at, next
	}
	f := binary.NativeEndian.Uint16(transaction[previous+flags:])
	binary.NativeEndian.PutUint16(transaction[previous+flags:], f|unix.NLM_F_ACK)
	return s.sequence - 1
}

// send hands messages to the kernel, which works on them before it returns.
func (s *socket) send(b []byte) error {
	var err error
	waited := s.raw.Write(func(fd uintptr) bool {
		for {
			err = unix.Sendto(int(fd), b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
			if !errors.Is(err, unix.EINTR) {
				return !errors.Is(err, unix.EAGAIN)
			}
		}
	})
	if err = errors.Join(waited, err); err != nil {
		return fmt.Errorf("send %d bytes to nf_tables: %w", len(b), err)
	}
	return nil
}

// answer is a message of the kernel.
type answer struct {
	kind, flags uint16
	sequence    uint32
	body        []byte // valid until the next is received
}

// receive returns the next messages.
func (s *socket) receive() ([]answer, error) {
	if err := s.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	var n int
	var err error
	waited := s.raw.Read(func(fd uintptr) bool {
		for {
			n, _, err = unix.Recvfrom(int(fd), s.buf, 0)
			if !errors.Is(err, unix.EINTR) {
				return !errors.Is(err, unix.EAGAIN)
			}
		}
	})
	if err = errors.Join(waited, err); err != nil {
		return nil, fmt.Errorf("receive from nf_tables: %w", err)
	}
	parsed, err := syscall.ParseNetlinkMessage(s.buf[:n])
	if err != nil {
		return nil, fmt.Errorf("read an answer of nf_tables: %w", err)
	}
	out := make([]answer, 0, 4)
	for _, m := range parsed {
		out = append(out, answer{m.Header.Type, m.Header.Flags, m.Header.Seq, m.Data})
	}
	return out, nil
}

// err returns the error that an answer tells, with the kernel's words for it if there are any.
func (a *answer) err() error {
	if a.kind != unix.NLMSG_ERROR || len(a.body) < 4 {
		return nil
	}
	code := -int32(binary.NativeEndian.Uint32(a.body))
	if code == 0 {
		return nil
	}
	return os.NewSyscallError("nf_tables", unix.Errno(code))
}

// describe says which message of a transaction has a number.
func describe(transaction []byte, sequence uint32) string {
	for at := 0; at < len(transaction); {
		length := int(binary.NativeEndian.Uint32(transaction[at:]))
		if binary.NativeEndian.Uint32(transaction[at+8:]) == sequence {
			return describeMessage(transaction[at : at+length])
		}
		at += length
	}
	return "a transaction"
}

func describeMessage(m []byte) string {
	what, known := map[uint16]string{
		unix.NFT_MSG_NEWTABLE: "add table", unix.NFT_MSG_DELTABLE: "delete table",
		unix.NFT_MSG_NEWSET: "add set", unix.NFT_MSG_DELSET: "delete set",
		unix.NFT_MSG_NEWCHAIN: "add chain", unix.NFT_MSG_DELCHAIN: "delete chain",
		unix.NFT_MSG_NEWRULE: "add rule to chain", unix.NFT_MSG_DELRULE: "delete rules of chain",
		unix.NFT_MSG_NEWSETELEM: "add elements to set", unix.NFT_MSG_DELSETELEM: "delete elements of set",
	}[binary.NativeEndian.Uint16(m[4:])&0xff]
	if !known {
		return "transaction"
	}
	var names []string
	for rest := m[20:]; len(rest) >= 4 && len(names) < 2; {
		length, kind := int(binary.NativeEndian.Uint16(rest)), binary.NativeEndian.Uint16(rest[2:])
		if kind > 3 || length < 5 || length > len(rest) {
			break
		}
		if value := rest[4:length]; value[len(value)-1] == 0 && value[0] != 0 {
			names = append(names, string(value[:len(value)-1]))
		}
		rest = rest[min(len(rest), (length+3)&^3):]
	}
	return what + " " + strings.Join(names[max(0, len(names)-1):], "")
}

// dump has the kernel list something, and calls f for each message. It fails with
// errDumpInterrupted if somebody has written meanwhile.
func (s *socket) dump(request messages, f func(body []byte) error) error {
	return s.ask(request, unix.NLM_F_DUMP, f)
}

// ask has the kernel answer a request, and calls f for each message of the answer. The kind of
// request says how that ends: with a list's end, or with an acknowledgement.
func (s *socket) ask(request messages, kind uint16, f func(body []byte) error) error {
	s.sequence++
	const flags, sequence = 6, 8
	binary.NativeEndian.PutUint16(request.buf[flags:], unix.NLM_F_REQUEST|kind)
	binary.NativeEndian.PutUint32(request.buf[sequence:], s.sequence)
	if err := s.send(request.buf); err != nil {
		return err
	}
	var failed error
	for {
		all, err := s.receive()
		if err != nil {
			return err
		}
		for _, m := range all {
			switch {
			case m.sequence != s.sequence:
				continue
			case m.flags&unix.NLM_F_DUMP_INTR != 0:
				failed = errors.Join(failed, errDumpInterrupted)
			}
			switch m.kind {
			case unix.NLMSG_DONE:
				return failed
			case unix.NLMSG_ERROR:
				return errors.Join(failed, m.err())
			}
			if failed == nil {
				failed = f(m.body[4:])
			}
		}
	}
}

var errDumpInterrupted = errors.New("somebody has written to nf_tables meanwhile")
