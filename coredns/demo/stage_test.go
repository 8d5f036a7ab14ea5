package demo

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/clusterip/clusterip/kernelnat/netlab"
)

// A demo that was killed leaves its folder without a lock.
func TestAbandonedFolders(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	makeFolder := func(locked, complete bool) string {
		dir, lock, err := newFolder()
		if err != nil {
			t.Fatal(err)
		}
		if complete {
			if err := os.WriteFile(filepath.Join(dir, corefileName), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if locked {
			t.Cleanup(func() { lock.Close() })
		} else {
			lock.Close()
		}
		return dir
	}
	abandoned, inUse, beingMade := makeFolder(false, true), makeFolder(true, true), makeFolder(false, false)
	removeAbandoned()
	for dir, want := range map[string]bool{abandoned: false, inUse: true, beingMade: true} {
		if _, err := os.Stat(dir); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", dir, err == nil, want)
		}
	}
}

// newTestStage has a server that serves nothing.
func newTestStage(t *testing.T, script string) *stage {
	t.Helper()
	netlab.Require(t, "mount", "curl")
	server := filepath.Join(t.TempDir(), "server")
	if err := os.WriteFile(server, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := newStage(t.Context(), server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close stage: %v", err)
		}
		if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
			t.Errorf("%s is left", s.dir)
		}
	})
	return s
}

func TestClientIsAPod(t *testing.T) {
	s := newTestStage(t, "exec sleep 60")
	if err := s.startPod(dbPods[0]); err != nil {
		t.Fatal(err)
	}
	machine, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, line, want string }{
		{"resolver", "cat /etc/resolv.conf", resolvConf},
		{"name", "hostname", "client\n"},
		{"processes", "ls -d /proc/[0-9]* | head -1", "/proc/1\n"},
		{"reaches a pod", "curl -sS http://10.42.0.71:5678", hello(dbPods[0]) + "\n"},
		{"connections are not kept", "curl -sS 'http://10.42.0.71:5678/?[1-2]' -o /dev/null -w '%{num_connects}\n'", "1\n1\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if out, err := s.output(t.Context(), inClient, c.line); err != nil || out != c.want {
				t.Errorf("got %q, error %v; want %q", out, err, c.want)
			}
		})
	}
	if now, err := os.ReadFile("/etc/resolv.conf"); err != nil || string(now) != string(machine) {
		t.Errorf("the machine's resolv.conf was %q, is %q (%v)", machine, now, err)
	}
}

// What a command leaves in the background ends with it.
func TestClientLeavesNoProcess(t *testing.T) {
	s := newTestStage(t, "exec sleep 60")
	const line = "sleep 3141 >/dev/null 2>&1 </dev/null & echo started"
	if out, err := s.output(t.Context(), inClient, line); err != nil || out != "started\n" {
		t.Fatalf("got %q, error %v", out, err)
	}
	for deadline := time.Now().Add(5 * time.Second); processes(t, "3141") > 0; time.Sleep(pause) {
		if time.Now().After(deadline) {
			t.Fatal("the background process runs on")
		}
	}
}

// A demo that is killed while a command starts never sends the line, and the
// kernel may not have known yet that the command was to die with it.
func TestClientOfKilledDemo(t *testing.T) {
	netlab.Require(t)
	s := &stage{dir: t.TempDir()}
	theirs, ours, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	ours.Close()
	cmd := s.command(t.Context(), inClient, "echo", "runs on")
	cmd.ExtraFiles = []*os.File{theirs}
	if out, err := cmd.CombinedOutput(); err == nil || len(out) > 0 {
		t.Errorf("printed %q and ended with %v, want a failure without a word", out, err)
	}
}

// processes counts those with an argument.
func processes(t *testing.T, argument string) int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, file := range files {
		line, _ := os.ReadFile(file)
		for arg := range strings.SplitSeq(string(line), "\x00") {
			if arg == argument {
				count++
			}
		}
	}
	return count
}

func TestServerThatDoesNotRun(t *testing.T) {
	s := newTestStage(t, "echo port 53 is taken; exit 3")
	p := &play{ctx: s.up, stage: s, screen: screen{out: t.Output()}}
	began := time.Now()
	err := p.perform(nil)
	if err == nil || !strings.Contains(err.Error(), "the server ended: exit status 3") {
		t.Errorf("error %v", err)
	}
	if waited := time.Since(began); waited > patience/2 {
		t.Errorf("noticed after %s", waited)
	}
	if log := s.logTail(); log != "port 53 is taken" {
		t.Errorf("log %q", log)
	}
}

func TestInterrupt(t *testing.T) {
	s := newTestStage(t, "exec sleep 60")
	ctx, cancel := context.WithCancel(t.Context())
	p := &play{ctx: ctx, stage: s, screen: screen{out: t.Output()}}
	time.AfterFunc(100*time.Millisecond, cancel)
	began := time.Now()
	if _, err := p.await(inClient, "sleep 30", contains("something")); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestScale(t *testing.T) {
	s := newTestStage(t, "exec sleep 60")
	for _, replicas := range []int{3, 5, 2, 2, 0} {
		if err := s.scale(replicas); err != nil {
			t.Fatal(err)
		}
		if err := s.stopRemoved(); err != nil {
			t.Fatal(err)
		}
		manifests, err := filepath.Glob(filepath.Join(s.dir, manifests, "pod-echo-server-*.yaml"))
		if err != nil || len(manifests) != replicas || len(s.pods) != replicas {
			t.Errorf("%d manifests, %d pods, error %v; want %d", len(manifests), len(s.pods), err, replicas)
		}
	}
}
