// The kernel's part of the backend ipvs: what IPVS and conntrack do together with a DNAT of nf_tables
// to a virtual server. make kernels runs these tests.
package ipvs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/cloudflare/ipvs"
	"github.com/cloudflare/ipvs/netmask"
	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	targetPort = 5678
	patience   = 10 * time.Second
)

var clusterIPs = map[cluster.Family]netip.AddrPort{
	cluster.IPv4: netip.MustParseAddrPort("10.43.0.1:80"),
	cluster.IPv6: netip.MustParseAddrPort("[fd00:10:43::1]:80"),
}

// table leads ClusterIPs and NodePorts to the first virtual server, and masquerades clients outside,
// the node and a pod that reaches itself.
const table = `table %[1]s services {
	map frontends { type %[2]s . inet_proto . inet_service : %[2]s . inet_service; elements = { %[3]s . tcp . 80 : %[4]s . 1, %[3]s . udp . 80 : %[4]s . 1 } }
	map nodeports { type inet_proto . inet_service : %[2]s . inet_service; elements = { tcp . 30080 : %[4]s . 1, udp . 30080 : %[4]s . 1 } }
	set hairpin { type %[2]s . %[2]s; elements = { %[5]s } }
	chain services {
		dnat %[1]s to %[1]s daddr . meta l4proto . th dport map @frontends
		fib daddr type local dnat %[1]s to meta l4proto . th dport map @nodeports
	}
	chain prerouting { type nat hook prerouting priority -100; jump services; }
	chain output { type nat hook output priority -100; jump services; }
	chain postrouting { type nat hook postrouting priority 100;
		ct status dnat %[1]s saddr . %[1]s daddr @hairpin masquerade fully-random
		ct status dnat %[1]s saddr %[6]s masquerade fully-random
	}
}
`

type lab struct {
	*testing.T
	node   *netlab.Node
	pods   []*netlab.Host
	client *netlab.Host
	kernel ipvs.Client
}

func (l *lab) must(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

func newLab(t *testing.T) *lab {
	t.Helper()
	netlab.Require(t, "nft")
	node, err := netlab.NewNode()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Close(); err != nil {
			t.Error(err)
		}
	})
	l := &lab{T: t, node: node}
	l.must(node.Do(func() (err error) {
		if l.kernel, err = ipvs.New(); err == nil {
			_, err = l.kernel.Info()
		}
		return err
	}))
	for i, name := range []string{"pod-a", "pod-b", "pod-c", "client"} {
		pod, err := node.AddPod(name, netip.MustParseAddr(fmt.Sprintf("10.42.1.%d", i+1)), netip.MustParseAddr(fmt.Sprintf("fd00:10:42::1:%d", i+1)))
		l.must(err)
		if l.client = pod; name != "client" {
			l.must(errors.Join(pod.ServeTCP(targetPort), pod.ServeUDP(targetPort)))
			l.pods = append(l.pods, pod)
		}
	}
	l.must(node.Do(func() error {
		for _, name := range []string{"conntrack", "expire_nodest_conn"} {
			if err := os.WriteFile("/proc/sys/net/ipv4/vs/"+name, []byte("1"), 0); err != nil {
				return err
			}
		}
		return errors.Join(routeToServers(), l.writeTables())
	}))
	return l
}

// required skips a test where the kernel has no IPVS, as that of the machine that make test runs on.
func required(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(sysctls); errors.Is(err, fs.ErrNotExist) && os.Getenv("IPVS_REQUIRED") != "" {
		t.Fatal("this kernel has no ip_vs, or has not loaded it")
	} else if errors.Is(err, fs.ErrNotExist) {
		t.Skip("this kernel has no ip_vs, or has not loaded it: make kernels runs this test")
	}
}

func routeToServers() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	for _, p := range ranges {
		to := &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: to, Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST}); err != nil {
			return fmt.Errorf("add the route to %s: %w", p, err)
		}
	}
	return nil
}

