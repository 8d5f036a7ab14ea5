package commits

import (
	"encoding/binary"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/clusterip/clusterip/kernelnat/netlab"
	"golang.org/x/sys/unix"
)

// pause is how long the writer rests.
const pause = 500 * time.Microsecond

// Wait begins to find out for how long a writer to nf_tables waits for others in a
// namespace, and returns a function that ends this and says what the longest was. That is
// about the longest transaction of them, from its first message until it is in force, and
// a bound for it: two transactions without a pause count as one.
//
// The writer commits nothing, again and again. Such a transaction takes the lock that
// all others take, tells nobody of it, and is not counted by the kernel.
func Wait(t testing.TB, namespace *netlab.Namespace) (longest func() time.Duration) {
	t.Helper()
	var fd int
	err := namespace.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
		return err
	})
	if err != nil {
		t.Fatalf("write to nf_tables: %v", err)
	}
	var over atomic.Bool
	found := make(chan time.Duration)
	// The writer has a place of its own among the threads that Go runs at a time, and never
	// gives it up: its system calls are ones that Go does not know of. Otherwise it would wait
	// for such a place, too, in a process that is as busy as this one.
	places := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(places + 1)
	go func() {
		defer unix.Close(fd)
		// What else runs is not to keep it from its work, if that is allowed here. The
		// thread ends with the goroutine.
		runtime.LockOSThread()
		if err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}, 0); err != nil {
			t.Logf("a wait may go unnoticed where the processors are busy: %v", err)
		}
		to, sleep := unix.RawSockaddrNetlink{Family: unix.AF_NETLINK}, unix.NsecToTimespec(pause.Nanoseconds())
		var most time.Duration
		for last := time.Now(); !over.Load(); {
			_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&nothing[0])), uintptr(len(nothing)),
				0, uintptr(unsafe.Pointer(&to)), unix.SizeofSockaddrNetlink)
			if errno != 0 && errno != unix.EINTR {
				t.Errorf("write to nf_tables: %v", errno)
			}
			// The kernel may also keep it from waking while it commits.
			now := time.Now()
			most = max(most, now.Sub(last)-pause)
			last = now
			unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&sleep)), 0, 0)
		}
		found <- most
	}()
	return func() time.Duration {
		over.Store(true)
		defer runtime.GOMAXPROCS(places)
		return <-found
	}
}

// nothing is a transaction that changes nothing. The kernel is done with it when the call
// that sends it returns.
var nothing = append(batchMessage(unix.NFNL_MSG_BATCH_BEGIN), batchMessage(unix.NFNL_MSG_BATCH_END)...)

func batchMessage(kind uint16) []byte {
	const length = unix.NLMSG_HDRLEN + 4
	b := make([]byte, length)
	binary.NativeEndian.PutUint32(b, length)
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST)
	binary.BigEndian.PutUint16(b[unix.NLMSG_HDRLEN+2:], unix.NFNL_SUBSYS_NFTABLES)
	return b
}
