package kernelnat

import (
	"bytes"
	"errors"
	"fmt"
	golog "log"
	"os"
	"strings"
	"testing"
)

// Errors that are joined have one line of the log, which begins as all lines do.
func TestErrorsOnOneLine(t *testing.T) {
	var out bytes.Buffer
	golog.SetOutput(&out)
	defer golog.SetOutput(os.Stderr)
	n := new(nat)
	failed := errors.Join(errors.New("the first"), fmt.Errorf("the second: %w", errors.Join(errors.New("one"), errors.New("two"))))
	n.run(t.Context(), "NAT stopped", func() error { return failed })
	n.done.Wait()
	log.Warningf("%v: the kernel's values stay", failed)
	log.Infof("%v\n", failed)

	want := []string{
		"[ERROR] plugin/kernelnat: NAT stopped: the first; the second: one; two",
		"[WARNING] plugin/kernelnat: the first; the second: one; two: the kernel's values stay",
		"[INFO] plugin/kernelnat: the first; the second: one; two",
	}
	got := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(got) != len(want) {
		t.Fatalf("the log has %d lines, want %d:\n%s", len(got), len(want), out.String())
	}
	for i := range want {
		if !strings.HasSuffix(got[i], want[i]) {
			t.Errorf("line %d is %q, want %q", i+1, got[i], want[i])
		}
	}
}