func (l *lab) writeTables() error {
	text := ""
	for _, c := range []struct {
		family            cluster.Family
		ip, kind, outside string
	}{{cluster.IPv4, "ip", "ipv4_addr", "192.0.2.0/24"}, {cluster.IPv6, "ip6", "ipv6_addr", "2001:db8::/64"}} {
		var hairpin []string
		for _, p := range l.pods {
			hairpin = append(hairpin, fmt.Sprintf("%[1]s . %[1]s", p.Addr(c.family)))
		}
		text += fmt.Sprintf(table, c.ip, c.kind, clusterIPs[c.family].Addr(), ranges[c.family].Addr(), strings.Join(hairpin, ", "), c.outside)
	}
	nft := exec.Command("nft", "-f", "-")
	nft.Stdin = strings.NewReader(text)
	if out, err := nft.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, out)
	}
	return nil
}

// server makes the first virtual server.
func (l *lab) server(family cluster.Family, protocol ipvs.Protocol, scheduler string, endpoints ...*netlab.Host) ipvs.Service {
	l.Helper()
	s := ipvs.Service{Address: ranges[family].Addr(), Port: 1, Protocol: protocol, Family: ipvs.INET, Scheduler: scheduler, Netmask: netmask.MaskFrom(32, 32)}
	if family == cluster.IPv6 {
		s.Family, s.Netmask = ipvs.INET6, netmask.MaskFrom(128, 128)
	}
	l.must(l.node.Do(func() error { return l.kernel.CreateService(s) }))
	for _, e := range endpoints {
		l.must(l.node.Do(func() error { return l.kernel.CreateDestination(s, l.destination(family, e)) }))
	}
	return s
}

func (l *lab) destination(family cluster.Family, e *netlab.Host) ipvs.Destination {
	d := ipvs.Destination{Address: e.Addr(family), Port: targetPort, Weight: 1, FwdMethod: ipvs.Masquerade, Family: ipvs.INET}
	if family == cluster.IPv6 {
		d.Family = ipvs.INET6
	}
	return d
}

func (l *lab) ask(from *netlab.Host, network string, to netip.AddrPort) netlab.Reply {
	l.Helper()
	ctx, cancel := context.WithTimeout(l.Context(), patience)
	defer cancel()
	reply, err := from.Ask(ctx, network, to)
	if err != nil {
		l.Errorf("%s asks %s %s: %v", from.Name, network, to, err)
	}
	return reply
}

// Whoever asks, at a ClusterIP or a NodePort, gets endpoints in turn, which see a pod as it is and
// others as the node.
func TestInKernelChosenByIPVS(t *testing.T) {
	required(t)
	l := newLab(t)
	for _, family := range cluster.Families {
		l.server(family, ipvs.TCP, "rr", l.pods...)
		l.server(family, ipvs.UDP, "rr", l.pods...)
		gateway := netlab.GatewayIPv4.Addr()
		if family == cluster.IPv6 {
			gateway = netlab.GatewayIPv6.Addr()
		}
		for _, to := range []netip.AddrPort{clusterIPs[family], netip.AddrPortFrom(l.node.Addr(family), 30080)} {
			for _, network := range []string{"tcp", "udp"} {
				for _, from := range []*netlab.Host{l.client, l.node.Outside, l.node.Host, l.pods[0]} {
					hosts := make(map[string]bool)
					for range l.pods {
						reply := l.ask(from, network, to)
						hosts[reply.Host] = true
						want := gateway
						if from == l.client || from == l.pods[0] && reply.Host != from.Name {
							want = from.Addr(family)
						}
						if reply.Client.Addr() != want {
							t.Errorf("%s asks %s %s: %s sees %s, want %s", from.Name, network, to, reply.Host, reply.Client, want)
						}
					}
					if len(hosts) != len(l.pods) {
						t.Errorf("%s asks %s %s: %v answer, want each of 3 once", from.Name, network, to, hosts)
					}
				}
			}
		}
	}
}

// A process on the node itself is an endpoint, for the node too.
func TestInKernelEndpointOnNode(t *testing.T) {
	required(t)
	l := newLab(t)
	l.must(errors.Join(l.node.ServeTCP(targetPort), l.node.ServeUDP(targetPort)))
	for _, family := range cluster.Families {
		l.server(family, ipvs.TCP, "rr", l.node.Host)
		l.server(family, ipvs.UDP, "rr", l.node.Host)
		for _, network := range []string{"tcp", "udp"} {
			for _, from := range []*netlab.Host{l.client, l.node.Outside, l.node.Host} {
				l.ask(from, network, clusterIPs[family])
			}
		}
	}
}

