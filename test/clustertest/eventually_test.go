package clustertest

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// failing is a test that is expected to fail: it panics with what it says.
type failing struct{ testing.TB }

func (failing) Helper() {}

func (failing) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func TestEventually(t *testing.T) {
	for _, c := range []struct {
		after time.Duration // when the condition comes true
		said  any
	}{
		{0, nil},
		{time.Second - time.Millisecond, nil},
		{time.Hour, "rules: not within 1s: still not"},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			defer func() {
				if said := recover(); said != c.said || time.Since(began) > 1100*time.Millisecond {
					t.Errorf("true after %v: it says %v after %v, want %v", c.after, said, time.Since(began), c.said)
				}
			}()
			Eventually(failing{t}, time.Second, "rules", func() error {
				if time.Since(began) < c.after {
					return errors.New("still not")
				}
				return nil
			})
		})
	}
}
