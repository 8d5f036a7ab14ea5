package fastpath

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// control is the ancillary data of a datagram: the address that it was sent to. Only a socket at the wildcard address
// asks for it.
//
// A socket of IPv6 has it as in6_pktinfo in both families, and takes it back in both. The other has in_pktinfo.
type control struct {
	_    [0]unix.Cmsghdr // for the alignment
	data [controlSize]byte
}

// controlSize is CMSG_SPACE of in6_pktinfo, the larger of the two, on 64 bits.
const controlSize = 40

// askDestination has the kernel tell which address a datagram was sent to. It must be called before the socket is bound:
// a packet may come at once.
func askDestination(fd int, ipv6 bool) error {
	if ipv6 {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
}

// answerFrom turns the control data of a query of the given length into that of its reply: it has the address that was
// asked as its source, and leaves the interface to the routing table. A link-local address means nothing without its interface.
func (c *control) answerFrom(length int) {
	header := (*unix.Cmsghdr)(unsafe.Pointer(&c.data))
	info := c.data[unix.CmsgLen(0):]
	switch {
	case length >= unix.CmsgLen(unix.SizeofInet6Pktinfo) && header.Level == unix.IPPROTO_IPV6 && header.Type == unix.IPV6_PKTINFO:
		if linkLocal := info[0] == 0xfe && info[1]&0xc0 == 0x80; !linkLocal {
			clear(info[16:20])
		}
	case length >= unix.CmsgLen(unix.SizeofInet4Pktinfo) && header.Level == unix.IPPROTO_IP && header.Type == unix.IP_PKTINFO:
		clear(info[:4])
	}
}

// networkPort reads a port of a socket address, which is in network order.
func networkPort(port *uint16) uint16 {
	return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(port))[:])
}

// isIPv6 tells the family of a socket.
func isIPv6(fd int) (bool, error) {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return false, fmt.Errorf("SO_DOMAIN: %w", err)
	}
	return domain == unix.AF_INET6, nil
}
