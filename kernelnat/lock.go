package kernelnat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
)

// LockName is the Unix socket of Lock, as the kernel lists it in /proc/net/unix.
const LockName = "@clusterip/kernelnat"

// ErrLocked is what Lock returns while another has the lock.
var ErrLocked = errors.New("kernelnat runs in another process already: stop that one first")

// Lock makes the caller the one writer of NAT in this network namespace until it
// closes the lock or ends. Two writers would each take the other's rules for
// leftovers. The lock is an abstract Unix socket: it belongs to the namespace, as
// the rules do, and goes with the process, however that ends (unix(7)).
func Lock() (io.Closer, error) {
	l, err := net.Listen("unix", LockName)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, ErrLocked
	}
	if err != nil {
		return nil, fmt.Errorf("make sure that this is the only kernelnat: %w", err)
	}
	return l, nil
}

// retryLock is how often the lock is tried where waiting for its end is impossible.
const retryLock = time.Second

// AwaitLock is Lock as soon as no other has the lock, or fails when the context ends. It
// learns of that at once, without polling, if it can connect to the other's socket.
func AwaitLock(ctx context.Context) (io.Closer, error) {
	for ctx.Err() == nil {
		if lock, err := Lock(); !errors.Is(err, ErrLocked) {
			return lock, err
		}
		if awaitUnlock(ctx) == nil {
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryLock):
		}
	}
	return nil, ctx.Err()
}

// awaitUnlock returns when the one that has the lock gives it up or ends, however it
// ends: nobody accepts the connection, and the kernel resets it when the listener goes.
func awaitUnlock(ctx context.Context) error {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", LockName)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	io.Copy(io.Discard, conn)
	return nil
}
