package kubetest

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/test/clustertest"
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
	done <-chan struct{} // closed when the process has ended
}

// StartOn starts a command in the host's network, or in this process's own if
// there is no host. When the test failed, its end shows what the command wrote.
// Data races that a program built with -race reports fail the test.
func StartOn(t testing.TB, host *netlab.Host, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{t: t, cmd: cmd}
	cmd.Stdout, cmd.Stderr = &p.log, &p.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var namespace *netlab.Namespace
	if host != nil {
		namespace = host.Namespace
	}
	var err error
	if p.done, err = namespace.Start(cmd); err != nil {
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
	clustertest.Eventually(p.t, limit, fmt.Sprintf("%s: %s", p, what), func() error {
		select {
		case <-p.done:
			p.t.Fatalf("%s ended before %s: %v", p, what, p.cmd.ProcessState)
		default:
		}
		return condition()
	})
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
