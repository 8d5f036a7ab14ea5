package clustertest

import "runtime"

// Heap returns how many bytes of the heap are held by what a function returns. What it only
// refers to does not count, as long as the caller keeps it alive until Heap has returned.
func Heap(hold func() any) int {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	held := hold()
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(held)
	return int(after.HeapAlloc) - int(before.HeapAlloc)
}
