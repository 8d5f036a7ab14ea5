package clusterip

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clusterip/clusterip/test/kubetest"
	"github.com/coredns/caddy"
	"github.com/miekg/dns"
)

// process is another process that serves an address, whose Service has an address of its own.
type process struct {
	t       *testing.T
	command *exec.Cmd
	log     *bufio.Scanner
	end     func()
}

const processCorefile = "CLUSTERIP_TEST_COREFILE"

func startProcess(t *testing.T, port, clusterIP string) *process {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "web.yaml"), fmt.Sprintf(serviceYAML, clusterIP))
	p := &process{t: t, command: exec.Command(os.Args[0], "-test.run=^TestProcess$", "-test.v")}
	p.command.Env = append(os.Environ(), processCorefile+"="+
		fmt.Sprintf("cluster.local:%s {\nbind 127.0.0.1\nclusterip {\nmanifests %s\nfastpath on threads 2\n}\n}\n", port, dir))
	stdin, err := p.command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.end = func() { stdin.Close() }
	stderr, err := p.command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.log = bufio.NewScanner(stderr)
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.command.Process.Kill()
		p.command.Wait()
	})
	return p
}

// says reads its log until there is something.
func (p *process) says(what string) {
	p.t.Helper()
	for p.log.Scan() {
		if strings.Contains(p.log.Text(), what) {
			return
		}
	}
	p.t.Fatalf("the process has ended before it said %q", what)
}

// TestProcess is what such a process runs, until its standard input ends.
func TestProcess(t *testing.T) {
	text := os.Getenv(processCorefile)
	if text == "" {
		t.Skip("other tests start this")
	}
	instance, err := caddy.Start(caddy.CaddyfileInput{ServerTypeName: "dns", Filepath: "Corefile", Contents: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	os.Stdin.Read(make([]byte, 1))
	instance.ShutdownCallbacks()
	instance.Stop()
}

// askers ask one query after another.
type askers struct {
	stop  chan struct{}
	all   sync.WaitGroup
	lost  atomic.Uint64
	mu    sync.Mutex
	found map[string]int // replies by the address in them
}

const manyAskers = 32

func startAskers(t *testing.T, port string) *askers {
	t.Helper()
	a := &askers{stop: make(chan struct{}), found: make(map[string]int)}
	for range manyAskers {
		conn, err := net.Dial("udp", "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		a.all.Go(func() { a.ask(&dns.Conn{Conn: conn}) })
	}
	return a
}

func (a *askers) ask(conn *dns.Conn) {
	defer conn.Close()
	for {
		select {
		case <-a.stop:
			return
		case <-time.After(5 * time.Millisecond):
		}
		conn.SetDeadline(time.Now().Add(3 * time.Second))
		if err := conn.WriteMsg(new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA)); err != nil {
			a.lost.Add(1)
			continue
		}
		reply, err := conn.ReadMsg()
		if err != nil || len(reply.Answer) != 1 {
			a.lost.Add(1)
			continue
		}
		a.mu.Lock()
		a.found[reply.Answer[0].(*dns.A).A.String()]++
		a.mu.Unlock()
	}
}

// some waits until there are so many replies more with an address.
func (a *askers) some(t *testing.T, address string) {
	t.Helper()
	count := func() int {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.found[address]
	}
	deadline := time.Now().Add(20 * time.Second)
	for want := count() + 500; count() < want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s is in no answer", address)
		}
	}
}

// TestSharedAddress has a second process start at the address of the first: it begins with the
// fast path when the first has ended, and so on. Nothing is lost but what waits in the socket of
// CoreDNS's server when that closes it: one query of each asker at most.
func TestSharedAddress(t *testing.T) {
	port := kubetest.FreePort(t)
	const rounds = 3
	address := func(round int) string { return fmt.Sprintf("10.43.0.%d", 10+round) }
	before := startProcess(t, port, address(0))
	before.says("fastpath: on for")
	a := startAskers(t, port)
	for round := range rounds {
		a.some(t, address(round))
		next := startProcess(t, port, address(round+1))
		next.says("fastpath: waits at dns://127.0.0.1:" + port)
		a.some(t, address(round))
		before.end()
		next.says("fastpath: on for")
		a.some(t, address(round+1))
		before = next
	}
	close(a.stop)
	a.all.Wait()
	if lost := a.lost.Load(); lost > rounds*manyAskers {
		t.Errorf("%d queries are lost; the others found %v", lost, a.found)
	}
}

// TestSharedAddressKilled kills the first of two processes: a query may be lost that waits in
// its sockets then, and none after.
func TestSharedAddressKilled(t *testing.T) {
	port := kubetest.FreePort(t)
	first := startProcess(t, port, "10.43.0.10")
	first.says("fastpath: on for")
	second := startProcess(t, port, "10.43.0.11")
	second.says("fastpath: waits at")
	a := startAskers(t, port)
	a.some(t, "10.43.0.10")
	first.command.Process.Kill()
	second.says("fastpath: on for")
	lost := a.lost.Load()
	a.some(t, "10.43.0.11")
	close(a.stop)
	a.all.Wait()
	if after := a.lost.Load() - lost; after > manyAskers {
		t.Errorf("%d queries are lost", after)
	}
}
