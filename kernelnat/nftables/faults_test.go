package nftables

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/clusterip/clusterip/test/clustertest"
	"golang.org/x/sys/unix"
)

var faultsFor = flag.Duration("faults", 3*time.Second, "for how `long` one of ten writes goes wrong, in each IP family")

// fault is what may go wrong when messages are sent to the kernel.
type fault int

const (
	unsent     fault = iota // the kernel does not get them
	unconfirms              // it does, but sending tells an error
	unread                  // it does, and its answer is lost
	refused                 // it refuses them
	faults
)

var errFault = errors.New("a fault that was meant to be")

// flaky is the way to the kernel, with a fault at one message if there is one in store.
type flaky struct {
	syscall.RawConn
	next   fault
	left   int // messages until then; negative: there is none in store
	losing bool
	had    [faults]int
}

// Write implements syscall.RawConn.
func (f *flaky) Write(send func(fd uintptr) (done bool)) error {
	f.losing = false
	f.left--
	if f.left != 0 {
		return f.RawConn.Write(send)
	}
	f.had[f.next]++
	switch f.next {
	case unsent:
		return errFault
	case unconfirms:
		return errors.Join(f.RawConn.Write(send), errFault)
	case unread:
		f.losing = true
		return f.RawConn.Write(send)
	}
	return unprivileged(func() error { return f.RawConn.Write(send) })
}

// Read implements syscall.RawConn.
func (f *flaky) Read(receive func(fd uintptr) (done bool)) error {
	if f.losing {
		f.losing = false
		return unix.ENOBUFS
	}
	return f.RawConn.Read(receive)
}

// unprivileged calls f on a thread that may not administer networks.
func unprivileged(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var had [2]unix.CapUserData
	if err := unix.Capget(&header, &had[0]); err != nil {
		return err
	}
	less := had
	less[0].Effective &^= 1 << unix.CAP_NET_ADMIN
	if err := unix.Capset(&header, &less[0]); err != nil {
		return err
	}
	return errors.Join(f(), unix.Capset(&header, &had[0]))
}

// Who may not look at the tables is told what to do.
func TestNoCapability(t *testing.T) {
	h := newHost(t)
	b := newBackend(t, cluster.IPv4, settings)
	for name, f := range map[string]func() error{
		"sync":    func() error { _, err := b.Sync(t.Context(), stateOf(cluster.IPv4)); return err },
		"cleanup": func() error { return b.Cleanup(t.Context()) },
	} {
		var err error
		h.do(func() error { err = unprivileged(f); return nil })
		if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "give the process CAP_NET_ADMIN, or run it as root") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// faulty is a Backend of which one write of ten goes wrong. Its methods say which.
type faulty struct {
	*Backend
	*rand.Rand
	way   *flaky
	sound bool // from now on
}

// arm puts a fault in store for one of the next messages, or none.
func (f *faulty) arm(messages int) error {
	if err := f.open(); err != nil {
		return err
	}
	if f.way == nil {
		f.way = &flaky{RawConn: f.socket.raw}
		f.socket.raw = f.way
	}
	f.way.left = -1
	if !f.sound && f.IntN(10) == 0 {
		f.way.next, f.way.left = fault(f.IntN(int(faults))), 1+f.IntN(messages)
	}
	return nil
}

// A Sync sends about so many messages: it lists each set, and writes in several parts.
const ofSync = 30

func (f *faulty) Sync(ctx context.Context, state kernelnat.State) ([]string, error) {
	if err := f.arm(ofSync); err != nil {
		return nil, err
	}
	return f.Backend.Sync(ctx, state)
}

func (f *faulty) Apply(ctx context.Context, changes []kernelnat.Change) error {
	if err := f.arm(1); err != nil {
		return err
	}
	return f.Backend.Apply(ctx, changes)
}

func (f *faulty) Refuse(ctx context.Context, ranges []plan.Range) error {
	if err := f.arm(1); err != nil {
		return err
	}
	return f.Backend.Refuse(ctx, ranges)
}

func (f *faulty) Large(changes []kernelnat.Change) (rest []kernelnat.Change, works []kernelnat.Work) {
	rest, works = f.Backend.Large(changes)
	for i := range works {
		works[i] = &faultyWork{works[i], f}
	}
	return rest, works
}

type faultyWork struct {
	kernelnat.Work
	f *faulty
}

func (w *faultyWork) Step(ctx context.Context) (bool, error) {
	if err := w.f.arm(1); err != nil {
		return false, err
	}
	return w.Work.Step(ctx)
}

type quiet struct{}

func (q quiet) Infof(string, ...any) {}
func (quiet) Errorf(string, ...any)  {}

// However writes go wrong while Services change, the kernel ends up with what a start
// would write.
func TestFaultsEndAsAStart(t *testing.T) {
	netlab.Require(t)
	for _, family := range cluster.Families {
		t.Run(family.String(), func(t *testing.T) { tryFaults(t, family) })
	}
}

func tryFaults(t *testing.T, family cluster.Family) {
	h := newHost(t)
	c := &churn{rand.New(rand.NewPCG(3, uint64(family))), family, 12}
	f := &faulty{Backend: newBackend(t, family, settings), Rand: rand.New(rand.NewPCG(4, uint64(family)))}
	options := kernelnat.Options{Family: family, NodeName: "here", Plan: c.options(), SyncPeriod: time.Second}
	controller, store := kernelnat.New(options, f, quiet{}), cluster.NewStore()
	store.Apply(cluster.Update{Synced: true})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- h.Do(func() error { return controller.Run(ctx, store) }) }()

	updates := 0
	for end := time.Now().Add(*faultsFor); time.Now().Before(end); updates++ {
		var u cluster.Update
		for _, i := range c.Perm(20)[:1+c.IntN(4)] {
			if c.most = 12; i < 2 && c.IntN(20) == 0 {
				c.most = 1000 // changes in steps
			}
			name, s := c.object(i)
			u.Services = append(u.Services, cluster.ServiceUpdate{Name: name, Service: s})
		}
		store.Apply(u)
		time.Sleep(time.Duration(c.IntN(5)) * time.Millisecond)
	}
	// Many more at the end tell when all is taken up.
	const last = 100
	var u cluster.Update
	c.most = 3
	for i := 100; len(u.Services) < last; i++ {
		if name, s := c.object(i); s != nil {
			u.Services = append(u.Services, cluster.ServiceUpdate{Name: name, Service: s})
		}
	}
	store.Apply(u)
	clustertest.Eventually(t, 3*time.Minute, "all is written", func() error {
		switch s := controller.Status(); {
		case s.Error != "":
			return errors.New(s.Error)
		case s.Services < last || len(s.Waiting) > 0:
			return errors.New("changes are waiting")
		}
		return nil
	})
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	t.Logf("%d updates; messages that were not sent, sent with an error, not answered, refused: %v", updates, f.way.had)
	var state kernelnat.State
	h.do(func() error { state = kernelnat.Preview(store.Snapshot(), options, true); return nil })
	for _, w := range h.synced(state, family) {
		if !unneeded[trimCount(w)] {
			t.Errorf("a start writes %q", w)
		}
	}
}
