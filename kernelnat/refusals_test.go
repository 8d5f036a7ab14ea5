package kernelnat

import (
	"fmt"
	"testing"
	"time"
)

// A refusal that comes and goes is told once an hour, and of very many it is told that there
// are more.
func TestRefusalsAreBounded(t *testing.T) {
	var r refusals
	now := time.Now()
	count := func(n int, at time.Time) (told, many int) {
		for i := range n {
			switch r.take(fmt.Sprint(i), at) {
			case tell:
				told++
			case tellMany:
				many++
			}
		}
		return told, many
	}
	for _, step := range []struct {
		n          int
		at         time.Duration
		told, many int
	}{{10, 0, 10, 0}, {10, time.Minute, 0, 0}, {11, time.Minute, 1, 0}, {5000, time.Minute, maxRefusals - 11, 1}, {5000, 2 * time.Minute, 0, 0}, {20, tellAgain, 20, 0}} {
		if told, many := count(step.n, now.Add(step.at)); told != step.told || many != step.many {
			t.Errorf("%d after %v: told %d and that there are more %d times, want %d and %d", step.n, step.at, told, many, step.told, step.many)
		}
	}
}
