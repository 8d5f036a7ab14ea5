package netlab

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
)

var (
	podA = []netip.Addr{netip.MustParseAddr("10.42.0.49"), netip.MustParseAddr("fd00:10:42::49")}
	podB = []netip.Addr{netip.MustParseAddr("10.42.1.63"), netip.MustParseAddr("fd00:10:42::1:63")}
)

func newNode(t *testing.T) *Node {
	t.Helper()
	Require(t)
	n, err := NewNode()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close node: %v", err)
		}
	})
	return n
}

func addPod(t *testing.T, n *Node, name string, addrs ...netip.Addr) *Host {
	t.Helper()
	pod, err := n.AddPod(name, addrs...)
	if err != nil {
		t.Fatal(err)
	}
	for _, serve := range []func(uint16) error{pod.ServeTCP, pod.ServeUDP} {
		if err := serve(5678); err != nil {
			t.Fatal(err)
		}
	}
	return pod
}

func TestReach(t *testing.T) {
	n := newNode(t)
	a, b := addPod(t, n, "a", podA...), addPod(t, n, "b", podB...)
	for _, server := range []*Host{n.Outside, n.Host} {
		if err := server.ServeTCP(5678); err != nil {
			t.Fatal(err)
		}
		if err := server.ServeUDP(5678); err != nil {
			t.Fatal(err)
		}
	}
	for _, family := range []cluster.Family{cluster.IPv4, cluster.IPv6} {
		for _, network := range []string{"tcp", "udp"} {
			for _, path := range []struct{ from, to *Host }{{a, b}, {b, a}, {a, a}, {n.Outside, a}, {a, n.Outside}, {n.Host, a}, {a, n.Host}} {
				t.Run(fmt.Sprintf("%s %s %s to %s", family, network, path.from.Name, path.to.Name), func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
					defer cancel()
					reply, err := path.from.Ask(ctx, network, netip.AddrPortFrom(path.to.Addr(family), 5678))
					if err != nil {
						t.Fatal(err)
					}
					if reply.Host != path.to.Name {
						t.Errorf("%s answered", reply.Host)
					}
					// The node has several addresses and may take any.
					if path.from != n.Host && reply.Client.Addr() != path.from.Addr(family) {
						t.Errorf("the server saw %s", reply.Client)
					}
				})
			}
		}
	}
}

