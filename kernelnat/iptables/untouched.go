package iptables

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"github.com/clusterip/clusterip/cluster"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ledger tells writes to nf_tables that are ours from those of others. The kernel
// counts all that are made in a network namespace, so both families share one.
type ledger struct {
	mu  sync.Mutex
	own uint32 // how many of them were ours
}

// foreign counts the writes of others, from an unknown start.
func (l *ledger) foreign() (uint32, error) {
	generation, err := nftGeneration()
	l.mu.Lock()
	defer l.mu.Unlock()
	return generation - l.own, err
}

// during makes a write of at most so many transactions. Those that change nothing
// are not counted by the kernel.
func (l *ledger) during(write func() error, transactions int) error {
	before, errBefore := nftGeneration()
	err := write()
	after, errAfter := nftGeneration()
	if errBefore == nil && errAfter == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.own += min(after-before, uint32(transactions))
	}
	return err
}

// nftGeneration is the number of the last transaction of nf_tables.
func nftGeneration() (uint32, error) {
	request := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETGEN, 0)
	request.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0})
	replies, err := request.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return 0, fmt.Errorf("ask for the generation of nf_tables: %w", err)
	}
	for _, reply := range replies {
		attributes, err := nl.ParseRouteAttr(reply[nl.SizeofNfgenmsg:])
		if err != nil {
			return 0, fmt.Errorf("read the generation of nf_tables: %w", err)
		}
		for _, a := range attributes {
			if a.Attr.Type&nl.NLA_TYPE_MASK == unix.NFTA_GEN_ID && len(a.Value) == 4 {
				return binary.BigEndian.Uint32(a.Value), nil
			}
		}
	}
	return 0, errors.New("the kernel does not tell the generation of nf_tables")
}

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
