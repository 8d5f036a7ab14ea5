package netfilter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/hostaddrs"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Drops are the chains of nf_tables, in words, that drop by their policy what this machine forwards, or
// what comes to it, unless one of their rules accepts it: what our rules accept does not count there
// (nft(8), a verdict of accept ends one base chain alone).
type Drops struct{ Forward, Input []string }

// FindDrops looks for them in one family. It writes nothing.
func FindDrops(family cluster.Family) (out Drops, err error) {
	own, ip := nftables.TableFamilyIPv4, "ip"
	if family == cluster.IPv6 {
		own, ip = nftables.TableFamilyIPv6, "ip6"
	}
	conn, err := nftables.New()
	if err != nil {
		return out, fmt.Errorf("open a netlink socket: %w", err)
	}
	for of, name := range map[nftables.TableFamily]string{own: ip, nftables.TableFamilyINet: "inet"} {
		chains, err := passed(conn, of)
		if lacksNfTables(err) {
			continue
		}
		if err != nil {
			return out, fmt.Errorf("list the chains of nf_tables: %w", err)
		}
		for _, c := range chains {
			if c.Hooknum == nil || c.Policy == nil || *c.Policy != nftables.ChainPolicyDrop {
				continue
			}
			chain := fmt.Sprintf("chain %s of table %s %s", c.Name, name, c.Table.Name)
			switch *c.Hooknum {
			case *nftables.ChainHookForward:
				out.Forward = append(out.Forward, chain)
			case *nftables.ChainHookInput:
				out.Input = append(out.Input, chain)
			}
		}
	}
	slices.Sort(out.Forward)
	slices.Sort(out.Input)
	return out, nil
}

// manyChains is how many chains of a family are listed at most. The kernel begins anew for each packet
// of a list, so that 22,000 take a fifth of a second of processor time and 110,000 fifteen seconds.
const manyChains = 4000

// passed lists the chains of a family or, where there are very many, those in which iptables filters
// what is forwarded and what comes in: there are so many where iptables has the rules of Services.
func passed(conn *nftables.Conn, of nftables.TableFamily) ([]*nftables.Chain, error) {
	tables, err := conn.ListTablesOfFamily(of)
	if err != nil {
		return nil, err
	}
	chains := 0
	for _, t := range tables {
		// The kernel says it in network byte order, and the library has read it as the machine's.
		chains += int(binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, t.Use)))
	}
	if chains <= manyChains {
		return conn.ListChainsOfTableFamily(of)
	}
	var out []*nftables.Chain
	for _, t := range tables {
		if t.Name != "filter" {
			continue
		}
		for _, name := range []string{"FORWARD", "INPUT"} {
			if c, err := conn.ListChain(t, name); err == nil { // else it is not there
				out = append(out, c)
			}
		}
	}
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

// Silent returns the endpoints at addresses of this machine where nobody listens, each once. Sockets of
// SCTP are not looked at.
func Silent(endpoints []plan.Key) (out []plan.Key, err error) {
	own, err := hostaddrs.List()
	if err != nil {
		return nil, fmt.Errorf("list the addresses of this machine: %w", err)
	}
	here := make(map[netip.Addr]bool)
	for _, a := range own {
		here[a.Addr()] = true
	}
	ports, known := make(map[uint16]bool), make(map[plan.Key]bool)
	for _, e := range endpoints {
		if here[e.At.Addr()] && e.Protocol != cluster.SCTP && !known[e] {
			ports[e.At.Port()], known[e], out = true, true, append(out, e)
		}
	}
	if len(out) == 0 {
		return nil, nil // mostly, and then sockets are not looked at
	}
	sockets, err := hostaddrs.Sockets(ports)
	if err != nil {
		return nil, err
	}
	listening := make(map[plan.Key]bool)
	for _, s := range sockets {
		protocol := cluster.TCP
		if s.UDP {
			protocol = cluster.UDP
		}
		listening[plan.Key{At: s.At, Protocol: protocol}] = true
	}
	at := func(addr netip.Addr, e plan.Key) bool {
		return listening[plan.Key{At: netip.AddrPortFrom(addr, e.At.Port()), Protocol: e.Protocol}]
	}
	hears := func(e plan.Key) bool {
		return listening[e] || at(netip.IPv6Unspecified(), e) || e.At.Addr().Is4() && at(netip.IPv4Unspecified(), e)
	}
	return slices.DeleteFunc(out, hears), nil
}
