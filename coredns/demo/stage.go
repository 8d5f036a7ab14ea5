package demo

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"text/template"
	"time"

	"github.com/clusterip/clusterip/kernelnat/netlab"
)

//go:embed manifests Corefile.tmpl
var files embed.FS

// The folders in the stage's own one: what the user would write, and what the
// server reads.
const (
	examples  = "examples"
	manifests = "manifests"
)

var clientIP = netip.MustParseAddr("10.42.0.200")

// resolvConf is what a kubelet gives to a pod in the namespace testing.
const resolvConf = `nameserver 10.43.0.10
search testing.svc.cluster.local svc.cluster.local cluster.local
options ndots:5
`

// stage is the set: a node where the server runs, a client pod, and a folder.
type stage struct {
	dir    string
	lock   *os.File // of dir
	node   *netlab.Node
	client *netlab.Host
	pods   []*netlab.Host // but for the client

	// up is done when the server has ended; the cause says why.
	up        context.Context
	serverPID int
	stop      context.CancelFunc // ends the server
	stopped   <-chan struct{}    // closed when it has ended
}

// newStage lays out the set and starts the server. The caller closes it.
func newStage(ctx context.Context, executable string) (*stage, error) {
	s := &stage{}
	if err := s.build(ctx, executable); err != nil {
		return nil, errors.Join(fmt.Errorf("set the stage: %w", err), s.Close())
	}
	return s, nil
}

func (s *stage) build(ctx context.Context, executable string) error {
	var err error
	removeAbandoned()
	if s.dir, s.lock, err = newFolder(); err != nil {
		return err
	}
	if err := s.writeFiles(); err != nil {
		return err
	}
	if err := s.link(executable); err != nil {
		return err
	}
	if s.node, err = netlab.NewNode(); err != nil {
		return err
	}
	if s.client, err = s.node.AddPod("client", clientIP); err != nil {
		return err
	}
	return s.startServer(ctx, executable)
}

func (s *stage) writeFiles() error {
	source, err := fs.Sub(files, "manifests")
	if err != nil {
		return err
	}
	if err := os.CopyFS(filepath.Join(s.dir, examples), source); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(s.dir, manifests), 0o755); err != nil {
		return err
	}
	for _, name := range []string{"namespaces.yaml", "kube-dns.yaml"} {
		from, to := filepath.Join(s.dir, examples, name), filepath.Join(s.dir, manifests, name)
		if err := os.Rename(from, to); err != nil {
			return err
		}
	}
	var corefile bytes.Buffer
	if err := templates.ExecuteTemplate(&corefile, "Corefile.tmpl", s.dir); err != nil {
		return err
	}
	return errors.Join(
		os.Remove(filepath.Join(s.dir, examples, podTemplate)),
		os.WriteFile(filepath.Join(s.dir, corefileName), corefile.Bytes(), 0o644),
		os.WriteFile(filepath.Join(s.dir, "resolv.conf"), []byte(resolvConf), 0o644),
		os.WriteFile(filepath.Join(s.dir, "nsswitch.conf"), []byte("hosts: files dns\n"), 0o644),
	)
}

// programs is the folder in the stage's own one that is in PATH.
const programs = "bin"

// link puts the program into PATH.
func (s *stage) link(executable string) error {
	if err := os.Mkdir(filepath.Join(s.dir, programs), 0o755); err != nil {
		return err
	}
	return os.Symlink(executable, filepath.Join(s.dir, programs, "coredns"))
}

var templates = template.Must(template.ParseFS(files, "Corefile.tmpl", "manifests/"+podTemplate))

// startServer starts coredns on the node; stop ends it.
func (s *stage) startServer(ctx context.Context, executable string) error {
	log, err := os.Create(filepath.Join(s.dir, "coredns.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	var ended context.CancelCauseFunc
	s.up, ended = context.WithCancelCause(ctx)
	ctx, s.stop = context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, executable, "-conf", filepath.Join(s.dir, corefileName))
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, log, log
	cmd.Env = append(os.Environ(), "NODE_NAME=node")
	// In a process group of its own: Ctrl-C is for the demo, which ends it in turn.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 3 * time.Second

	s.stopped, err = s.node.Start(cmd)
	go func() {
		<-s.stopped
		ended(fmt.Errorf("the server ended: %v", cmd.ProcessState))
	}()
	if err != nil {
		return err
	}
	s.serverPID = cmd.Process.Pid
	return nil
}

// logTail returns the end of the server's log.
func (s *stage) logTail() string {
	const lines = 20
	text, err := os.ReadFile(filepath.Join(s.dir, "coredns.log"))
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// Close ends the server, the pods and the namespaces, and removes the folder.
func (s *stage) Close() error {
	if s.stop != nil {
		s.stop()
		<-s.stopped
	}
	var errs []error
	if s.node != nil {
		errs = append(errs, s.node.Close())
	}
	if s.dir != "" {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// place is where a command is typed.
type place string

const (
	onNode   place = "node"
	inClient place = "client"
)

// enter turns a shell into the first process of the client pod: it sees the
// pod's name, processes and resolver, then becomes the command in its arguments.
// The mounts are in a mount namespace of its own, which ends with it.
//
// It waits for a line on descriptor 3. A demo that was killed before the kernel
// knew of the death signal never sends it: the pipe ends, and so does the shell.
const enter = `set -e
read -r _ <&3
exec 3<&-
echo client >/proc/sys/kernel/hostname
mount -t proc proc /proc
for file in resolv.conf nsswitch.conf; do
	if target=$(readlink -e /etc/$file); then mount --bind "$0/$file" "$target"; fi
done
exec "$@"`

// command prepares a command to be run at a place with perform. It ends with the
// context, and with all it started if it ran in the client.
func (s *stage) command(ctx context.Context, at place, argv ...string) *exec.Cmd {
	// The group as with the server: a command that Ctrl-C ends looks like a step
	// that fails, if it is noticed before the interrupt is.
	attributes := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if at == inClient {
		argv = append([]string{"sh", "-c", enter, s.dir}, argv...)
		attributes.Cloneflags = syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS
		attributes.Unshareflags = syscall.CLONE_NEWNS
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":"+filepath.Join(s.dir, programs))
	cmd.SysProcAttr = attributes
	cmd.WaitDelay = time.Second
	return cmd
}

// perform runs a command of the stage in its place's network.
func (s *stage) perform(at place, cmd *exec.Cmd) error {
	if at == inClient {
		return s.client.Do(func() error { return runEntered(cmd) })
	}
	return s.node.Do(cmd.Run)
}

// runEntered runs a command that begins with enter.
func runEntered(cmd *exec.Cmd) error {
	theirs, ours, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd.ExtraFiles = []*os.File{theirs}
	err = cmd.Start()
	theirs.Close()
	if err == nil {
		// Now that it has started the death signal is set. If it has ended already,
		// Wait says why.
		ours.WriteString("\n")
		err = cmd.Wait()
	}
	ours.Close()
	return err
}

// output runs a shell command line and returns all it prints.
func (s *stage) output(ctx context.Context, at place, line string) (string, error) {
	cmd := s.command(ctx, at, "sh", "-c", line)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := s.perform(at, cmd)
	return out.String(), err
}
