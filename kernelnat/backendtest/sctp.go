package backendtest

import (
	"encoding/binary"
	"hash/crc32"
	"net"
	"net/netip"
	"time"

	"github.com/clusterip/clusterip/cluster"
)

// The first packet of an SCTP association is enough to see the translation, and
// raw sockets can send and receive it on a kernel whose SCTP is left out.
func (s *suite) sctp() {
	s.families(func(s *suite, family cluster.Family) {
		pod := s.pods[0]
		port := s.port(cluster.SCTP, 80, family, pod)
		s.sync(Named("echo", port))

		var server net.PacketConn
		var client net.Conn
		s.must(pod.Do(func() (err error) {
			server, err = net.ListenPacket(rawSCTP(family), pod.Addr(family).String())
			return err
		}))
		defer server.Close()
		s.must(s.client.Do(func() (err error) {
			client, err = net.Dial(rawSCTP(family), port.Frontends[0].At.Addr().String())
			return err
		}))
		defer client.Close()

		const clientPort = 45000
		_, err := client.Write(sctpInit(clientPort, port.Frontends[0].At.Port()))
		s.must(err)
		s.must(server.SetReadDeadline(time.Now().Add(patience)))
		packet := make([]byte, 1500)
		size, from, err := server.ReadFrom(packet)
		s.must(err)
		if got := netip.MustParseAddr(from.String()); got != s.client.Addr(family) {
			s.Errorf("the pod sees %v as the client", got)
		}
		if want := sctpInit(clientPort, targetPort); string(packet[:size]) != string(want) {
			s.Errorf("the pod received %x, want %x", packet[:size], want)
		}
	})
}

func rawSCTP(family cluster.Family) string {
	if family == cluster.IPv6 {
		return "ip6:132"
	}
	return "ip4:132"
}

// sctpInit is a packet with an INIT chunk (RFC 9260 sections 3.1 and 3.3.2).
func sctpInit(from, to uint16) []byte {
	p := make([]byte, 32)
	binary.BigEndian.PutUint16(p[0:], from)
	binary.BigEndian.PutUint16(p[2:], to)
	p[12] = 1                              // INIT
	binary.BigEndian.PutUint16(p[14:], 20) // length of the chunk
	binary.BigEndian.PutUint32(p[16:], 1)  // initiate tag
	binary.BigEndian.PutUint32(p[20:], 1<<16)
	binary.BigEndian.PutUint16(p[24:], 1) // streams out
	binary.BigEndian.PutUint16(p[26:], 1) // streams in
	binary.BigEndian.PutUint32(p[28:], 1) // first TSN
	// The checksum is the one number in the host order of its CRC (appendix A).
	binary.LittleEndian.PutUint32(p[8:], crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)))
	return p
}
