package nftables

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// writer takes the elements of sets that come and go. Keys and data are as the kernel has
// them, or for a set of ranges the first key and the last one after it, and for a verdict
// the chain's name. They are not kept. A comment is for those who list the set.
type writer interface {
	put(s *set, key, data []byte, comment string)
	remove(s *set, key []byte)
}

// replace puts an element with a key that the set has already.
func replace(w writer, s *set, key, data []byte, comment string) {
	w.remove(s, key)
	w.put(s, key, data, comment)
}

func appendNumber(b []byte, n uint32) []byte { return binary.NativeEndian.AppendUint32(b, n) }

func appendAddr(b []byte, a netip.Addr) []byte {
	if a.Is4() {
		v4 := a.As4()
		return append(b, v4[:]...)
	}
	v6 := a.As16()
	return append(b, v6[:]...)
}

func appendProtocol(b []byte, p cluster.Protocol) []byte { return append(b, byte(p), 0, 0, 0) }

func appendPort(b []byte, port uint16) []byte {
	return append(binary.BigEndian.AppendUint16(b, port), 0, 0)
}

func appendAddrPort(b []byte, a netip.AddrPort) []byte {
	return appendPort(appendAddr(b, a.Addr()), a.Port())
}

// appendKey is that of a frontend in its place.
func appendKey(b []byte, k plan.Key) []byte {
	if !k.At.Addr().IsUnspecified() {
		b = appendAddr(b, k.At.Addr())
	}
	return appendPort(appendProtocol(b, k.Protocol), k.At.Port())
}

// appendSlot is a slot of a frontend.
func appendSlot(b []byte, k plan.Key, s side, slot int) []byte {
	return appendNumber(appendKey(b, k), s.first()+uint32(slot))
}

// appendSource is the first and the last key of a frontend's clients in a range.
func appendSource(b []byte, k plan.Key, r netip.Prefix) []byte {
	r = r.Masked()
	last := r.Addr().AsSlice()
	for i := r.Bits(); i < len(last)*8; i++ {
		last[i/8] |= 0x80 >> (i % 8)
	}
	b = appendAddr(appendKey(b, k), r.Addr())
	return append(appendKey(b, k), last...)
}

// text is an element's key or data as nft reads it.
func text(fields []field, value []byte) string {
	var parts []string
	for _, f := range fields {
		parts = append(parts, f.text(value[:f.size]))
		value = value[min(len(value), (f.size+3)&^3):]
	}
	return strings.Join(parts, " . ")
}

func (f field) text(value []byte) string {
	switch f.name {
	case number.name:
		return priorityText(binary.NativeEndian.Uint32(value))
	case protocol.name:
		return strings.ToLower(cluster.Protocol(value[0]).String())
	case port.name:
		return fmt.Sprint(binary.BigEndian.Uint16(value))
	}
	addr, _ := netip.AddrFromSlice(value)
	return addr.String()
}
