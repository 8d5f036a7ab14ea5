package kernelnat

import (
	"strings"
	"testing"

	"github.com/clusterip/clusterip/kernelnat/nattest"
)

// There is one writer in each network namespace, and the next comes after it.
func TestLock(t *testing.T) {
	nattest.Require(t)
	for range 2 { // in two namespaces at once
		namespace, err := nattest.NewNamespace()
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
				if _, err := Lock(); err == nil || !strings.Contains(err.Error(), "stop that one first") {
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
