package iptables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// execution is one run of a tool.
type execution struct {
	path    string
	args    []string
	stdin   []byte
	stdout  io.Writer // nil: thrown away
	timeout time.Duration
	// explain makes an error of what a failed run wrote to stderr.
	explain func(stderr string) error
}

// do runs the tool and waits until it has ended. When the time is up it and its
// children are killed; what it has done by then is unknown.
func (e execution) do(ctx context.Context) error { return e.start(ctx)() }

// start begins to run the tool in the network namespace of this thread. wait is for the same
// goroutine to call, once.
func (e execution) start(ctx context.Context) (wait func() error) {
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	stderr := &head{}
	cmd := exec.CommandContext(ctx, e.path, e.args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C") // messages are looked at
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(e.stdin), e.stdout, stderr
	// A tool that outlives this process, waiting for a lock, would write after
	// the next one has read. The signal comes when the thread ends, so keep it.
	runtime.LockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	// A process that left the group may still hold the pipes.
	cmd.WaitDelay = time.Second

	began := time.Now()
	err := cmd.Start()
	return func() error {
		defer cancel()
		defer runtime.UnlockOSThread()
		if err == nil {
			err = cmd.Wait()
		}
		switch name := filepath.Base(e.path); {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%s was killed after %v, its work half done or not at all: %w", name, time.Since(began).Round(time.Millisecond), ctx.Err())
		case !errors.As(err, new(*exec.ExitError)):
			return fmt.Errorf("run %s: %w", name, err)
		default:
			// Some messages begin with the tool's name already.
			return fmt.Errorf("%s: %w", name, e.explain(strings.TrimPrefix(stderr.String(), name+": ")))
		}
	}
}

// head keeps the first part of what is written to it.
type head struct{ kept []byte }

const headSize = 16 << 10

func (h *head) Write(data []byte) (int, error) {
	h.kept = append(h.kept, data[:min(len(data), headSize-len(h.kept))]...)
	return len(data), nil
}

func (h *head) String() string { return string(h.kept) }

// errUnsupported says that the kernel was built without what a tool needs.
var errUnsupported = errors.New("the kernel does not support it")

// unsupported are the ways in which the tools say so: no nf_tables (two versions
// of iptables-nft), no IPv6, no such legacy table.
var unsupported = []string{
	"Protocol not supported",
	"Could not fetch rule set generation id: Invalid argument",
	"Address family not supported",
	"Table does not exist",
}

// explainSave reads what iptables or iptables-save wrote to stderr. Their exit
// status does not tell one failure from another.
func explainSave(stderr string) error {
	message := oneLine(stderr)
	if strings.Contains(stderr, "Permission denied") {
		return fmt.Errorf("%s: give the process CAP_NET_ADMIN, or run it as root", message)
	}
	for _, text := range unsupported {
		if strings.Contains(stderr, text) {
			return fmt.Errorf("%s: %w", message, errUnsupported)
		}
	}
	return errors.New(message)
}

// atLine matches the ways in which iptables-restore names a line of its input:
// "line 3 failed", "Error occurred at line: 3", "line 3: CHAIN_DEL failed".
var atLine = regexp.MustCompile(`line:? (\d+)`)

// explainRestore reads what iptables-restore wrote to stderr. Its exit status
// does not tell one failure from another.
func explainRestore(stderr string, input []byte) error {
	if strings.Contains(stderr, "holding the xtables lock") {
		return fmt.Errorf("the xtables lock was held by another program for %d s: "+
			"another iptables command, kube-proxy, the kubelet or a firewall service; see fuser /run/xtables.lock", lockSeconds)
	}
	err := explainSave(stderr)
	m := atLine.FindStringSubmatch(stderr)
	if m == nil {
		return err
	}
	line, convErr := strconv.Atoi(m[1])
	if convErr != nil {
		return err
	}
	r := &rejection{error: fmt.Errorf("%w\n%s", err, excerpt(input, line))}
	if text := lineOf(input, line); strings.HasPrefix(text, "-A ") || strings.HasPrefix(text, "-I ") {
		r.chain, r.rule, _ = strings.Cut(text[len("-A "):], " ")
	}
	// What the kernel itself rejects is told at the end of the transaction.
	if m := inChain.FindStringSubmatch(stderr); m != nil {
		r.chain = m[1]
	}
	return r
}

// rejection is an error about one line of the input.
type rejection struct {
	error
	chain, rule string // that the line is about, if it adds a rule
}

func (r *rejection) Unwrap() error { return r.error }

// inChain matches what iptables-nft-restore says of a rule that the kernel rejects.
var inChain = regexp.MustCompile(`rule in chain (KUBE-\S+)`)

// lineOf returns a line of the input, without its end.
func lineOf(input []byte, number int) string {
	for text := range bytes.Lines(input) {
		if number--; number == 0 {
			return strings.TrimSuffix(string(text), "\n")
		}
	}
	return ""
}

// excerpt returns the lines around one of the input, numbered.
func excerpt(input []byte, line int) string {
	const around = 2
	var out strings.Builder
	number := 0
	for text := range bytes.Lines(input) {
		number++
		if number < line-around || number > line+around {
			continue
		}
		sign := " "
		if number == line {
			sign = ">"
		}
		fmt.Fprintf(&out, "%s %d: %s", sign, number, text)
	}
	return strings.TrimSuffix(out.String(), "\n")
}

// oneLine joins the lines of a message, without the advice to read the manual.
func oneLine(message string) string {
	var lines []string
	for line := range strings.Lines(message) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "Try `") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}
