package kernelnat

import (
	"io"
	"testing"

	"github.com/clusterip/clusterip/kernelnat/netlab"
)

// Whether somebody has the lock is told of this network namespace alone.
func TestRunning(t *testing.T) {
	netlab.Require(t)
	var all [2]*netlab.Namespace
	for i := range all {
		n, err := netlab.NewNamespace()
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		all[i] = n
	}
	running := func(where int, want bool) {
		t.Helper()
		if err := all[where].Do(func() error {
			is, err := Running()
			if is != want {
				t.Errorf("it runs: %t, want %t", is, want)
			}
			return err
		}); err != nil {
			t.Error(err)
		}
	}
	running(0, false)
	var lock io.Closer
	if err := all[0].Do(func() (err error) { lock, err = Lock(); return err }); err != nil {
		t.Fatal(err)
	}
	running(0, true)
	running(1, false)
	if err := lock.Close(); err != nil {
		t.Error(err)
	}
	running(0, false)
}
