package differential

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/netlab"
)

// The first two packets of an association show who answers, and raw sockets can
// send and receive them on a kernel whose SCTP is left out.

const (
	chunkInit    = 1
	chunkInitAck = 2
	// initTag is the tag that the client asks for and the answer must carry:
	// else conntrack takes it for invalid (RFC 9260 section 8.5).
	initTag = 1
)

// sctpPort makes each association one of its own.
var sctpPort atomic.Uint32

// serveSCTP answers every INIT with who it is and whom it sees, until the test is
// over.
func (n *node) serveSCTP(pod *netlab.Host) {
	n.t.Helper()
	for _, family := range cluster.Families {
		var server net.PacketConn
		n.must(pod.Do(func() (err error) {
			server, err = net.ListenPacket(rawSCTP(family), pod.Addr(family).String())
			return err
		}))
		n.t.Cleanup(func() { server.Close() })
		go func() {
			packet := make([]byte, 1500)
			for {
				size, from, err := server.ReadFrom(packet)
				if err != nil {
					return
				}
				if size > 12 && packet[12] == chunkInit {
					to, at := binary.BigEndian.Uint16(packet[0:]), binary.BigEndian.Uint16(packet[2:])
					text := fmt.Sprintf("%s %s", pod.Name, from)
					server.WriteTo(sctpPacket(chunkInitAck, at, to, initTag, text), from)
				}
			}
		}()
	}
}

// askSCTP sends an INIT and returns the pod that answered.
func (c *client) askSCTP(ctx context.Context, _ string, to netip.AddrPort) (netlab.Reply, error) {
	var conn net.Conn
	err := c.Do(func() (err error) {
		conn, err = net.Dial(rawSCTP(cluster.FamilyOf(to.Addr())), to.Addr().String())
		return err
	})
	if err != nil {
		return netlab.Reply{}, err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
	}
	port := uint16(20000 + sctpPort.Add(1)%40000)
	if _, err := conn.Write(sctpPacket(chunkInit, port, to.Port(), 0, "")); err != nil {
		return netlab.Reply{}, err
	}
	packet := make([]byte, 1500)
	for {
		size, err := conn.Read(packet)
		if err != nil {
			return netlab.Reply{}, err
		}
		text, ok := initAck(packet[:size], port)
		if !ok {
			continue // a late answer, or one that a neighbour is sent
		}
		host, seen, _ := strings.Cut(text, " ")
		addr, err := netip.ParseAddr(seen)
		return netlab.Reply{Host: host, Client: netip.AddrPortFrom(addr, port)}, err
	}
}

// initAck returns the text of an answer to a client's port.
func initAck(packet []byte, port uint16) (text string, ok bool) {
	if len(packet) < sctpParameter || binary.BigEndian.Uint16(packet[2:]) != port || packet[12] != chunkInitAck {
		return "", false
	}
	length := int(binary.BigEndian.Uint16(packet[sctpParameter-2:]))
	if len(packet) < sctpParameter-4+length {
		return "", false
	}
	return string(packet[sctpParameter : sctpParameter-4+length]), true
}

// sctpParameter is where the value of a chunk's first parameter begins.
const sctpParameter = 36

func rawSCTP(family cluster.Family) string {
	if family == cluster.IPv6 {
		return "ip6:132"
	}
	return "ip4:132"
}

// sctpPacket is a packet with an INIT or INIT ACK chunk (RFC 9260 sections 3.1,
// 3.3.2 and 3.3.3), and a parameter that nobody knows for the text.
func sctpPacket(kind byte, from, to uint16, tag uint32, text string) []byte {
	p := make([]byte, sctpParameter, sctpParameter+len(text)+3)
	binary.BigEndian.PutUint16(p[0:], from)
	binary.BigEndian.PutUint16(p[2:], to)
	binary.BigEndian.PutUint32(p[4:], tag)
	p[12] = kind
	binary.BigEndian.PutUint16(p[14:], uint16(sctpParameter-12+len(text))) // length of the chunk
	binary.BigEndian.PutUint32(p[16:], initTag)
	binary.BigEndian.PutUint32(p[20:], 1<<16)
	binary.BigEndian.PutUint16(p[24:], 1)      // streams out
	binary.BigEndian.PutUint16(p[26:], 1)      // streams in
	binary.BigEndian.PutUint32(p[28:], 1)      // first TSN
	binary.BigEndian.PutUint16(p[32:], 0xbfff) // to be skipped by who does not know it
	binary.BigEndian.PutUint16(p[34:], uint16(4+len(text)))
	p = append(p, text...)
	for len(p)%4 != 0 {
		p = append(p, 0)
	}
	// The checksum is the one number in the host order of its CRC (appendix A).
	binary.LittleEndian.PutUint32(p[8:], crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)))
	return p
}