// held is a connection that stays.
type held struct {
	net.Conn
	r *bufio.Reader
}

func (l *lab) hold(from *netlab.Host, to netip.AddrPort) held {
	l.Helper()
	ctx, cancel := context.WithTimeout(l.Context(), patience)
	defer cancel()
	conn, err := from.Dial(ctx, "tcp", to)
	l.must(err)
	l.Cleanup(func() { conn.Close() })
	h := held{conn, bufio.NewReader(conn)}
	l.must(conn.SetDeadline(time.Now().Add(10 * patience)))
	_, err = netlab.ReadReply(h.r)
	l.must(err)
	return h
}

// echo fails if what is sent does not come back.
func (h held) echo(text string) error {
	if _, err := fmt.Fprintln(h, text); err != nil {
		return err
	}
	line, err := h.r.ReadString('\n')
	if err == nil && line != text+"\n" {
		err = fmt.Errorf("%q comes back", line)
	}
	return err
}

// Least connections are the same for each endpoint, and connections outlive the endpoint and the
// virtual server that they were made by.
func TestInKernelConnectionsOutliveServers(t *testing.T) {
	required(t)
	l := newLab(t)
	s := l.server(cluster.IPv4, ipvs.TCP, "lc", l.pods...)
	var conns []held
	for i := range 9 {
		from := []*netlab.Host{l.client, l.node.Outside, l.node.Host}[i%3]
		conns = append(conns, l.hold(from, clusterIPs[cluster.IPv4]))
	}
	var counts []ipvs.DestinationExtended
	l.must(l.node.Do(func() (err error) { counts, err = l.kernel.Destinations(s); return err }))
	for _, d := range counts {
		if d.ActiveConnections != 3 {
			t.Errorf("%s has %d of 9 connections, want 3", d.Address, d.ActiveConnections)
		}
	}
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"nothing", func() error { return nil }},
		{"an endpoint goes", func() error { return l.kernel.RemoveDestination(s, l.destination(cluster.IPv4, l.pods[0])) }},
		{"it comes again", func() error { return l.kernel.CreateDestination(s, l.destination(cluster.IPv4, l.pods[0])) }},
		{"the virtual server goes", func() error { return l.kernel.RemoveService(s) }},
	} {
		l.must(l.node.Do(step.do))
		for i, c := range conns {
			if err := c.echo(step.name); err != nil {
				t.Errorf("%s: connection %d: %v", step.name, i, err)
			}
		}
	}
}

// A UDP flow whose endpoint goes, and which conntrack is told to forget, goes on at another endpoint
// with its next datagram.
func TestInKernelForgottenFlowMoves(t *testing.T) {
	required(t)
	l := newLab(t)
	s := l.server(cluster.IPv4, ipvs.UDP, "rr", l.pods[0])
	var conn net.Conn
	l.must(l.client.Do(func() (err error) { conn, err = net.Dial("udp", clusterIPs[cluster.IPv4].String()); return err }))
	defer conn.Close()
	answers := func(want *netlab.Host) {
		t.Helper()
		l.must(conn.SetDeadline(time.Now().Add(patience)))
		_, err := conn.Write([]byte("hello\n"))
		l.must(err)
		datagram := make([]byte, 1500)
		n, err := conn.Read(datagram)
		if err != nil || !strings.HasPrefix(string(datagram[:n]), want.Name+" ") {
			t.Errorf("%q, %v; want %s", datagram[:n], err, want.Name)
		}
	}
	answers(l.pods[0])
	l.must(l.node.Do(func() error {
		return errors.Join(
			l.kernel.CreateDestination(s, l.destination(cluster.IPv4, l.pods[1])),
			l.kernel.RemoveDestination(s, l.destination(cluster.IPv4, l.pods[0])))
	}))
	answers(l.pods[0])
	l.must(l.node.Do(func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) }))
	answers(l.pods[1])
}
