package endurance

import (
	"math"
	"math/bits"
	"slices"
	"sync"
	"time"
)

// endpoints are some of at most 64; without any the Service refuses.
type endpoints uint64

func (e endpoints) has(i byte) bool { return i < 64 && e>>i&1 == 1 }
func (e endpoints) count() int      { return bits.OnesCount64(uint64(e)) }

// history is which endpoints a Service had when. While one write is under way it may have
// those from before or those from after.
type history struct {
	began time.Time
	mu    sync.Mutex
	all   []period
}

// period begins at some time during a write, which took so long.
type period struct {
	endpoints  endpoints
	begin, end time.Duration // of the write
}

func newHistory() *history { return &history{began: time.Now()} }

func (h *history) now() time.Duration { return time.Since(h.began) }

// write notes a write.
func (h *history) write(e endpoints, do func() error) error {
	h.mu.Lock()
	h.all = append(h.all, period{e, h.now(), math.MaxInt64})
	h.mu.Unlock()
	err := do()
	h.mu.Lock()
	h.all[len(h.all)-1].end = h.now()
	h.mu.Unlock()
	return err
}

// between returns the endpoints that the Service had at any and at all times between two,
// and whether it may have had none for a moment.
func (h *history) between(from, to time.Duration) (any, all endpoints, none bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	all = math.MaxUint64
	for _, p := range slices.Backward(h.all) {

		if p.begin > to {
			continue
		}
		any, all, none = any|p.endpoints, all&p.endpoints, none || p.endpoints == 0
		if p.end < from {
			break
		}
	}
	return any, all, none
}

// longest is the longest write, and how many there were.
func (h *history) longest() (longest time.Duration, writes int) {
	for _, p := range h.all {
		longest = max(longest, p.end-p.begin)
	}
	return longest, len(h.all)
}
