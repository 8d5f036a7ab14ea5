package kubernetes

import (
	"runtime/debug"
	"testing"
)

// Sources that load at the same time leave the GC percent as it was before the first.
func TestLoadingGCPercent(t *testing.T) {
	percent := func() int {
		p := debug.SetGCPercent(100)
		debug.SetGCPercent(p)
		return p
	}
	defer debug.SetGCPercent(percent())
	for before, during := range map[int]int{100: loadingGCPercent, 20: 20, -1: -1} {
		debug.SetGCPercent(before)
		first, second := beginLoading(), beginLoading()
		if got := percent(); got != during {
			t.Errorf("the GC percent is %d while loading, want %d", got, during)
		}
		first()
		first()
		if got := percent(); got != during {
			t.Errorf("the GC percent is %d when one of two has loaded, want %d", got, during)
		}
		second()
		if got := percent(); got != before {
			t.Errorf("the GC percent is %d in the end, want %d", got, before)
		}
	}
}
