package demo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

const (
	// patience is how long a command may need to show what is expected.
	patience = 10 * time.Second
	oneTry   = 2 * time.Second       // how long it may take once
	pause    = 50 * time.Millisecond // between two tries

	// leastP bounds the chi-square test of the shares. A balancer without
	// fault fails it once in a million runs; one that gives a pod of three
	// 55 % of 300 connections practically never passes.
	leastP = 1e-6
)

// play is one performance of the script.
type play struct {
	ctx       context.Context // the stage's, that ends with its server
	stage     *stage
	screen    screen
	page      string     // the address and port of the server's page
	clusterIP netip.Addr // of echo-server-clusterip, once it was seen
	err       error      // of the first act that failed; none comes after it
}

// scene is a step of the script.
type scene struct {
	title string
	play  func(*play)
}

// perform plays the scenes in order, up to the first that fails.
func (p *play) perform(scenes []scene) error {
	if err := p.curtain(); err != nil {
		return err
	}
	for i, s := range scenes {
		p.screen.heading(i+1, s.title)
		s.play(p)
		if p.err != nil && p.interrupted() {
			// The step's complaint would be about what the interrupt cut off.
			return fmt.Errorf("interrupted in step %d, %s", i+1, s.title)
		}
		if p.err != nil {
			p.screen.failed(p.err)
			return fmt.Errorf("step %d, %s: %w", i+1, s.title, p.err)
		}
	}
	return nil
}

// curtain waits until the client gets an answer through the ClusterIP of the
// cluster's DNS.
func (p *play) curtain() error {
	const line = "host -W 1 -t TXT dns-version.cluster.local."
	_, err := p.await(inClient, line, contains("descriptive text"))
	if err != nil && p.interrupted() {
		return errors.New("interrupted before the first step")
	}
	if err != nil {
		return fmt.Errorf("wait for the server: %s: %w", line, err)
	}
	return nil
}

// act does something, unless an act before has failed.
func (p *play) act(f func() error) {
	if p.err == nil {
		p.err = f()
	}
}

// show is an act that prints a command and what it prints, once the output is as
// expected; the command is run again and again until then. What says the expectation to
// the reader. If time runs out it prints the last output, and fails with the complaint.
func (p *play) show(at place, line, what string, want expectation) {
	p.act(func() error {
		out, err := p.await(at, line, want)
		p.screen.command(at, line)
		p.screen.output(out)
		if err != nil {
			return fmt.Errorf("expected: %s; %w", what, err)
		}
		p.screen.passed(what)
		return nil
	})
}

// await runs a command until its output is as expected or time is up. It returns
// the last output, and what is wrong with it.
func (p *play) await(at place, line string, want expectation) (string, error) {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	for {
		out, runErr := p.try(ctx, at, line)
		complaint := want(out)
		if complaint == nil {
			return out, nil
		}
		// The exit status says more only when there is nothing to read.
		if runErr != nil && strings.TrimSpace(out) == "" {
			complaint = errors.Join(complaint, runErr)
		}
		select {
		case <-ctx.Done():
			if p.ctx.Err() != nil {
				return out, context.Cause(p.ctx)
			}
			return out, fmt.Errorf("after %s: %w", patience, complaint)
		case <-time.After(pause):
		}
	}
}

// try runs a command for a limited time: packets to an address that nobody has
// yet get no answer, and a client may wait longer for it than the address needs.
func (p *play) try(ctx context.Context, at place, line string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, oneTry)
	defer cancel()
	return p.stage.output(ctx, at, line)
}

// interrupted tells whether the play was ended from outside, and not because the
// server has ended.
func (p *play) interrupted() bool {
	return errors.Is(context.Cause(p.ctx), context.Canceled)
}

// do is an act that runs a command which prints nothing.
func (p *play) do(at place, line string) {
	p.act(func() error {
		p.screen.command(at, line)
		out, err := p.stage.output(p.ctx, at, line)
		p.screen.output(out)
		return err
	})
}

