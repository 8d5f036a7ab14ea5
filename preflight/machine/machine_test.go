package machine

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/preflight"
)

// TestMain is a kube-proxy for the test that needs one to run.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "kube-proxy" {
		var b [1]byte
		os.Stdout.WriteString("runs\n")
		os.Stdin.Read(b[:]) // until its end
		return
	}
	os.Exit(m.Run())
}

func asked(backend string) preflight.Config {
	var ports []preflight.Port
	for _, p := range []struct {
		udp  bool
		at   string
		what string
	}{{true, "[::]:53", "queries"}, {false, "[::]:53", "queries"}, {false, "127.0.0.1:8181", "the plugin ready"}} {
		ports = append(ports, preflight.Port{Place: "Corefile", What: p.what, UDP: p.udp, At: netip.MustParseAddrPort(p.at), Mend: "serve elsewhere"})
	}
	return preflight.Config{Ports: ports, NAT: &preflight.NAT{
		Place: func(...string) string { return "Corefile" }, Backend: backend, CIDRPlace: "Corefile",
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.43.0.0/16"), netip.MustParsePrefix("fd43::/112")},
		ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.42.0.0/16")},
		NodePorts:    [2]uint16{30000, 32767}, AtLoopback: true,
		Endpoints: []preflight.Endpoint{endpoint("10.42.7.7:80"), endpoint("10.42.7.9:8081")},
	}}
}

func endpoint(at string) preflight.Endpoint {
	return preflight.Endpoint{Place: func() string { return "m/a.yaml:1: Service shop/web" }, At: netip.MustParseAddrPort(at)}
}

