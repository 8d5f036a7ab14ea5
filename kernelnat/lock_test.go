package kernelnat

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/clusterip/clusterip/kernelnat/netlab"
)

// There is one writer in each network namespace, and the next comes after it.
func TestLock(t *testing.T) {
	netlab.Require(t)
	for range 2 { // in two namespaces at once
		namespace, err := netlab.NewNamespace()
		if err != nil {
			t.Fatal(err)
		}
		defer namespace.Close()
		for range 2 {
			err := namespace.Do(func() error {
				lock, err := Lock()
				if err != nil {
					return err
				}
				if _, err := Lock(); !errors.Is(err, ErrLocked) {
					t.Errorf("a second writer: %v", err)
				}
				return lock.Close()
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		err = namespace.Do(func() error {
			lock, err := Lock()
			if err == nil {
				t.Cleanup(func() { lock.Close() })
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Who waits for the lock has it as soon as it is free, or gives up when told to.
func TestAwaitLock(t *testing.T) {
	netlab.Require(t)
	namespace, err := netlab.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer namespace.Close()
	var first io.Closer
	if err := namespace.Do(func() (err error) { first, err = Lock(); return err }); err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	await := func(ctx context.Context) chan error {
		done := make(chan error, 1)
		go func() {
			done <- namespace.Do(func() error {
				lock, err := AwaitLock(ctx)
				if err != nil {
					return err
				}
				return lock.Close()
			})
		}()
		return done
	}
	soon := func(done chan error) error {
		t.Helper()
		select {
		case err := <-done:
			return err
		case <-time.After(10 * time.Second):
			t.Fatal("it still waits")
			return nil
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	givesUp, one, other := await(ctx), await(t.Context()), await(t.Context())
	time.Sleep(50 * time.Millisecond)
	if len(givesUp)+len(one)+len(other) > 0 {
		t.Error("somebody did not wait")
	}
	cancel()
	if err := soon(givesUp); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	first.Close()
	for _, done := range []chan error{one, other} {
		if err := soon(done); err != nil {
			t.Error(err)
		}
	}
}
