package clustertest

import (
	"time"

	"golang.org/x/sys/unix"
)

// ProcessorTime is what this process and its children that have ended have taken of a processor, which
// says more than the time that has passed where others use the machine too.
func ProcessorTime() (all time.Duration) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var used unix.Rusage
		if unix.Getrusage(who, &used) == nil {
			all += time.Duration(used.Utime.Nano() + used.Stime.Nano())
		}
	}
	return all
}