// command runs on the host.
func command(t *testing.T, n *netlab.Namespace, args ...string) {
	t.Helper()
	if err := n.Do(func() error {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%q: %w: %s", args, err, out)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func sysctlSet(name, value string) func(*testing.T, *netlab.Namespace) {
	return func(t *testing.T, n *netlab.Namespace) {
		t.Helper()
		if err := n.Do(func() error { return os.WriteFile(sysctlFile(name), []byte(value), 0) }); err != nil {
			t.Fatal(err)
		}
	}
}

func run(args ...string) func(*testing.T, *netlab.Namespace) {
	return func(t *testing.T, n *netlab.Namespace) { command(t, n, args...) }
}

// Each finding is provoked by what it is about, on a node that has none before.
func TestFindings(t *testing.T) {
	netlab.Require(t, "ip", "nft", "iptables-nft", "iptables-legacy")
	for _, c := range []struct {
		name    string
		backend string
		do      func(*testing.T, *netlab.Namespace)
		want    string // of a finding; "" for none
		fault   bool
	}{
		{"nothing", "iptables", func(*testing.T, *netlab.Namespace) {}, "", false},
		{"nothing for nftables", "nftables", func(*testing.T, *netlab.Namespace) {}, "", false},
		{"port 53", "iptables", listenUDP("127.0.0.53:53"), "UDP port [::]:53, for queries, is taken by machine.test (process ", true},
		{"port 8181", "iptables", listenTCP("[::]:8181"), "TCP port 127.0.0.1:8181, for the plugin ready, is taken by machine.test (process ", true},
		{"no route", "iptables", run("ip", "-4", "route", "del", "default"), "no route to the range of ClusterIPs 10.43.0.0/16 (network is unreachable)", true},
		{"unreachable by a route", "iptables", run("ip", "-6", "route", "add", "unreachable", "fd43::/64"), "no route to the range of ClusterIPs fd43::/112 (", true},
		{"no route to an endpoint", "iptables", func(t *testing.T, n *netlab.Namespace) {
			command(t, n, "ip", "route", "add", "unreachable", "10.42.7.0/29")
		}, "m/a.yaml:1: Service shop/web: this machine has no route to its endpoint 10.42.7.7 (", true},
		{"nobody listens at an endpoint", "iptables", run("ip", "addr", "add", "10.42.7.9/32", "dev", "lo"),
			"m/a.yaml:1: Service shop/web: its endpoint 10.42.7.9:8081/TCP is at this machine's own address (lo), and nobody listens there", false},
		{"somebody listens at an endpoint", "iptables", func(t *testing.T, n *netlab.Namespace) {
			command(t, n, "ip", "addr", "add", "10.42.7.9/32", "dev", "lo")
			listenTCP("[::]:8081")(t, n)
		}, "", false},
		{"somebody else listens at an endpoint", "iptables", func(t *testing.T, n *netlab.Namespace) {
			command(t, n, "ip", "addr", "add", "10.42.7.9/32", "dev", "lo")
			listenTCP("127.0.0.1:8081")(t, n)
			listenUDP("10.42.7.9:8081")(t, n)
		}, "10.42.7.9:8081/TCP is at this machine's own address (lo), and nobody listens there", false},
		{"an address of the range", "iptables", run("ip", "addr", "add", "10.43.0.1/32", "dev", "eth0"), "holds this machine's address 10.43.0.1 (eth0)", true},
		{"the uplink among pods", "iptables", run("ip", "addr", "add", "10.42.9.1/32", "dev", "eth0"), "cluster_cidr 10.42.0.0/16 holds this machine's address 10.42.9.1/32 (eth0)", false},
		{"local ports", "iptables", sysctlSet("net.ipv4.ip_local_port_range", "20000 40000"), "the NodePorts 30000-32767 are in net.ipv4.ip_local_port_range (20000-40000)", false},
		{"local ports that are reserved", "iptables", func(t *testing.T, n *netlab.Namespace) {
			sysctlSet("net.ipv4.ip_local_port_range", "20000 40000")(t, n)
			sysctlSet("net.ipv4.ip_local_reserved_ports", "30000-32767")(t, n)
		}, "", false},
		{"no forwarding", "iptables", sysctlSet("net.ipv4.ip_forward", "0"), "net.ipv4.ip_forward is 0", false},
		{"no forwarding of IPv6", "iptables", sysctlSet("net.ipv6.conf.all.forwarding", "0"), "net.ipv6.conf.all.forwarding is 0", false},
		{"strict paths", "iptables", sysctlSet("net.ipv4.conf.cni0.rp_filter", "1"), "rp_filter is 1 (strict) for cni0", false},
		{"strict paths of an interface with a dot", "iptables", func(t *testing.T, n *netlab.Namespace) {
			command(t, n, "ip", "link", "add", "d.7", "type", "bridge")
			command(t, n, "ip", "addr", "add", "198.51.100.1/24", "dev", "d.7")
			sysctlSet("net.ipv4.conf.d.7.rp_filter", "1")(t, n)
		}, "rp_filter is 1 (strict) for d.7", false},
		{"a table of kube-proxy", "nftables", run("nft", "add table ip6 kube-proxy"), "there are rules of kube-proxy, or of an earlier run: the table ip6 kube-proxy of nf_tables", false},
		{"chains of kube-proxy", "iptables", run("iptables-legacy", "-t", "nat", "-N", "KUBE-SERVICES"), "chains KUBE-SERVICES of iptables-legacy", false},
		{"both variants", "iptables", func(t *testing.T, n *netlab.Namespace) {
			for range 2 {
				command(t, n, "iptables-nft", "-A", "INPUT", "-j", "ACCEPT")
			}
			command(t, n, "iptables-legacy", "-A", "FORWARD", "-j", "DROP")
		}, "iptables-legacy has 1 rules, while iptables-nft is in use here: packets pass both, and what one accepts the other may drop; kernelnat writes to iptables-nft", false},
		{"iptables cannot show its tables", "iptables", func(t *testing.T, n *netlab.Namespace) {
			t.Setenv("PATH", t.TempDir())
		}, "backend iptables cannot be used here: ", true},
		{"kube-proxy", "iptables", startProxy, "kube-proxy (process ", true},
		{"kube-proxy in another namespace", "iptables", func(t *testing.T, n *netlab.Namespace) { startProxy(t, nil) }, "", false},
		{"kernelnat", "iptables", func(t *testing.T, n *netlab.Namespace) {
			if err := n.Do(func() error {
				lock, err := kernelnat.Lock()
				if err == nil {
					t.Cleanup(func() { lock.Close() })
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}, "kernelnat runs here already, in machine.test (process ", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			node, err := netlab.NewNode()
			if err != nil {
				t.Fatal(err)
			}
			defer node.Close()
			for _, s := range []string{"net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"} {
				if _, err := os.Stat(sysctlFile(s)); err == nil {
					sysctlSet(s, "1")(t, node.Namespace)
				}
			}
			c.do(t, node.Namespace)
			var found []preflight.Finding
			if err := node.Do(func() error {
				config := asked(c.backend)
				m := Look(t.Context(), config)
				m.Self = "" // this process has the ports of others
				found = preflight.Judge(config, m)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(sysctlFile("net.bridge.bridge-nf-call-iptables")); err != nil {
				found = without(found, "br_netfilter is not loaded")
			}
			if c.want == "" && len(found) == 0 {
				return
			}
			if len(found) != 1 || c.want == "" || !strings.Contains(found[0].String(), c.want) || found[0].Fault != c.fault {
				t.Errorf("found %q, want %q, fault: %t", found, c.want, c.fault)
			}
		})
	}
}

func without(all []preflight.Finding, text string) (rest []preflight.Finding) {
	for _, f := range all {
		if !strings.Contains(f.String(), text) {
			rest = append(rest, f)
		}
	}
	return rest
}

func listenUDP(at string) func(*testing.T, *netlab.Namespace) {
	return func(t *testing.T, n *netlab.Namespace) {
		conn, err := n.ListenPacket("udp", netip.MustParseAddrPort(at))
		keep(t, conn, err)
	}
}

func listenTCP(at string) func(*testing.T, *netlab.Namespace) {
	return func(t *testing.T, n *netlab.Namespace) {
		l, err := n.Listen("tcp", netip.MustParseAddrPort(at))
		keep(t, l, err)
	}
}

func keep(t *testing.T, what interface{ Close() error }, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { what.Close() })
}

// startProxy has a process run that is called kube-proxy, in a namespace.
func startProxy(t *testing.T, n *netlab.Namespace) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "kube-proxy")
	content, err := os.ReadFile(self)
	if err == nil {
		err = os.WriteFile(program, content, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	ended, err := n.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		<-ended
	})
	if _, err := stdout.Read(make([]byte, 8)); err != nil { // it has its name by then
		t.Fatal(err)
	}
}

// Nothing of the machine is another after a look: neither its rules nor its sysctls.
func TestLookWritesNothing(t *testing.T) {
	netlab.Require(t, "nft", "iptables-nft")
	node, err := netlab.NewNode()
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	command(t, node.Namespace, "nft", "add table ip stranger")
	state := func() (out string) {
		if err := node.Do(func() error {
			for _, args := range [][]string{{"nft", "list", "ruleset"}, {"sh", "-c", "cat /proc/thread-self/net/ip_tables_names; sysctl -a 2>/dev/null | grep -v -e random -e fs. -e count -e kernel. -e cache"}} {
				text, err := exec.Command(args[0], args[1:]...).Output()
				if err != nil {
					return err
				}
				out += string(text)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return out
	}
	var ledger netfilter.Ledger
	writes := func() (count uint32) {
		if err := node.Do(func() (err error) {
			count, err = ledger.Foreign()
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return count
	}
	before, written := state(), writes()
	for _, backend := range []string{"iptables", "nftables"} {
		if err := node.Do(func() error { Look(t.Context(), asked(backend)); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if after := state(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if n := writes() - written; n != 0 {
		t.Errorf("nf_tables counts %d transactions", n)
	}
	command(t, node.Namespace, "nft", "add table ip known")
	if n := writes() - written; n != 1 {
		t.Errorf("after one transaction nf_tables counts %d", n)
	}
}
