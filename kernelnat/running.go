package kernelnat

import (
	"bytes"
	"fmt"
	"os"
)

// Running reports whether a process has the Lock in this network namespace. It takes no lock,
// and the other does not hear of it.
func Running() (bool, error) {
	// Not /proc/net: that shows the namespace of the first thread.
	sockets, err := os.ReadFile("/proc/thread-self/net/unix")
	if err != nil {
		return false, fmt.Errorf("look whether kernelnat runs: %w", err)
	}
	return bytes.Contains(sockets, []byte(" "+LockName+"\n")), nil
}

// Pending reports whether changes wait to be written, or are being written. It may be called
// at any time.
func (c *Controller) Pending() bool { return c.queue.late(0) }
