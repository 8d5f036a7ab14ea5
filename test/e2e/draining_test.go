package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const drainingService = `
apiVersion: v1
kind: Service
metadata: {name: echo, namespace: testing}
spec:
  clusterIP: 10.43.0.7
  ports: [{name: udp, port: 8080, protocol: UDP}]
`

// endpoints is the EndpointSlice of that Service. What is said of one in the form of
// "10.42.0.10 terminates" are its conditions.
func endpoints(all ...string) string {
	var b strings.Builder
	b.WriteString(`
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: echo-1, namespace: testing, labels: {kubernetes.io/service-name: echo}}
addressType: IPv4
ports: [{name: udp, port: 5678, protocol: UDP}]
endpoints:
`)
	for _, e := range all {
		address, terminates, _ := strings.Cut(e, " ")
		fmt.Fprintf(&b, "- {addresses: [%s], conditions: {ready: %t, serving: true, terminating: %t}}\n", address, terminates == "", terminates != "")
	}
	return b.String()
}

// Of the UDP flows to an endpoint that terminates, those that are idle are forgotten and
// those that are busy go on, until it has gone.
func TestDrainingFlows(t *testing.T) {
	n := newNode(t, "iptables")
	client := n.pod("client", "10.42.0.2")
	n.pod("echo-0", "10.42.0.10")
	n.pod("echo-1", "10.42.0.11")
	for _, pod := range []string{"client.yaml", "echo-0.yaml", "echo-1.yaml"} {
		n.remove(pod)
	}
	n.write("service.yaml", drainingService)
	n.write("endpoints.yaml", endpoints("10.42.0.10"))
	n.start()
	eventually(t, "an answer", reaches(client, "udp", echoIPv4))
	idle, busy := dialUDP(t, client), dialUDP(t, client)
	for _, conn := range []net.Conn{idle, busy} {
		if err := answeredBy(conn, "echo-0")(); err != nil {
			t.Fatal(err)
		}
	}

	n.write("endpoints.yaml", endpoints("10.42.0.10 terminates", "10.42.0.11"))
	eventually(t, "the other endpoint", n.rulesHave("10.42.0.11:5678"))
	eventually(t, "the end of the idle flow", func() error {
		if err := answeredBy(busy, "echo-0")(); err != nil {
			t.Fatalf("the busy flow does not go on: %v", err)
		}
		return n.forgotten(idle)
	})
	if err := answeredBy(idle, "echo-1")(); err != nil {
		t.Errorf("the flow that was idle: %v", err)
	}
	if err := answeredBy(busy, "echo-0")(); err != nil {
		t.Errorf("the busy flow: %v", err)
	}
	n.write("endpoints.yaml", endpoints("10.42.0.11"))
	eventually(t, "the busy flow at the other endpoint", answeredBy(busy, "echo-1"))
}

func dialUDP(t *testing.T, client *netlab.Host) net.Conn {
	t.Helper()
	conn, err := client.Dial(t.Context(), "udp", echoIPv4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// answeredBy sends a datagram, and says who else has answered.
func answeredBy(conn net.Conn, want string) func() error {
	return func() error {
		conn.SetDeadline(time.Now().Add(time.Second))
		if _, err := conn.Write([]byte("x")); err != nil {
			return err
		}
		datagram := make([]byte, 512)
		size, err := conn.Read(datagram)
		if err != nil {
			return err
		}
		if host, _, _ := strings.Cut(string(datagram[:size]), " "); host != want {
			return fmt.Errorf("answered by %s, want %s", host, want)
		}
		return nil
	}
}

// forgotten reports whether the node's kernel knows no flow of a socket, of which it
// has to know one first.
func (n *node) forgotten(conn net.Conn) error {
	port := conn.LocalAddr().(*net.UDPAddr).Port
	return n.Do(func() error {
		flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
		for _, f := range flows {
			if f.Forward.Protocol == unix.IPPROTO_UDP && int(f.Forward.SrcPort) == port {
				err = errors.Join(err, fmt.Errorf("it has %d seconds left", f.TimeOut))
			}
		}
		return err
	})
}

// A process that ends leaves no flow that leads to it, not even a busy one, if another
// endpoint is there.
func TestLameduckLeavesNoFlows(t *testing.T) {
	n := newNode(t, "iptables")
	client := n.pod("client", "10.42.0.2")
	n.remove("client.yaml")
	other := n.pod("other", "10.42.0.11")
	n.remove("other.yaml")
	serveDNS(t, other)
	n.configure("errors\n", "errors\n\thealth {\n\t\tlameduck 1s\n\t}\n")
	// The port of this process, and the addresses of both.
	asName := strings.NewReplacer("port: 8080", "port: 53", "port: 5678", "port: 53")
	n.write("service.yaml", asName.Replace(drainingService))
	n.write("endpoints.yaml", asName.Replace(endpoints("10.42.0.1")))
	p := n.start()
	at := netip.MustParseAddrPort("10.43.0.7:53")
	conn, err := client.Dial(t.Context(), "udp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// One socket, and never idle.
	exchange := func(want int) func() error {
		return func() error {
			conn.SetDeadline(time.Now().Add(500 * time.Millisecond))
			reply, _, err := new(dns.Client).ExchangeWithConn(new(dns.Msg).SetQuestion("testing.svc.cluster.local.", dns.TypeA), &dns.Conn{Conn: conn})
			if err == nil && reply.Rcode != want {
				err = fmt.Errorf("answered %s", dns.RcodeToString[reply.Rcode])
			}
			return err
		}
	}
	eventually(t, "an answer of this process", exchange(dns.RcodeSuccess))
	n.write("endpoints.yaml", asName.Replace(endpoints("10.42.0.1 terminates", "10.42.0.11")))
	eventually(t, "the other endpoint", n.rulesHave("10.42.0.11:53"))
	if err := exchange(dns.RcodeSuccess)(); err != nil {
		t.Errorf("the busy flow does not go on: %v", err)
	}
	p.Signal(syscall.SIGTERM)
	lost := 0
	eventually(t, "an answer of the other", func() error {
		err := exchange(dns.RcodeNotImplemented)()
		if err != nil && !strings.HasPrefix(err.Error(), "answered") {
			lost++
		}
		return err
	})
	p.Stop(syscall.SIGTERM)
	if err := exchange(dns.RcodeNotImplemented)(); err != nil {
		t.Errorf("after the end: %v", err)
	}
	if lost > 1 {
		t.Errorf("%d queries lost, and one may have been asked in the moment the flow was cut", lost)
	}
}

// serveDNS has a host refuse all queries as a server of another kind.
func serveDNS(t *testing.T, host *netlab.Host) {
	t.Helper()
	socket, err := host.ListenPacket("udp", netip.AddrPortFrom(host.Addrs[0], 53))
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: socket, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		w.WriteMsg(new(dns.Msg).SetRcode(r, dns.RcodeNotImplemented))
	})}
	go server.ActivateAndServe()
	t.Cleanup(func() { server.Shutdown() })
}
