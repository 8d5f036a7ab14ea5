package iptables

import (
	"bytes"
	"fmt"
	"unsafe"

	"github.com/clusterip/clusterip/cluster"
	"golang.org/x/sys/unix"
)

// legacyInfo is struct ipt_getinfo, which ip6t_getinfo equals
// (linux/netfilter_ipv4/ip_tables.h).
type legacyInfo struct {
	name       [32]byte
	validHooks uint32
	hookEntry  [5]uint32
	underflow  [5]uint32
	entries    uint32
	size       uint32
}

// soGetInfo is IPT_SO_GET_INFO and IP6T_SO_GET_INFO.
const soGetInfo = 64

// legacyTables is how large each table is that rules are written to, and where
// its chains begin. Tables that are not there come into being, so it is for hosts
// whose variant this is. There is no counter of writes; somebody who puts a rule in
// the place of one of the same size goes unseen.
func legacyTables(family cluster.Family) ([]byte, error) {
	domain, level := unix.AF_INET, unix.SOL_IP
	if family == cluster.IPv6 {
		domain, level = unix.AF_INET6, unix.SOL_IPV6
	}
	fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, fmt.Errorf("open a raw socket: %w", err)
	}
	defer unix.Close(fd)
	var all bytes.Buffer
	for _, table := range []string{tableFilter, tableMangle, tableNAT} {
		var info legacyInfo
		copy(info.name[:], table)
		length := uint32(unsafe.Sizeof(info))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), soGetInfo,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&length)), 0)
		if errno != 0 {
			return nil, fmt.Errorf("look at table %s: %w", table, errno)
		}
		fmt.Fprintln(&all, info)
	}
	return all.Bytes(), nil
}
