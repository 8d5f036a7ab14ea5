package docs

import (
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/test/clustertest"
	"github.com/clusterip/clusterip/test/kubetest"
	"github.com/miekg/dns"
)

// The README's Corefile is sound, and its Service has an endpoint.
func TestExample(t *testing.T) {
	etc := t.TempDir()
	if err := os.Mkdir(filepath.Join(etc, "manifests"), 0o755); err != nil {
		t.Fatal(err)
	}
	folders := strings.NewReplacer("/etc/clusterip/", etc+"/", "/var/lib/clusterip/", etc+"/")
	writeExample(t, "A Corefile of your own", folders, map[string]string{
		"corefile": filepath.Join(etc, "Corefile"), "yaml": filepath.Join(etc, "manifests/web.yaml"),
	})
	corefile := filepath.Join(etc, "Corefile")
	if out, err := exec.Command("coredns", "check", "-conf", corefile).CombinedOutput(); err != nil {
		t.Errorf("check: %v\n%s", err, out)
	}
	out, err := exec.Command("coredns", "rules", "-conf", corefile).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--to-destination 10.42.0.7:8080") {
		t.Errorf("rules: %v\n%s", err, out)
	}
}

// What the README's first example promises: three processes on this machine have one name,
// and new connections to its address go to each of them.
func TestThreeProcesses(t *testing.T) {
	netlab.Require(t)
	n := kubetest.NewNode(t)
	address := n.Addr(cluster.IPv4).String()
	dir := t.TempDir()
	writeExample(t, "Three processes, one name", strings.NewReplacer("192.0.2.10", address), map[string]string{
		"corefile": filepath.Join(dir, "Corefile"), "yaml": filepath.Join(dir, "web.yaml"),
	})
	servers := netlab.NewServers()
	t.Cleanup(servers.Close)
	for port := uint16(8081); port <= 8083; port++ {
		l, err := n.Listen("tcp", netip.AddrPortFrom(netip.IPv4Unspecified(), port))
		if err != nil {
			t.Fatal(err)
		}
		servers.Serve(l, func(c net.Conn) { fmt.Fprintln(c, port) })
	}
	server := exec.Command("coredns")
	server.Dir = dir
	kubetest.StartOn(t, n.Host, server)

	heard := make(map[string]bool)
	clustertest.Eventually(t, 30*time.Second, "answers of all three", func() error {
		server, err := n.Dial(t.Context(), "udp", netip.MustParseAddrPort("127.0.0.1:53"))
		if err != nil {
			return err
		}
		defer server.Close()
		addr, err := lookUp(server, "web.shop.svc.cluster.local.")
		if err != nil {
			return err
		}
		for range 20 {
			conn, err := n.Dial(t.Context(), "tcp", netip.AddrPortFrom(addr, 80))
			if err != nil {
				return err
			}
			conn.SetDeadline(time.Now().Add(5 * time.Second))
			said, err := io.ReadAll(conn)
			conn.Close()
			if err != nil {
				return err
			}
			heard[string(said)] = true
		}
		if len(heard) != 3 {
			return fmt.Errorf("heard %q", slices.Collect(maps.Keys(heard)))
		}
		return nil
	})
}

// lookUp asks for the one address of a name.
func lookUp(conn net.Conn, name string) (netip.Addr, error) {
	reply, _, err := (&dns.Client{Timeout: time.Second}).ExchangeWithConn(new(dns.Msg).SetQuestion(name, dns.TypeA), &dns.Conn{Conn: conn})
	if err != nil {
		return netip.Addr{}, err
	}
	if len(reply.Answer) != 1 {
		return netip.Addr{}, fmt.Errorf("the reply is %v", reply)
	}
	addr, _ := netip.AddrFromSlice(reply.Answer[0].(*dns.A).A)
	return addr.Unmap(), nil
}

// writeExample writes the blocks of a chapter of the README to the files that are named by
// the language of each.
func writeExample(t *testing.T, chapter string, replace *strings.Replacer, files map[string]string) {
	t.Helper()
	readme, err := os.ReadFile(repository + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(readme), "\n## "+chapter+"\n")
	if !found {
		t.Fatalf("README.md has no chapter %q", chapter)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	for language, file := range files {
		blocks := slices.Collect(maps.Values(fencedBlocks(text, language)))
		if len(blocks) != 1 {
			t.Fatalf("%s: %d blocks marked %s, want 1", chapter, len(blocks), language)
		}
		if err := os.WriteFile(file, []byte(replace.Replace(blocks[0])), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
