package clustertest

import (
	"testing"
	"time"
)

// Eventually waits until a condition holds, which is that it returns no error. If it does
// not within the limit, the test fails with what was waited for and the last error.
func Eventually(t testing.TB, limit time.Duration, what string, condition func() error) {
	t.Helper()
	pause := time.Millisecond
	for deadline := time.Now().Add(limit); ; time.Sleep(pause) {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		pause = min(2*pause, 20*time.Millisecond)
	}
}
