package netlab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Namespace is a network namespace. Its methods may be used concurrently, but
// for Close, after which the others fail.
type Namespace struct {
	handle netns.NsHandle
}

// NewNamespace makes an empty namespace, its loopback down as the kernel makes
// it. The caller closes it.
func NewNamespace() (*Namespace, error) {
	var handle netns.NsHandle
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make network namespace: %w", err)
		}
		var err error
		handle, err = netns.Get()
		return err
	})
	if err != nil {
		return nil, err
	}
	return &Namespace{handle: handle}, nil
}

// Do calls f in the namespace, which for nil is the process's own, and returns its
// error. Sockets and processes that f makes, in its own goroutine, belong to the
// namespace and may be used anywhere afterwards. Do blocks until f returns.
//
// A process started with Pdeathsig must end before f does, as with Start: that signal
// is sent when the thread ends.
func (n *Namespace) Do(f func() error) error {
	return onThread(func() error {
		if n != nil {
			if err := netns.Set(n.handle); err != nil {
				return fmt.Errorf("enter network namespace: %w", err)
			}
		}
		return f()
	})
}

// onThread calls f on a thread of its own. The thread goes back to the pool only
// in the network namespace it came from; if it cannot return there, it ends.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		// Stands if f ends its goroutine, as t.FailNow does.
		err := errors.New("the function did not return")
		defer func() { done <- err }()

		runtime.LockOSThread()
		home, getErr := netns.Get()
		if getErr != nil {
			err = fmt.Errorf("open own network namespace: %w", getErr)
			return
		}
		defer func() {
			if netns.Set(home) == nil {
				runtime.UnlockOSThread()
			}
			home.Close()
		}()
		err = f()
	}()
	return <-done
}

// Close lets go of the namespace. The kernel ends it, with all links in it,
// once no socket or process uses it. Closing twice is fine.
func (n *Namespace) Close() error {
	if !n.handle.IsOpen() {
		return nil
	}
	return n.handle.Close()
}

// Start starts a command in the namespace, on a thread that stays until the command has
// ended, as Pdeathsig needs it. Then ended is closed, and cmd.ProcessState says how.
func (n *Namespace) Start(cmd *exec.Cmd) (ended <-chan struct{}, err error) {
	started, done := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(done)
		started <- n.Do(func() error {
			if err := cmd.Start(); err != nil {
				return err
			}
			started <- nil
			cmd.Wait()
			return nil
		})
	}()
	return done, <-started
}

// Dial connects from within the namespace.
func (n *Namespace) Dial(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	// An address that needs no look-up is dialled in the goroutine that asks.
	return within(n, func() (net.Conn, error) { return new(net.Dialer).DialContext(ctx, network, to.String()) })
}

// Listen listens for streams within the namespace.
func (n *Namespace) Listen(network string, on netip.AddrPort) (net.Listener, error) {
	return within(n, func() (net.Listener, error) { return net.Listen(network, on.String()) })
}

// ListenPacket listens for datagrams within the namespace.
func (n *Namespace) ListenPacket(network string, on netip.AddrPort) (net.PacketConn, error) {
	return within(n, func() (net.PacketConn, error) { return net.ListenPacket(network, on.String()) })
}

// within is Do for an f that makes something.
func within[T any](n *Namespace, f func() (T, error)) (made T, err error) {
	err = n.Do(func() (err error) {
		made, err = f()
		return err
	})
	return made, err
}
