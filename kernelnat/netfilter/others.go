package netfilter

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/google/nftables"
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
	case lacksNfTables(err):
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
	proxies, err := Proxies()
	if len(proxies) > 0 {
		out = append(out, fmt.Sprintf("kube-proxy runs here (process %d), and each undoes what the other writes", proxies[0]))
	}
	return out, err
}

// Proxies returns the processes of kube-proxies in the network namespace of this thread, as far as
// they are to be seen: not those of other PID namespaces, nor those whose namespace may not be looked at.
func Proxies() (pids []int, err error) {
	own, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("look at the own network namespace: %w", err)
	}
	names, _ := filepath.Glob("/proc/[0-9]*/comm") // the pattern is sound
	for _, name := range names {
		comm, err := os.ReadFile(name)
		if err != nil || strings.TrimSpace(string(comm)) != "kube-proxy" {
			continue // it has ended, or is another
		}
		process := filepath.Dir(name)
		if net, err := os.Readlink(filepath.Join(process, "ns/net")); err != nil || net != own {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(process)); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}
