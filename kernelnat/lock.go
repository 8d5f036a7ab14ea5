package kernelnat

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// Lock makes the caller the one writer of NAT in this network namespace until it
// closes the lock or ends. Two writers would each take the other's rules for
// leftovers. The lock is an abstract Unix socket: it belongs to the namespace, as
// the rules do, and goes with the process, however that ends (unix(7)).
func Lock() (io.Closer, error) {
	l, err := net.Listen("unix", "@clusterip/kernelnat")
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, errors.New("kernelnat runs in another process already: stop that one first")
	}
	if err != nil {
		return nil, fmt.Errorf("make sure that this is the only kernelnat: %w", err)
	}
	return l, nil
}