// Without forwarding, pods and Outside have no way to each other: proof that
// their packets pass the node, not the bridge.
func TestPacketsPassTheNode(t *testing.T) {
	n := newNode(t)
	a, b := addPod(t, n, "a", podA...), addPod(t, n, "b", podB...)
	err := n.Do(func() error {
		return writeSysctls(map[string]string{"net/ipv4/ip_forward": "0", "net/ipv6/conf/all/forwarding": "0"})
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range []*Host{a, n.Outside} {
		for _, to := range b.Addrs {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			if reply, err := from.Ask(ctx, "tcp", netip.AddrPortFrom(to, 5678)); err == nil {
				t.Errorf("%s reached %s past the node: %s", from.Name, to, reply)
			}
			cancel()
		}
	}
}

func TestConnectionStaysOpen(t *testing.T) {
	n := newNode(t)
	a, b := addPod(t, n, "a", podA...), addPod(t, n, "b", podB...)
	conn, err := a.Dial(t.Context(), "tcp", netip.AddrPortFrom(podB[0], 5678))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	r := bufio.NewReader(conn)
	if reply, err := ReadReply(r); err != nil || reply.Host != b.Name {
		t.Fatalf("reply %s, error %v", reply, err)
	}
	for i := range 3 {
		line := fmt.Sprintf("line %d\n", i)
		if _, err := conn.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
		if got, err := r.ReadString('\n'); got != line {
			t.Fatalf("got %q, error %v; want %q", got, err, line)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := r.ReadString('\n'); err == nil {
		t.Errorf("read %q from a closed pod", got)
	}
}

// The node must not go on sending to the hardware address of the pod that is
// gone.
func TestAddressMovesToANewPod(t *testing.T) {
	n := newNode(t)
	for _, name := range []string{"first", "second"} {
		pod := addPod(t, n, name, podA...)
		for _, a := range podA {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			reply, err := n.Outside.Ask(ctx, "tcp", netip.AddrPortFrom(a, 5678))
			cancel()
			if err != nil || reply.Host != name {
				t.Fatalf("%s: reply %s, error %v; want %s", a, reply, err, name)
			}
		}
		if err := pod.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// The thread that was in the namespace must not show up there again, nor the
// namespace's sockets elsewhere.
func TestDoLeavesTheThreadAtHome(t *testing.T) {
	Require(t)
	n, err := NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	home := linkNames(t)
	for range 50 {
		var inside []string
		if err := n.Do(func() error { inside = linkNames(t); return nil }); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(inside, " "); got != "lo" {
			t.Fatalf("links inside: %s", got)
		}
		if got := linkNames(t); fmt.Sprint(got) != fmt.Sprint(home) {
			t.Fatalf("links outside: %v, before: %v", got, home)
		}
	}
	if err := n.Do(func() error { runtime.Goexit(); return nil }); err == nil {
		t.Error("no error from a function that did not return")
	}
}

func linkNames(t *testing.T) []string {
	t.Helper()
	links, err := net.Interfaces()
	if err != nil {
		t.Error(err)
	}
	names := make([]string, len(links))
	for i, l := range links {
		names[i] = l.Name
	}
	return names
}

func TestNothingLeft(t *testing.T) {
	Require(t)
	links, files, goroutines := linkNames(t), openFiles(t), runtime.NumGoroutine()
	var nodes []uint64
	for range 50 {
		n, err := NewNode()
		if err != nil {
			t.Fatal(err)
		}
		addPod(t, n, "a", podA...)
		nodes = append(nodes, inode(t, n))
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		if err := n.Close(); err != nil {
			t.Fatalf("close again: %v", err)
		}
	}
	if got := linkNames(t); fmt.Sprint(got) != fmt.Sprint(links) {
		t.Errorf("links: %v, before: %v", got, links)
	}
	for deadline := time.Now().Add(5 * time.Second); ; runtime.Gosched() {
		gotFiles, gotGoroutines, user := openFiles(t), runtime.NumGoroutine(), userOf(nodes)
		if gotFiles <= files && gotGoroutines <= goroutines && user == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d open files, before: %d; %d goroutines, before: %d; a namespace in use: %q",
				gotFiles, files, gotGoroutines, goroutines, user)
		}
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func inode(t *testing.T, n *Node) uint64 {
	t.Helper()
	var stat syscall.Stat_t
	if err := syscall.Fstat(int(n.handle), &stat); err != nil {
		t.Fatal(err)
	}
	return stat.Ino
}

// userOf returns a file of this process that keeps one of the namespaces alive.
func userOf(namespaces []uint64) string {
	files, _ := filepath.Glob("/proc/self/task/*/ns/net")
	open, _ := filepath.Glob("/proc/self/fd/*")
	for _, file := range append(files, open...) {
		target, _ := os.Readlink(file)
		for _, inode := range namespaces {
			if target == fmt.Sprintf("net:[%d]", inode) {
				return file
			}
		}
	}
	return ""
}

type recorder struct{ skipped, failed string }

func (r *recorder) Helper()                      {}
func (r *recorder) Skipf(f string, args ...any)  { r.skipped = fmt.Sprintf(f, args...) }
func (r *recorder) Fatalf(f string, args ...any) { r.failed = fmt.Sprintf(f, args...) }

func TestRequire(t *testing.T) {
	for _, c := range []struct{ required, skipped, failed string }{
		{required: "", skipped: "no-such-tool"},
		{required: "1", failed: "no-such-tool"},
	} {
		t.Run("E2E_REQUIRED="+c.required, func(t *testing.T) {
			Require(t)
			t.Setenv("E2E_REQUIRED", c.required)
			var r recorder
			Require(&r, "no-such-tool")
			for _, m := range []struct{ got, want string }{{r.skipped, c.skipped}, {r.failed, c.failed}} {
				if (m.got == "") != (m.want == "") || !strings.Contains(m.got, m.want) {
					t.Errorf("got %q, want %q", m.got, m.want)
				}
			}
		})
	}
}
