package admin

import (
	"context"
	"time"
)

// atOnce is how many questions are answered at the same time.
const atOnce = 1

// turns lets so many in.
type turns chan struct{}

// take waits for a turn, and returns false if the client has gone.
func (t turns) take(ctx context.Context) bool {
	select {
	case t <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (t turns) give() { <-t }

// lane is for those who ask in one way. They come one after the other, and between two there is
// a rest, factor times as long as the one before took.
type lane struct {
	turns
	factor int
}

func newLane(factor int) lane { return lane{make(turns, atOnce), factor} }

// longestRest is for answers that are slow since the kernel is.
const longestRest = 2 * time.Second

// rest gives a turn that began then.
func (l lane) rest(began time.Time) {
	time.AfterFunc(min(longestRest, time.Duration(l.factor)*time.Since(began)), l.give)
}
