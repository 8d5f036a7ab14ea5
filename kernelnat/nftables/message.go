package nftables

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// messages are netlink messages for nf_tables, one after the other (linux/netlink.h,
// linux/netfilter/nfnetlink.h).
type messages struct {
	family uint8
	buf    []byte
}

// begin begins a message, and returns what end takes.
func (m *messages) begin(kind int, flags uint16) (at int) {
	return m.beginOf(uint16(unix.NFNL_SUBSYS_NFTABLES<<8|kind), flags, m.family, 0)
}

func (m *messages) beginOf(kind, flags uint16, family uint8, resource uint16) (at int) {
	at = len(m.buf)
	m.buf = append(m.buf, 0, 0, 0, 0)
	m.buf = binary.NativeEndian.AppendUint16(m.buf, kind)
	m.buf = binary.NativeEndian.AppendUint16(m.buf, unix.NLM_F_REQUEST|flags)
	m.buf = append(m.buf, 0, 0, 0, 0, 0, 0, 0, 0)
	m.buf = append(m.buf, family, unix.NFNETLINK_V0)
	m.buf = binary.BigEndian.AppendUint16(m.buf, resource)
	return at
}

func (m *messages) end(at int) {
	binary.NativeEndian.PutUint32(m.buf[at:], uint32(len(m.buf)-at))
}

// attr adds an attribute.
func (m *messages) attr(kind uint16, value []byte) { m.buf = appendAttr(m.buf, kind, value) }

func (m *messages) text(kind uint16, value string) { m.attr(kind, append([]byte(value), 0)) }

func (m *messages) number(kind uint16, value uint32) { m.attr(kind, bigEndian(value)) }

// nested adds an attribute that is made of others.
func (m *messages) nested(kind uint16, fill func()) {
	at := len(m.buf)
	m.buf = beginNested(m.buf, kind)
	fill()
	endNested(m.buf, at)
}

func appendAttr(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofNlAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	for len(b)%unix.NLA_ALIGNTO != 0 {
		b = append(b, 0)
	}
	return b
}

func beginNested(b []byte, kind uint16) []byte {
	b = append(b, 0, 0)
	return binary.NativeEndian.AppendUint16(b, kind|unix.NLA_F_NESTED)
}

func endNested(b []byte, at int) {
	binary.NativeEndian.PutUint16(b[at:], uint16(len(b)-at))
}

// appendValue adds a nested attribute that holds a value alone.
func appendValue(b []byte, kind uint16, value []byte) []byte {
	at := len(b)
	b = appendAttr(beginNested(b, kind), unix.NFTA_DATA_VALUE, value)
	endNested(b, at)
	return b
}
