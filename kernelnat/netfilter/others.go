package netfilter

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Others returns, in words, what else translates packets to Services in one family: tables that
// kube-proxy has in its nftables mode, kube-proxy's chains of iptables (in the nft variant) unless
// they are ours too, and a kube-proxy that runs in this network namespace, as far as its process is
// to be seen. It writes nothing.
func Others(family cluster.Family, chainsAreOurs bool) ([]string, error) {
	of := nftables.TableFamilyIPv4
	if family == cluster.IPv6 {
		of = nftables.TableFamilyIPv6
	}
	conn, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	var out []string
	tables, err := conn.ListTablesOfFamily(of)
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPROTONOSUPPORT): // a kernel without nf_tables
	case err != nil:
		return nil, fmt.Errorf("list the tables of nf_tables: %w", err)
	}
	for _, t := range tables {
		switch {
		case t.Name == ProxyTable:
			out = append(out, "kube-proxy's table "+ProxyTable+" of nftables is there too, and whichever comes first translates packets")
		case t.Name == "nat" && !chainsAreOurs:
			if _, err := conn.ListChain(t, "KUBE-SERVICES"); err == nil {
				out = append(out, "chain KUBE-SERVICES of iptables is there too, of kube-proxy or of the backend iptables, and whichever comes first translates packets")
			}
		}
	}
	if pid := proxyProcess(); pid != "" {
		out = append(out, fmt.Sprintf("kube-proxy runs here (process %s), and each undoes what the other writes", pid))
	}
	return out, nil
}

// proxyProcess returns the number of a kube-proxy's process in the network namespace of this
// thread, "" if none is to be seen: those of other PID namespaces are not.
func proxyProcess() string {
	own, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return ""
	}
	names, _ := filepath.Glob("/proc/[0-9]*/comm")
	slices.Sort(names)
	for _, name := range names {
		comm, err := os.ReadFile(name)
		if err != nil || strings.TrimSpace(string(comm)) != "kube-proxy" {
			continue
		}
		process := filepath.Dir(name)
		if net, err := os.Readlink(filepath.Join(process, "ns/net")); err == nil && net == own {
			return filepath.Base(process)
		}
	}
	return ""
}
