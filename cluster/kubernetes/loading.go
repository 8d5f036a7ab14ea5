package kubernetes

import (
	"runtime/debug"
	"sync"
)

// loadingGCPercent has lists leave half as much garbage about as usual. A pod's limit
// on memory is for the peak, and that is when everything is listed. Later it would save
// a third of the heap, at the price of twice as many collections.
const loadingGCPercent = 50

// loads counts the Sources that have not listed everything yet.
var loads struct {
	sync.Mutex
	running int
	before  int // the GC percent without them
}

// beginLoading lowers the GC percent of the process until the last of those who load
// calls done. A lower one in the environment, or none at all (off), stays.
func beginLoading() (done func()) {
	loads.Lock()
	defer loads.Unlock()
	if loads.running++; loads.running == 1 {
		loads.before = debug.SetGCPercent(loadingGCPercent)
		if loads.before < loadingGCPercent {
			debug.SetGCPercent(loads.before)
		}
	}
	return sync.OnceFunc(endLoading)
}

func endLoading() {
	loads.Lock()
	defer loads.Unlock()
	if loads.running--; loads.running == 0 {
		debug.SetGCPercent(loads.before)
	}
}
