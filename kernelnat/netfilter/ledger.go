package netfilter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Ledger counts the writes of others to nf_tables. The kernel counts the transactions of
// a network namespace, the Ledger counts ours, and the difference is others'. Both IP
// families share one Ledger, since the kernel has one count for both.
//
// The Ledger knows how many transactions a write of ours makes at most, not which they
// are. While writes of ours are under way it takes up to that many for ours. What is
// beyond that is counted as others' when none of ours is under way any more, at the latest.
type Ledger struct {
	mu      sync.Mutex
	counted uint32 // the generation up to which all but ours is in others
	ours    uint32 // how many since then are ours, at most
	writing int    // how many writes are under way
	others  uint32
	asked   bool // somebody wants to know; until then writes are noted alone
	// socket lasts: before the kernel closes one, it waits for what nf_tables has yet to
	// free, which takes some 15 ms after each transaction.
	socket *nl.SocketHandle
}

// Foreign counts the writes of others, from an unknown start. It waits for no write.
func (l *Ledger) Foreign() (uint32, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.asked {
		now, err := l.generation()
		l.counted, l.asked = now, err == nil
		return 0, err
	}
	err := l.count()
	return l.others, err
}

// During makes a write of at most so many transactions. Those that change nothing
// are not counted by the kernel. The error is that of the write.
func (l *Ledger) During(write func() error, transactions int) error {
	l.mu.Lock()
	_ = l.count() // what is not counted now, the next that can will count
	l.writing++
	l.ours += uint32(transactions)
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.writing--
		_ = l.count()
	}()
	return write()
}

// count counts the transactions of others since the last time.
func (l *Ledger) count() error {
	if !l.asked {
		if l.writing == 0 {
			l.ours = 0
		}
		return nil
	}
	now, err := l.generation()
	if err != nil {
		return err
	}
	if since := now - l.counted; since > l.ours {
		l.others += since - l.ours
		l.counted = now - l.ours
	}
	if l.writing == 0 {
		l.counted, l.ours = now, 0
	}
	return nil
}

// generation is the number of the last transaction of nf_tables.
func (l *Ledger) generation() (uint32, error) {
	if l.socket == nil {
		s, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_NETFILTER)
		if err != nil {
			return 0, fmt.Errorf("open a netlink socket: %w", err)
		}
		if err := s.SetReceiveTimeout(&nl.SocketTimeoutTv); err != nil {
			return 0, fmt.Errorf("set up a netlink socket: %w", err)
		}
		l.socket = &nl.SocketHandle{Socket: s} // closed when nobody has the Ledger any more
	}
	request := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETGEN, 0)
	request.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: l.socket}
	request.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0})
	replies, err := request.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		l.socket = nil // there may be answers left
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
