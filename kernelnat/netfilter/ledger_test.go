package netfilter

import (
	"errors"
	"os/exec"
	"testing"
)

// watched is a host whose nf_tables a ledger looks at.
type watched struct {
	host
	*testing.T
	ledger *Ledger
	before uint32 // writes of others before the test
}

func newWatched(t *testing.T) *watched {
	w := &watched{newHost(t), t, new(Ledger), 0}
	w.nft(t, "add table ip stranger")
	w.before = w.foreign(t, w.ledger)
	return w
}

// want fails the test if it is not so many writes that were others' by now.
func (w *watched) want(n int32, when string) {
	w.Helper()
	if got := int32(w.foreign(w.T, w.ledger) - w.before); got != n {
		w.Errorf("%s: %d writes of others, want %d", when, got, n)
	}
}

// add makes a write of one transaction.
func (w *watched) add(table string) error {
	return w.Do(exec.Command("nft", "add table "+table).Run)
}

// write makes a write of ours that says it has so many transactions.
func (w *watched) write(transactions int, steps func() error) {
	w.Helper()
	w.do(w.T, func() error { return w.ledger.During(steps, transactions) })
}

// Others are told from us also in the middle of what the other family writes, where
// the kernel has counted what is not over.
func TestOwnWriteUnderWay(t *testing.T) {
	w := newWatched(t)
	w.write(2, func() error {
		w.want(0, "nothing is written yet")
		first := w.add("ip ours")
		w.want(0, "a part is written")
		second := w.add("ip ours2")
		w.want(0, "all is written")
		others := w.add("ip stranger2")
		w.want(1, "somebody else has written too")
		return errors.Join(first, second, others)
	})
	w.want(1, "our write is over")
}

// What others write amid a write of ours is seen when that is over at the latest,
// also if the next one has begun by then.
func TestOthersAmidOwnWrite(t *testing.T) {
	w := newWatched(t)
	amid := func() error { return errors.Join(w.add("ip stranger2"), w.add("ip ours")) }
	w.write(1, amid)
	w.write(5, func() error {
		w.want(1, "the next has begun")
		return nil
	})
	w.want(1, "the next has written nothing")
	w.nft(t, "add table ip stranger3")
	w.write(5, func() error {
		w.want(2, "somebody has written between two writes of ours")
		return nil
	})
	w.want(2, "all is over")
}

// Two writes at the same time count together, so that what others write is seen.
func TestOverlappingWrites(t *testing.T) {
	w := newWatched(t)
	written, over, ended := make(chan struct{}), make(chan struct{}), make(chan error)
	// Of the two transactions of the first, one changes nothing.
	w.write(2, func() error {
		go func() {
			ended <- w.Do(func() error {
				return w.ledger.During(func() error {
					defer func() { <-over }()
					defer close(written)
					return errors.Join(w.add("ip6 ours"), w.add("ip6 ours2"))
				}, 2)
			})
		}()
		<-written
		err := w.add("ip ours")
		w.want(0, "all is written")
		return err
	})
	w.want(0, "the first is over")
	close(over)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	w.want(0, "both are over")
	w.nft(t, "add table ip stranger2")
	w.want(1, "somebody else has written since")
}

// A write that fails has made some of its transactions, or none.
func TestFailedWrite(t *testing.T) {
	w, failure := newWatched(t), errors.New("no")
	w.do(t, func() error {
		err := w.ledger.During(func() error { return errors.Join(w.add("ip ours"), failure) }, 3)
		if !errors.Is(err, failure) {
			t.Errorf("error %v", err)
		}
		return nil
	})
	w.want(0, "a part is written")
	w.nft(t, "add table ip stranger2")
	w.want(1, "somebody else has written since")
}

// What we have written before anybody asks is ours.
func TestNobodyHasAsked(t *testing.T) {
	w := newWatched(t)
	w.ledger = new(Ledger)
	w.write(1, func() error { return w.add("ip ours") })
	w.write(2, func() error {
		first := w.add("ip ours2")
		w.before = w.foreign(w.T, w.ledger)
		return errors.Join(first, w.add("ip ours3"))
	})
	w.want(0, "what was under way is over")
	w.nft(t, "add table ip stranger2")
	w.want(1, "somebody else has written since")
}
