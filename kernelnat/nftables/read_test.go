package nftables

import (
	"syscall"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
)

// sends is the way to the kernel, and counts what is sent.
type sends struct {
	syscall.RawConn
	n int
}

// Write implements syscall.RawConn.
func (s *sends) Write(send func(fd uintptr) (done bool)) error {
	s.n++
	return s.RawConn.Write(send)
}

// A set that the kernel is still moving to a larger table, after a large write, is read whole.
func TestReadWhileSetsGrow(t *testing.T) {
	const elements = 3<<13 + 100 // at three quarters of a power of two the kernel makes a table twice as large
	h, b := newHost(t), newBackend(t, cluster.IPv4, settings)
	set := b.schema.members
	moving := 0 // how often more than one list was needed
	for end := time.Now().Add(time.Minute); moving < 3; {
		if time.Now().After(end) {
			t.Skipf("in a minute %d sets were seen in different order", moving)
		}
		h.do(func() error { return b.fill(t, set, elements) })
		next := newBackend(t, cluster.IPv4, settings)
		h.do(next.open)
		way := &sends{RawConn: next.socket.raw}
		next.socket.raw = way
		var got map[string]string
		h.do(func() (err error) { got, err = next.socket.readElements(next.language, set); return err })
		if len(got) != elements {
			t.Fatalf("%d elements are read, want %d", len(got), elements)
		}
		if way.n > 1 {
			moving++
		}
		next.Close()
		h.do(func() error { _, err := b.delete(t.Context()); return err })
	}
}

// fill creates the table with a set of so many elements.
func (b *Backend) fill(t *testing.T, set *set, elements int) error {
	if err := b.open(); err != nil {
		return err
	}
	if err := b.create(t.Context()); err != nil {
		return err
	}
	batch := newBatch(b.family)
	batch.addSet(set, 1)
	for i := range elements {
		batch.put(set, appendProtocol(appendNumber(nil, uint32(i)), cluster.TCP), appendAddrPort(nil, endpointOf(1)), "")
		if batch.elements() >= maxCommit {
			if err := b.commit(t.Context(), batch); err != nil {
				return err
			}
			batch.reset()
		}
	}
	return b.commit(t.Context(), batch)
}
