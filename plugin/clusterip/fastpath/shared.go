package fastpath

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Shared reports whether another process has a socket at an address, as Open takes it: an older process or a younger one of
// the same program. Open must wait then. Sockets of both are in one group of the kernel, where the places of those that stay
// change when those of the other close; so neither could give up its own later without a query in them. It is false where
// this process may not look at its own sockets, as with capabilities of the file.
func Shared(address string) bool {
	a, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return false
	}
	at := []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	if a.IP != nil && !a.IP.IsUnspecified() {
		at = []netip.Addr{a.AddrPort().Addr().Unmap()}
	}
	ours := ownSockets()
	for _, addr := range at {
		n, err := others(netip.AddrPortFrom(addr, uint16(a.Port)), addr.Is6(), ours)
		if len(ours) > 0 && err == nil && n > 0 {
			return true
		}
	}
	return false
}

// ownSockets are the sockets of this process.
func ownSockets() (inodes []uint64) {
	files, _ := filepath.Glob("/proc/self/fd/*")
	for _, file := range files {
		target, _ := os.Readlink(file)
		number, isSocket := strings.CutPrefix(target, "socket:[")
		if ino, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 64); isSocket && err == nil {
			inodes = append(inodes, ino)
		}
	}
	return inodes
}
