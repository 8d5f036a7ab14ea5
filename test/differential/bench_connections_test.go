package differential

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/test/performance"
	"golang.org/x/sys/unix"
)

// Rounds of connections: some one after the other, of which each is timed, and then some
// as fast as two clients can.
const (
	rounds   = 7
	oneByOne = 2000
	crowd    = 10_000
)

// connections measures how long the first packet takes through a Service to its endpoint
// and the answer back, and how many connections can be made a second. Each goes to
// another Service than the last.
func (r *running) connections() {
	r.t.Helper()
	var to []unix.Sockaddr
	for i := range r.given.services {
		if answers(i, len(r.given.services)) {
			to = append(to, socketAddress(clusterIP(i)))
		}
	}
	var took []time.Duration
	var rates []float64
	for range rounds {
		r.connectIn(func() error {
			for i := range oneByOne {
				one, err := connect(to[i%len(to)], patience)
				if err != nil {
					r.failed(err)
					continue
				}
				took = append(took, one)
			}
			return nil
		})
		rates = append(rates, r.crowd(to))
	}
	r.result.ConnectsFailed = int(r.failures.Load())
	slices.Sort(rates)
	r.result.Connect, r.result.ConnectsPerSecond = performance.QuantilesOf(took), rates[len(rates)/2]
}

// crowd returns how many connections two clients make a second.
func (r *running) crowd(to []unix.Sockaddr) float64 {
	r.t.Helper()
	const clients = 2
	start := time.Now()
	var all sync.WaitGroup
	for client := range clients {
		all.Go(func() {
			r.connectIn(func() error {
				for i := client; i < crowd; i += clients {
					if _, err := connect(to[i/clients%len(to)], patience); err != nil {
						r.failed(err)
					}
				}
				return nil
			})
		})
	}
	all.Wait()
	return crowd / time.Since(start).Seconds()
}

// failed counts a connection that could not be made. It may be called in any goroutine.
func (r *running) failed(err error) {
	r.t.Logf("a connection failed: %v", err)
	r.failures.Add(1)
}

// connectIn calls a function in the client's namespace.
func (r *running) connectIn(f func() error) {
	r.t.Helper()
	if err := r.client.Do(f); err != nil {
		r.t.Error(err)
	}
}

// awaitConnection has a client try to connect until it succeeds, and tells when that was.
// It is a client of its own: the kernel remembers for two minutes that the flows of those
// tries are translated to nowhere, and nobody else is to have one of their ports.
func (r *running) awaitConnection(to netip.Addr) <-chan time.Time {
	at := make(chan time.Time, 1)
	go r.early.Do(func() error {
		for r.t.Context().Err() == nil {
			if _, err := connect(socketAddress(to), tryFor); err == nil {
				at <- time.Now()
				return nil
			}
		}
		return nil
	})
	return at
}

// tryFor is how long a client waits before it tries anew, and how exactly is known when
// it could connect first.
const tryFor = 5 * time.Millisecond

func socketAddress(a netip.Addr) unix.Sockaddr { return &unix.SockaddrInet4{Addr: a.As4(), Port: 80} }

// connect makes one connection and resets it, so that nothing waits for its end. It
// returns how long the handshake took, which is the kernel's alone. A refusal takes the
// whole limit too, so that who tries again leaves the processor to others.
func connect(to unix.Sockaddr, limit time.Duration) (took time.Duration, err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
		return 0, err
	}
	start := time.Now()
	if err = unix.Connect(fd, to); err == unix.EINPROGRESS {
		err = connected(fd, start.Add(limit))
	}
	took = time.Since(start)
	if err == unix.ECONNREFUSED {
		time.Sleep(limit - took)
	}
	return took, err
}

// connected waits until a connection is made or has failed.
func connected(fd int, deadline time.Time) error {
	for {
		left := unix.NsecToTimespec(max(0, time.Until(deadline).Nanoseconds()))
		switch n, err := unix.Ppoll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, &left, nil); {
		case err == unix.EINTR: // as the runtime of Go does to its threads
		case err != nil:
			return err
		case n == 0:
			return unix.ETIMEDOUT
		default:
			failed, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
			if err == nil && failed != 0 {
				err = unix.Errno(failed)
			}
			return err
		}
	}
}

// acceptAll takes all connections at a port of a host and closes them, until the test
// ends.
func acceptAll(t *testing.T, host *netlab.Host, port int) error {
	var fd int
	err := host.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return errors.Join(
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}),
			unix.Bind(fd, &unix.SockaddrInet4{Port: port}), unix.Listen(fd, 4096))
	})
	if err != nil {
		return err
	}
	var over atomic.Bool
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer unix.Close(fd)
		for !over.Load() {
			if conn, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC); err == nil {
				unix.Close(conn)
			}
		}
	}()
	t.Cleanup(func() {
		over.Store(true)
		<-ended
	})
	return nil
}
