package kubetest

import (
	"bytes"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/clusterip/clusterip/kernelnat/netlab"
)

// endTime is how long a process may take to end.
const endTime = 15 * time.Second

// shownLog is how much of its log a process shows when its test fails.
const shownLog = 8 << 10

// Process is a program that was started. It ends with the test, or by Stop.
type Process struct {
	t    testing.TB
	cmd  *exec.Cmd
	log  log
	done chan struct{} // closed when the process has ended
}

// StartOn starts a command in the host's network, or in this process's own if
// there is no host. When the test failed, its end shows what the command wrote.
// Data races that a program built with -race reports fail the test.
func StartOn(t testing.TB, host *netlab.Host, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{t: t, cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.log, &p.log
	// The kernel sends it when the thread that started the process ends, so
	// that thread stays with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	live := func() error {
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait()
		}
		return nil
	}
	go func() {
		defer close(p.done)
		if host == nil {
			runtime.LockOSThread()
			live()
		} else if err := host.Do(live); err != nil {
			started <- err
		}
	}()
	if err := <-started; err != nil {
		t.Fatalf("start %s: %v", p, err)
	}
	t.Cleanup(p.end)
	return p
}

// String returns the program's name.
func (p *Process) String() string {
	return p.cmd.Path[strings.LastIndexByte(p.cmd.Path, '/')+1:]
}

// Log returns what the process has written so far.
func (p *Process) Log() string { return p.log.String() }

// Says is a condition to wait for: that the log has a text.
func (p *Process) Says(text string) func() error {
	return func() error {
		if !strings.Contains(p.Log(), text) {
			return fmt.Errorf("no %q in the log", text)
		}
		return nil
	}
}

// Signal sends a signal.
func (p *Process) Signal(signal syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		p.t.Fatalf("send %v to %s: %v", signal, p, err)
	}
}

// Stop sends a signal and waits until the process has ended. It may have ended
// before.
func (p *Process) Stop(signal syscall.Signal) {
	p.t.Helper()
	p.cmd.Process.Signal(signal)
	select {
	case <-p.done:
	case <-time.After(endTime):
		p.t.Errorf("%s did not end within %v of %v", p, endTime, signal)
		p.cmd.Process.Kill()
		<-p.done
	}
}

func (p *Process) end() {
	p.t.Helper()
	p.Stop(syscall.SIGTERM)
	text := p.Log()
	if strings.Contains(text, "WARNING: DATA RACE") {
		p.t.Errorf("data race in %s", p)
	}
	if p.t.Failed() {
		if cut := len(text) - shownLog; cut > 0 {
			text = "[…]" + text[cut:]
		}
		p.t.Logf("log of %s:\n%s", p, text)
	}
}

// await waits for a condition that the process is to bring about; it fails the
// test if the process ends or the limit is reached.
func (p *Process) await(what string, limit time.Duration, condition func() error) {
	p.t.Helper()
	var err error
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); {
		if err = condition(); err == nil {
			return
		}
		select {
		case <-p.done:
			p.t.Fatalf("%s ended before %s: %v", p, what, p.cmd.ProcessState)
		case <-time.After(50 * time.Millisecond):
		}
	}
	p.t.Fatalf("%s: no %s within %v: %v", p, what, limit, err)
}

// log keeps what a process writes, to be read at any time.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
