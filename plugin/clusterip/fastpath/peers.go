package fastpath

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// others counts the sockets that are bound to an address as those of ours are, besides them: those of CoreDNS's server.
//
// The kernel lists sockets page by page. Where one comes or goes meanwhile, any other may be listed twice or not at all.
// So they are counted until two lists agree.
func others(at netip.AddrPort, ipv6 bool, ours []uint64) (int, error) {
	last := -1
	for range 100 {
		n, err := listed(at, ipv6, ours)
		if err != nil || n == last {
			return n, err
		}
		last = n
	}
	return 0, fmt.Errorf("the sockets that are bound to %s change all the time", at)
}

// listed is what one list says of others.
func listed(at netip.AddrPort, ipv6 bool, ours []uint64) (int, error) {
	path := "/proc/thread-self/net/udp"
	if ipv6 {
		path += "6"
	}
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	address, n := procAddress(at), 0
	for scanner := bufio.NewScanner(file); scanner.Scan(); {
		fields := strings.Fields(scanner.Text())
		if len(fields) > 9 && fields[1] == address && !slices.ContainsFunc(ours, func(inode uint64) bool { return fmt.Sprint(inode) == fields[9] }) {
			n++
		}
	}
	return n, nil
}

// procAddress writes an address as /proc/net/udp does: 32 bits at a time, as the machine reads them, then the port.
func procAddress(at netip.AddrPort) string {
	var text strings.Builder
	for word := range slices.Chunk(at.Addr().AsSlice(), 4) {
		fmt.Fprintf(&text, "%08X", binary.NativeEndian.Uint32(word))
	}
	fmt.Fprintf(&text, ":%04X", at.Port())
	return text.String()
}

// inode tells a socket from all others.
func inode(fd int) (uint64, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return 0, err
	}
	return stat.Ino, nil
}
