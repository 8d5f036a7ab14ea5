package netfilter

import (
	"errors"
	"fmt"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// ProxyTable is what kube-proxy calls its tables of nf_tables in its nftables mode.
const ProxyTable = "kube-proxy"

// HasProxyTable reports whether there is what RemoveProxyTable would remove.
func HasProxyTable(family cluster.Family) (bool, error) {
	conn, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("open a netlink socket: %w", err)
	}
	table, err := proxyTable(conn, family)
	return table != nil, err
}

// RemoveProxyTable removes what kube-proxy has left in one family if it ran in its
// nftables mode: it translates the same packets, and whoever came first wins. It reports
// whether there was anything. A kernel without nf_tables has nothing.
func RemoveProxyTable(family cluster.Family, ledger *Ledger) (found bool, err error) {
	conn, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("open a netlink socket: %w", err)
	}
	table, err := proxyTable(conn, family)
	if table == nil || err != nil {
		return false, err
	}
	conn.DelTable(table)
	if err := ledger.During(conn.Flush, 1); err != nil {
		return false, fmt.Errorf("delete table %s of nf_tables: %w", ProxyTable, err)
	}
	return true, nil
}

// proxyTable returns that of a family, or nil if there is none.
func proxyTable(conn *nftables.Conn, family cluster.Family) (*nftables.Table, error) {
	of := nftables.TableFamilyIPv4
	if family == cluster.IPv6 {
		of = nftables.TableFamilyIPv6
	}
	tables, err := conn.ListTablesOfFamily(of)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil, nil // a kernel without nf_tables, or without nfnetlink
	}
	if errors.Is(err, unix.EPERM) {
		return nil, fmt.Errorf("list the tables of nf_tables: %w: give the process CAP_NET_ADMIN, or run it as root", err)
	}
	if err != nil {
		return nil, fmt.Errorf("list the tables of nf_tables: %w", err)
	}
	if at := slices.IndexFunc(tables, func(t *nftables.Table) bool { return t.Name == ProxyTable }); at >= 0 {
		return tables[at], nil
	}
	return nil, nil
}