// connect is an act that makes connections from the client to the Service and shows how
// many each pod got. Every connection must be answered by one of the pods.
func (p *play) connect(n int, pods []podSpec) {
	p.act(func() error { return p.balanced(n, pods) })
}

func (p *play) balanced(n int, pods []podSpec) error {
	// One curl makes them all; the pods close each after one answer.
	line := fmt.Sprintf("curl -sS --max-time 20 'http://echo-server-clusterip:8080/?[1-%d]'", n)
	p.screen.command(inClient, line)
	out, err := p.stage.output(p.ctx, inClient, line)
	if err != nil {
		p.screen.output(out)
		return fmt.Errorf("make %d connections: %w", n, err)
	}
	shares, err := countShares(out, n, pods)
	if err != nil {
		return err
	}
	p.screen.output(chart(shares))

	counts := make([]int, len(shares))
	for i, s := range shares {
		counts[i] = s.count
	}
	statistic, probability := chiSquare(counts)
	verdict := fmt.Sprintf("chi-square %.2f, p = %.3f", statistic, probability)
	if probability < leastP {
		return fmt.Errorf("expected: equal shares; %s, below %g", verdict, leastP)
	}
	p.screen.passed(fmt.Sprintf("%d connections, each pod gets roughly %.0f %% (%s)", n, 100/float64(len(pods)), verdict))
	return nil
}

func countShares(out string, n int, pods []podSpec) ([]share, error) {
	counts := make(map[string]int)
	for line := range strings.Lines(out) {
		counts[strings.TrimSpace(line)]++
	}
	shares := make([]share, len(pods))
	answered := 0
	for i, pod := range pods {
		shares[i] = share{pod, counts[hello(pod)]}
		answered += shares[i].count
		delete(counts, hello(pod))
	}
	if len(counts) > 0 || answered != n {
		return nil, fmt.Errorf("expected: %d answers from %d pods; got %d, and besides %v", n, len(pods), answered, counts)
	}
	return shares, nil
}

// shell gives the client pod to the user, until the shell ends.
func (p *play) shell() error {
	p.screen.note(fmt.Sprintf(`You are in the client pod now; the shell's end is the end of the demo. Try:
  curl http://echo-server-clusterip:8080
  host db
  cp examples/service-headless.yaml manifests/service.yaml; sleep 1; host echo-server-clusterip
  cp examples/service.yaml manifests/
In another terminal, for the rules on the node:
  nsenter --net=/proc/%d/ns/net nft list ruleset
In a browser:
  http://%s/#/explain?target=%s.testing`, p.stage.serverPID, p.page, serviceName))
	name := os.Getenv("SHELL")
	if name == "" {
		name = "/bin/sh"
	}
	cmd := p.stage.command(p.ctx, inClient, name)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if stdin := int(os.Stdin.Fd()); term.IsTerminal(stdin) {
		// Ctrl-C is for the shell's commands, not for the demo.
		cmd.SysProcAttr.Foreground, cmd.SysProcAttr.Ctty = true, stdin
		defer takeTerminal(stdin)
	}
	err := p.stage.perform(inClient, cmd)
	if p.ctx.Err() != nil {
		return fmt.Errorf("the shell was ended: %w", context.Cause(p.ctx))
	}
	// A shell ends with the status of its last command.
	if errors.As(err, new(*exec.ExitError)) {
		return nil
	}
	return err
}

// takeTerminal makes this process the terminal's foreground again, or Ctrl-C
// would go nowhere when the shell has ended.
func takeTerminal(terminal int) {
	signal.Ignore(syscall.SIGTTOU) // sent to a background process that does it
	defer signal.Reset(syscall.SIGTTOU)
	// Should it fail, a parent with job control takes the terminal back anyway.
	unix.IoctlSetPointerInt(terminal, unix.TIOCSPGRP, unix.Getpgrp())
}
