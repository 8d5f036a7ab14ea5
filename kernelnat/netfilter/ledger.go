package netfilter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Ledger tells writes to nf_tables that are ours from those of others. The kernel
// counts all that are made in a network namespace, so both families share one.
type Ledger struct {
	mu  sync.Mutex
	own uint32 // how many of them were ours
}

// Foreign counts the writes of others, from an unknown start.
func (l *Ledger) Foreign() (uint32, error) {
	now, err := generation()
	l.mu.Lock()
	defer l.mu.Unlock()
	return now - l.own, err
}

// During makes a write of at most so many transactions. Those that change nothing
// are not counted by the kernel.
func (l *Ledger) During(write func() error, transactions int) error {
	before, errBefore := generation()
	err := write()
	after, errAfter := generation()
	if errBefore == nil && errAfter == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.own += min(after-before, uint32(transactions))
	}
	return err
}

// generation is the number of the last transaction of nf_tables.
func generation() (uint32, error) {
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
