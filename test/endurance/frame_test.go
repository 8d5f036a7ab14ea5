package endurance

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/clusterip/clusterip/cluster"
	"golang.org/x/sys/unix"
)

// A frame is an Ethernet header, an IP header without options, and UDP or TCP.
const etherSize = 14

func ipSize(family cluster.Family) int {
	if family == cluster.IPv6 {
		return 40
	}
	return 20
}

// payloadSize is what a datagram holds: the number of its flow, and who answers it.
const payloadSize = 12

// first is the first packet of a flow: a datagram, or a SYN with the flow's number as its
// sequence number.
type first struct {
	family   cluster.Family
	protocol cluster.Protocol
	from, to netip.AddrPort
	number   uint64
}

// write writes the frame and returns its length.
func (p *first) write(frame []byte, source, destination net.HardwareAddr) int {
	copy(frame, destination)
	copy(frame[6:], source)
	ip := frame[etherSize:]
	size := ipSize(p.family)
	l4 := ip[size:]
	length := 8 + payloadSize
	if p.protocol == cluster.TCP {
		length = 20
	}
	l4 = l4[:length]
	clear(ip[:size+length])
	if p.family == cluster.IPv6 {
		binary.BigEndian.PutUint16(frame[12:], unix.ETH_P_IPV6)
		ip[0] = 6 << 4
		binary.BigEndian.PutUint16(ip[4:], uint16(length))
		ip[6], ip[7] = byte(p.protocol), 64
		copy(ip[8:], p.from.Addr().AsSlice())
		copy(ip[24:], p.to.Addr().AsSlice())
	} else {
		binary.BigEndian.PutUint16(frame[12:], unix.ETH_P_IP)
		ip[0] = 4<<4 | 5
		binary.BigEndian.PutUint16(ip[2:], uint16(size+length))
		ip[8], ip[9] = 64, byte(p.protocol)
		copy(ip[12:], p.from.Addr().AsSlice())
		copy(ip[16:], p.to.Addr().AsSlice())
		binary.BigEndian.PutUint16(ip[10:], ^fold(sum(0, ip[:size])))
	}
	binary.BigEndian.PutUint16(l4, p.from.Port())
	binary.BigEndian.PutUint16(l4[2:], p.to.Port())
	if p.protocol == cluster.TCP {
		binary.BigEndian.PutUint32(l4[4:], uint32(p.number))
		l4[12], l4[13] = 5<<4, tcpSYN
		binary.BigEndian.PutUint16(l4[14:], 1<<15)
	} else {
		binary.BigEndian.PutUint16(l4[4:], uint16(length))
		binary.BigEndian.PutUint64(l4[8:], p.number)
	}
	finish(ip, l4, p.family)
	return etherSize + size + length
}

// Flags of TCP.
const (
	tcpSYN = 0x02
	tcpRST = 0x04
	tcpACK = 0x10
)

// finish writes the checksum of UDP or TCP.
func finish(ip, l4 []byte, family cluster.Family) {
	addresses, protocol, at := ip[12:20], ip[9], 6
	if family == cluster.IPv6 {
		addresses, protocol = ip[8:40], ip[6]
	}
	if protocol == unix.IPPROTO_TCP {
		at = 16
	}
	binary.BigEndian.PutUint16(l4[at:], 0)
	binary.BigEndian.PutUint16(l4[at:], ^fold(sum(sum(uint32(protocol)+uint32(len(l4)), addresses), l4)))
}

func sum(s uint32, b []byte) uint32 {
	for ; len(b) > 1; b = b[2:] {
		s += uint32(binary.BigEndian.Uint16(b))
	}
	return s
}

func fold(s uint32) uint16 {
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// transport returns the protocol of an IP packet and what is after the header.
func transport(ip []byte, family cluster.Family) (protocol byte, rest []byte) {
	size := ipSize(family)
	if len(ip) < size+8 {
		return 0, nil
	}
	if family == cluster.IPv6 {
		return ip[6], ip[size:min(len(ip), size+int(binary.BigEndian.Uint16(ip[4:])))]
	}
	return ip[9], ip[size:min(len(ip), int(binary.BigEndian.Uint16(ip[2:])))]
}

// answer turns the first packet of a flow into what a server answers: a datagram with who
// it is, or a SYN-ACK with that as its sequence number. It reports whether it was one.
func answer(frame []byte, family cluster.Family, who func(to []byte) byte) bool {
	ip := frame[min(len(frame), etherSize):]
	protocol, l4 := transport(ip, family)
	var source, destination []byte
	switch {
	case l4 == nil:
		return false
	case family == cluster.IPv6:
		source, destination = ip[8:24], ip[24:40]
	default:
		source, destination = ip[12:16], ip[16:20]
	}
	server := who(destination)
	switch {
	case protocol == unix.IPPROTO_UDP && len(l4) == 8+payloadSize:
		l4[16] = server
	case protocol == unix.IPPROTO_TCP && len(l4) == 20 && l4[13] == tcpSYN:
		binary.BigEndian.PutUint32(l4[8:], binary.BigEndian.Uint32(l4[4:])+1)
		binary.BigEndian.PutUint32(l4[4:], uint32(server))
		l4[13] = tcpSYN | tcpACK
	default:
		return false
	}
	swap(frame[:6], frame[6:12])
	swap(source, destination)
	swap(l4[:2], l4[2:4])
	finish(ip, l4, family)
	return true
}

func swap(a, b []byte) {
	for i := range a {
		a[i], b[i] = b[i], a[i]
	}
}

// reply is what a client has got: who answers a flow, or that it is refused.
type reply struct {
	number  uint64 // of TCP the low 32 bits
	server  byte
	refused bool
}

// readReply reads a frame, and reports whether it is a reply.
func readReply(frame []byte, family cluster.Family) (r reply, ok bool) {
	protocol, l4 := transport(frame[min(len(frame), etherSize):], family)
	switch {
	case l4 == nil:
		return r, false
	case protocol == unix.IPPROTO_UDP && len(l4) == 8+payloadSize:
		return reply{number: binary.BigEndian.Uint64(l4[8:]), server: l4[16]}, true
	case protocol == unix.IPPROTO_TCP && len(l4) >= 20 && l4[13]&tcpACK != 0:
		return reply{number: uint64(binary.BigEndian.Uint32(l4[8:]) - 1), server: l4[7], refused: l4[13]&tcpRST != 0}, true
	case protocol == unix.IPPROTO_ICMP && l4[0] == 3, protocol == unix.IPPROTO_ICMPV6 && l4[0] == 1:
		// It holds the packet that it is about.
		protocol, l4 = transport(l4[8:], family)
		switch {
		case protocol == unix.IPPROTO_TCP && len(l4) >= 8:
			return reply{number: uint64(binary.BigEndian.Uint32(l4[4:])), refused: true}, true
		case protocol == unix.IPPROTO_UDP && len(l4) >= 16:
			return reply{number: binary.BigEndian.Uint64(l4[8:]), refused: true}, true
		}
	}
	return r, false
}
