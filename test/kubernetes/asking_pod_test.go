package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/miekg/dns"
)

// The source ports of a resolving pod, each in turn: at 200 queries a second one comes
// again after 10 seconds, while the kernel still knows its last flow. The kernel gives
// none of them to others (ip_local_port_range).
const (
	firstPort, sourcePorts = 20_000, 2_000
	queriesPerSecond       = 200
	keptPerSecond          = 20 // on one socket
	// answerTime is how long a client waits. It does not ask again.
	answerTime = time.Second
)

// resolver is a pod in which clients of all kinds ask for one name.
type resolver struct {
	pod     *netlab.Host
	server  netip.AddrPort
	stopped chan struct{}
	running sync.WaitGroup

	mu    sync.Mutex
	asked map[string]int    // by the kind of client
	lost  map[string]losses // likewise
}

// losses are what became of questions instead of an answer, with the time.
type losses []string

// Kinds of clients in a pod.
const (
	eachPort  = "UDP from another port each time"
	oneSocket = "UDP on one socket"
	overTCP   = "TCP"
)

// resolve has a pod ask for the address of a name, until stop.
func resolve(t *testing.T, pod *netlab.Host, server netip.AddrPort, name, want string) *resolver {
	r := &resolver{pod: pod, server: server, stopped: make(chan struct{}), asked: make(map[string]int), lost: make(map[string]losses)}
	ask := func(kind string, conn net.Conn) {
		r.running.Go(func() {
			defer conn.Close()
			r.note(kind, exchangeOn(conn, name, want))
		})
	}
	r.running.Go(func() {
		if err := pod.Do(func() error { return r.run(ask) }); err != nil {
			t.Error(err)
		}
	})
	conn, err := pod.Dial(t.Context(), "udp", server)
	if err != nil {
		t.Fatal(err)
	}
	r.running.Go(func() {
		defer conn.Close()
		r.keepOn(conn, name, want)
	})
	return r
}

// run asks over UDP at the set pace, and once for 20 of those over TCP.
func (r *resolver) run(ask func(kind string, conn net.Conn)) error {
	pace := time.NewTicker(time.Second / queriesPerSecond)
	defer pace.Stop()
	for i := 0; ; i++ {
		select {
		case <-r.stopped:
			return nil
		case <-pace.C:
		}
		from := &net.UDPAddr{IP: r.pod.Addrs[0].AsSlice(), Port: firstPort + i%sourcePorts}
		conn, err := net.DialUDP("udp", from, net.UDPAddrFromAddrPort(r.server))
		if err != nil {
			return fmt.Errorf("ask from port %d: %w", from.Port, err)
		}
		ask(eachPort, conn)
		if i%20 != 0 {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), answerTime)
		stream, err := new(net.Dialer).DialContext(ctx, "tcp", r.server.String())
		cancel()
		if err != nil {
			r.note(overTCP, err)
			continue
		}
		ask(overTCP, stream)
	}
}

// keepOn asks on one socket, as a forwarder does: its flow is never idle.
func (r *resolver) keepOn(conn net.Conn, name, want string) {
	pace := time.NewTicker(time.Second / keptPerSecond)
	defer pace.Stop()
	for {
		select {
		case <-r.stopped:
			return
		case <-pace.C:
			r.note(oneSocket, exchangeOn(conn, name, want))
		}
	}
}

// exchangeOn asks once and closes nothing.
func exchangeOn(conn net.Conn, name, want string) error {
	conn.SetDeadline(time.Now().Add(answerTime))
	c := dns.Conn{Conn: conn}
	query := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	if err := c.WriteMsg(query); err != nil {
		return err
	}
	reply, err := c.ReadMsg()
	if err != nil {
		return err
	}
	if reply.Id != query.Id || len(reply.Answer) != 1 || reply.Answer[0].(*dns.A).A.String() != want {
		return fmt.Errorf("wrong answer: %v", reply)
	}
	return nil
}

func (r *resolver) note(kind string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asked[kind]++; err == nil {
		return
	}
	what := err.Error()
	switch timeout := net.Error(nil); {
	case errors.Is(err, syscall.ECONNREFUSED):
		what = "refused"
	case errors.As(err, &timeout) && timeout.Timeout():
		what = "timed out"
	}
	r.lost[kind] = append(r.lost[kind], time.Now().Format("15:04:05.000 ")+what)
}

// stop ends the clients when they have their last answers.
func (r *resolver) stop() {
	close(r.stopped)
	r.running.Wait()
}
