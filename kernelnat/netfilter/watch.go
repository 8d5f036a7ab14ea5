package netfilter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/clusterip/clusterip/cluster"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Watch hears of what other processes write to some tables of nf_tables.
type Watch struct {
	conn   *netlink.Conn
	family uint8
	tables []string
	self   string // the name that the kernel tells for this process
	closed atomic.Bool
}

// watchBuffer holds what the kernel tells while nobody listens, in bytes. It tells each
// element that comes or goes.
const watchBuffer = 8 << 20

// NewWatch begins to hear of writes to tables of a family, in the network namespace of the
// caller.
func NewWatch(family cluster.Family, tables []string) (*Watch, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{Groups: 1 << (unix.NFNLGRP_NFTABLES - 1)})
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	if err := conn.SetReadBuffer(watchBuffer); err != nil {
		conn.Close()
		return nil, fmt.Errorf("set up a netlink socket: %w", err)
	}
	self, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("read this process's name: %w", err)
	}
	w := &Watch{conn: conn, family: unix.NFPROTO_IPV4, tables: tables, self: strings.TrimSpace(string(self))}
	if family == cluster.IPv6 {
		w.family = unix.NFPROTO_IPV6
	}
	return w, nil
}

// Close ends Run.
func (w *Watch) Close() error {
	w.closed.Store(true)
	return w.conn.Close()
}

// Run calls f after each transaction of another program that has changed one of the tables,
// and says which process that is. The name is "" if that is not known, or if the kernel had
// more to tell than there was room for. Run ends when the Watch is closed.
func (w *Watch) Run(f func(by string)) error {
	touched := false
	for {
		events, err := w.conn.Receive()
		switch {
		case w.closed.Load():
			return nil
		case errors.Is(err, unix.ENOBUFS):
			f("")
			continue
		case err != nil:
			return fmt.Errorf("hear of writes to nf_tables: %w", err)
		}
		for _, e := range events {
			if uint16(e.Header.Type)>>8 != unix.NFNL_SUBSYS_NFTABLES || len(e.Data) < nfgenmsg {
				continue
			}
			if uint16(e.Header.Type)&0xff != unix.NFT_MSG_NEWGEN {
				touched = touched || e.Data[0] == w.family && slices.Contains(w.tables, tableOf(e.Data[nfgenmsg:]))
				continue
			}
			name, by := writer(e.Data[nfgenmsg:])
			if touched && name != w.self {
				f(by)
			}
			touched = false
		}
	}
}

const nfgenmsg = 4 // the length of struct nfgenmsg

// tableOf is the first attribute of every event but the last of a transaction.
func tableOf(attributes []byte) (table string) {
	ad, err := netlink.NewAttributeDecoder(attributes)
	if err != nil {
		return ""
	}
	for ad.Next() {
		if ad.Type() == unix.NFTA_TABLE_NAME {
			return ad.String()
		}
	}
	return ""
}

// writer is the process that has made a transaction.
func writer(attributes []byte) (name, by string) {
	ad, err := netlink.NewAttributeDecoder(attributes)
	if err != nil {
		return "", ""
	}
	ad.ByteOrder = binary.BigEndian
	var pid uint32
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_GEN_PROC_PID:
			pid = ad.Uint32()
		case unix.NFTA_GEN_PROC_NAME:
			name = strings.TrimRight(ad.String(), "\x00")
		}
	}
	if name == "" {
		return "", ""
	}
	return name, fmt.Sprintf("%s (process %d)", name, pid)
}
