package netfilter

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/clusterip/clusterip/cluster"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ForwardDrops returns the chains of nf_tables, in words, that drop by their policy what this machine
// forwards in one family, unless one of their rules accepts it: what our rules accept does not
// count there (nft(8), a verdict of accept ends one base chain alone). It writes nothing.
func ForwardDrops(family cluster.Family) ([]string, error) {
	own, ip := nftables.TableFamilyIPv4, "ip"
	if family == cluster.IPv6 {
		own, ip = nftables.TableFamilyIPv6, "ip6"
	}
	conn, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	var out []string
	for of, name := range map[nftables.TableFamily]string{own: ip, nftables.TableFamilyINet: "inet"} {
		chains, err := conn.ListChainsOfTableFamily(of)
		if lacksNfTables(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list the chains of nf_tables: %w", err)
		}
		for _, c := range chains {
			if c.Hooknum != nil && *c.Hooknum == *nftables.ChainHookForward && c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
				out = append(out, fmt.Sprintf("chain %s of table %s %s", c.Name, name, c.Table.Name))
			}
		}
	}
	slices.Sort(out)
	return out, nil
}

// lacksNfTables reports whether the kernel has no nf_tables.
func lacksNfTables(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT)
}

// Forwarding returns the sysctl that has this machine pass on packets of a family, by its name as
// sysctl(8) has it, and whether it is 0.
func Forwarding(family cluster.Family) (sysctl string, off bool) {
	sysctl = "net.ipv4.ip_forward"
	if family == cluster.IPv6 {
		sysctl = "net.ipv6.conf.all.forwarding"
	}
	text, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(sysctl, ".", "/"))
	return sysctl, err == nil && strings.TrimSpace(string(text)) == "0"
}

// Unrouted returns the addresses that no route of this machine leads to, with what the kernel says.
// Each is asked for once, over one socket.
func Unrouted(addrs []netip.Addr) (map[netip.Addr]string, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("ask for routes: %w", err)
	}
	defer h.Close()
	out, asked := make(map[netip.Addr]string), make(map[netip.Addr]bool)
	for _, addr := range addrs {
		if asked[addr] {
			continue
		}
		asked[addr] = true
		var errno syscall.Errno
		if _, err := h.RouteGet(addr.AsSlice()); errors.As(err, &errno) {
			out[addr] = strings.ToLower(errno.Error())
		} else if err != nil {
			return nil, fmt.Errorf("ask for the route to %s: %w", addr, err)
		}
	}
	return out, nil
}
