package demo

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/test/kubetest"
)

func TestMain(m *testing.M) { kubetest.Main(m.Run) }

// newDemo prepares `coredns demo`, and checks in the end that nothing of it is
// left: it has a folder of its own for temporary files, and that folder's name in
// its environment marks its processes. A namespace lives by processes alone.
func newDemo(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	netlab.Require(t, "curl", "host", "iptables", "mount")
	binary, folder := kubetest.Program(t, false), t.TempDir()
	cmd := exec.CommandContext(t.Context(), binary, append([]string{"demo"}, args...)...)
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "TMPDIR="+folder, "SHELL=/bin/sh", "NO_COLOR=1")
	links := interfaces(t)
	t.Cleanup(func() {
		for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(pause) {
			left := processesWith(t, "TMPDIR="+folder)
			if len(left) == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Errorf("processes left: %q", left)
				break
			}
		}
		if got := interfaces(t); got != links {
			t.Errorf("links before: %s; now: %s", links, got)
		}
	})
	return cmd
}

func interfaces(t *testing.T) string {
	t.Helper()
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range links {
		names = append(names, l.Name)
	}
	return strings.Join(names, " ")
}

// processesWith lists the command lines of those with a variable.
func processesWith(t *testing.T, variable string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, file := range files {
		environ, _ := os.ReadFile(file) // a process may end meanwhile
		if bytes.Contains(environ, []byte(variable+"\x00")) {
			line, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
			found = append(found, string(line))
		}
	}
	return found
}

func checkNoFiles(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if left, err := os.ReadDir(cmd.Dir); err != nil || len(left) > 0 {
		t.Errorf("files left: %v (%v)", left, err)
	}
}

func TestDemo(t *testing.T) {
	for _, c := range []struct {
		name  string
		args  []string
		stdin string
		want  string // a pattern in the output, after the last step's
	}{
		{name: "no shell", args: []string{"--no-shell"}},
		{
			name:  "shell in the client pod",
			stdin: "host db-0.db\ncurl -sS http://echo-server-clusterip:8080\nfalse\n",
			want:  `(?s)db-0.db.testing.svc.cluster.local has address 10.42.0.71\nHello from echo-server-\S+ at 10.42.`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := newDemo(t, c.args...)
			cmd.Stdin = strings.NewReader(c.stdin)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			checkNoFiles(t, cmd)
			text := string(out)
			for i, s := range script {
				if heading := fmt.Sprintf("\n%d. %s\n", i+1, s.title); !strings.Contains(text, heading) {
					t.Errorf("there is no heading %q", heading)
				}
			}
			if strings.Contains(text, "✗") || strings.Contains(text, "\x1b") {
				t.Error("a cross or an escape sequence in the output")
			}
			_, after, _ := strings.Cut(text, "Every step showed what the notes say")
			if !regexp.MustCompile(c.want).MatchString(after) {
				t.Errorf("no match of %q in the output's end", c.want)
			}
			if t.Failed() {
				t.Logf("%s", text)
			}
		})
	}
}

// interrupt runs a demo, signals to it when it has printed a line that begins with after, and
// checks that it ends in good time without a step that fails.
func interrupt(t *testing.T, cmd *exec.Cmd, signal syscall.Signal, after string) (stderr string) {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := cmd.StdinPipe() // keeps the shell waiting
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var told strings.Builder
	cmd.Stderr = &told
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), after) {
	}
	to := cmd.Process.Pid
	if signal == syscall.SIGINT {
		to = -to // a terminal sends it to the whole group
	}
	if err := syscall.Kill(to, signal); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for lines.Scan() {
		if strings.Contains(lines.Text(), "✗") {
			t.Errorf("a step has failed: %s", lines.Text())
		}
	}
	cmd.Wait() // how it ended is in its ProcessState
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %s to end", took)
	}
	return told.String()
}

func TestDemoInterrupted(t *testing.T) {
	for _, c := range []struct {
		name   string
		signal syscall.Signal
		after  string // when this has been printed
		stderr string // a pattern
	}{
		{"at the start", syscall.SIGTERM, "", "^demo: interrupted (before the first step|in step 1, .*)\n$"},
		{"in the middle", syscall.SIGTERM, "5. ", "^demo: interrupted in step [5-9], .*\n$"},
		{"Ctrl-C in a step", syscall.SIGINT, "3. ", "^demo: interrupted in step [3-9], .*\n$"},
		{"Ctrl-C in the shell", syscall.SIGINT, "You are in the client pod", "^demo: the shell was ended: interrupt signal received\n$"},
		{"killed", syscall.SIGKILL, "2. ", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := newDemo(t)
			stderr := interrupt(t, cmd, c.signal, c.after)
			if c.signal == syscall.SIGKILL {
				return // the next demo removes its files, see TestAbandonedFolders
			}
			if cmd.ProcessState.ExitCode() != 1 {
				t.Errorf("ended with %v, want exit status 1", cmd.ProcessState)
			}
			if !regexp.MustCompile(c.stderr).MatchString(stderr) {
				t.Errorf("stderr %q, want %q", stderr, c.stderr)
			}
			checkNoFiles(t, cmd)
		})
	}
}

func TestCheckNamesPackages(t *testing.T) {
	netlab.Require(t)
	t.Setenv("PATH", t.TempDir())
	err := check()
	if err == nil || !strings.Contains(err.Error(), "apt-get install curl bind9-host iptables") {
		t.Errorf("error %v", err)
	}
}
