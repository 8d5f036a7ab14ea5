// Package docs does what README.md and docs/ tell people to do. It runs every
// fenced block marked sh, beside a server started as the README says, and serves
// the README's own Corefile and manifests.
package docs

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/test/clustertest"
	"github.com/clusterip/clusterip/test/kubetest"
	"github.com/miekg/dns"
)

const repository = "../.."

func TestMain(m *testing.M) { kubetest.Main(func() int { return withProgram(m.Run) }) }

// withProgram runs a function while coredns is in PATH.
func withProgram(run func() int) int {
	program, err := kubetest.Build(false)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	os.Setenv("PATH", filepath.Dir(program)+":"+os.Getenv("PATH"))
	return run()
}

func TestCommands(t *testing.T) {
	netlab.Require(t, "dig", "iptables")
	n := kubetest.NewNode(t)
	serve(t, n)

	files, err := filepath.Glob(repository + "/docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := 0
	for _, file := range append(files, repository+"/README.md", repository+"/plugin/kernelnat/README.md", repository+"/plugin/clusterip/README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line, block := range fencedBlocks(string(text), "sh") {
			blocks++
			block = withoutMake(block)
			t.Run(fmt.Sprintf("%s:%d", filepath.Base(file), line), func(t *testing.T) {
				cmd := exec.Command("sh", "-e", "-c", block)
				cmd.Dir = repository
				var out bytes.Buffer
				cmd.Stdout, cmd.Stderr = &out, &out
				if err := n.Do(cmd.Run); err != nil {
					t.Errorf("%s\n%v\n%s", block, err, out.String())
				}
			})
		}
	}
	if blocks == 0 {
		t.Error("no commands found: is the pattern still right?")
	}
}

// serve runs coredns without arguments in an empty folder.
func serve(t *testing.T, n *netlab.Node) {
	t.Helper()
	server := exec.Command("coredns")
	server.Dir = t.TempDir()
	kubetest.StartOn(t, n.Host, server)
	query := new(dns.Msg).SetQuestion("db.testing.svc.cluster.local.", dns.TypeA)
	clustertest.Eventually(t, 15*time.Second, "an answer of coredns without arguments", func() error {
		conn, err := n.Dial(t.Context(), "udp", netip.MustParseAddrPort("127.0.0.1:1053"))
		if err != nil {
			return err
		}
		defer conn.Close()
		reply, _, err := (&dns.Client{Timeout: time.Second}).ExchangeWithConn(query, &dns.Conn{Conn: conn})
		if err == nil && len(reply.Answer) != 2 {
			err = fmt.Errorf("the reply is %v", reply)
		}
		return err
	})
}

// fencedBlocks returns the blocks marked with a language by their line.
func fencedBlocks(text, language string) map[int]string {
	blocks := make(map[int]string)
	start := 0
	for i, line := range strings.Split(text, "\n") {
		switch {
		case start == 0 && strings.TrimSpace(line) == "```"+language:
			start = i + 1
		case start > 0 && strings.TrimSpace(line) == "```":
			start = 0
		case start > 0:
			blocks[start] += line + "\n"
		}
	}
	return blocks
}

// withoutMake leaves out the lines with make: they run this test.
func withoutMake(block string) string {
	var kept strings.Builder
	for line := range strings.Lines(block) {
		if !strings.HasPrefix(strings.TrimSpace(line), "make ") {
			kept.WriteString(line)
		}
	}
	return kept.String()
}
