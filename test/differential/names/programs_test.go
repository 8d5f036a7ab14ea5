package names

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/clusterip/clusterip/test/kubetest"
	"github.com/miekg/dns"
)

// changes are made and measured each time the program runs.
const changes = 200

const programBlock = `cluster.local:%[1]s in-addr.arpa:%[1]s ip6.arpa:%[1]s {
	bind 127.0.0.1
	errors
	%[2]s cluster.local in-addr.arpa ip6.arpa {
		kubeconfig %[3]s
		startup_timeout 1m
	}
}
`

// measured is what one side took, in each of its runs.
type measured struct {
	start              []time.Duration // from the start of the process to the first right answer
	early, late, asked []int           // resident memory, in MiB
	peak               []int
	change             []time.Duration // from the API server's reply to the new answer
}

// measure runs the program with one of the directives.
func (c *crowd) measure(t *testing.T, directive string, m *measured) {
	t.Helper()
	port := kubetest.FreePort(t)
	text := fmt.Sprintf(programBlock, port, directive, c.Kubeconfig())
	virtual := c.lastVirtual()
	kubetest.Program(t, false) // so that it is not built on the clock
	began := time.Now()
	p := kubetest.StartProgram(t, nil, false, text)
	client := newClient(t, port)
	client.await(crowdFQDN("", virtual), crowdClusterIP(virtual), time.Millisecond)
	m.start = append(m.start, time.Since(began))
	m.early = append(m.early, p.RSS())
	for range changes {
		name, to := c.move(t)
		written := time.Now()
		client.await(name, to, 0)
		m.change = append(m.change, time.Since(written))
	}
	m.late = append(m.late, p.RSS())
	for i := range c.size {
		client.ask(crowdFQDN("", i), dns.TypeA)
		client.ask(crowdFQDN("_http._tcp.", i), dns.TypeSRV)
	}
	m.asked, m.peak = append(m.asked, p.RSS()), append(m.peak, p.PeakRSS())
	p.Stop(syscall.SIGTERM)
}

// client asks over UDP, one question at a time.
type client struct {
	t    *testing.T
	conn *dns.Conn
}

func newClient(t *testing.T, port string) *client {
	t.Helper()
	conn, err := net.Dial("udp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &client{t, &dns.Conn{Conn: conn, UDPSize: dns.DefaultMsgSize}}
}

// await asks for the addresses of a name until one of them is there; after each
// other answer, or none, it makes a pause.
func (c *client) await(name string, want netip.Addr, pause time.Duration) {
	c.t.Helper()
	q := new(dns.Msg).SetQuestion(name, dns.TypeA).SetEdns0(dns.DefaultMsgSize, false)
	for deadline := time.Now().Add(2 * patience); time.Now().Before(deadline); <-time.After(pause) {
		if reply := c.exchange(q); reply != nil && slices.ContainsFunc(reply.Answer, func(rr dns.RR) bool {
			a, ok := rr.(*dns.A)
			return ok && a.A.Equal(want.AsSlice())
		}) {
			return
		}
	}
	c.t.Fatalf("%s has not got the address %s", name, want)
}

// exchange returns the reply, or nil if there is none within a second.
func (c *client) exchange(q *dns.Msg) *dns.Msg {
	c.conn.SetDeadline(time.Now().Add(time.Second))
	if c.conn.WriteMsg(q) != nil {
		return nil
	}
	reply, err := c.conn.ReadMsg()
	if err != nil || reply.Id != q.Id {
		return nil
	}
	return reply
}

// ask asks for a name that has records.
func (c *client) ask(name string, qtype uint16) {
	c.t.Helper()
	q := new(dns.Msg).SetQuestion(name, qtype).SetEdns0(dns.DefaultMsgSize, false)
	if reply := c.exchange(q); reply == nil || len(reply.Answer) == 0 {
		c.t.Fatalf("%s %s: the reply is %v, want records", name, dns.TypeToString[qtype], reply)
	}
}
