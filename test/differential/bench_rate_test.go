package differential

import (
	"sync"
	"time"

	"github.com/clusterip/clusterip/test/performance"
	discoveryv1 "k8s.io/api/discovery/v1"
)

const (
	ratePerSecond = 1000
	rateTime      = 20 * time.Second
	rateWriters   = 16
	rateSlices    = 992 // at most are changed, by turns; each by the same writer
)

// rate has endpoints of many Services replaced as fast as the API server lets, but no
// faster than ratePerSecond, and measures how far behind the kernel is.
func (r *running) rate() {
	r.t.Helper()
	held, client := watchHeld(r.t, r.Namespace), protobufClient(r.t, r.c)
	writers := min(rateWriters, len(r.given.slices))
	slices := min(rateSlices, len(r.given.slices)/writers*writers)
	made := make([]time.Time, int(rateTime.Seconds())*ratePerSecond) // when the API server had a change, by its number
	first := r.seq + 1
	r.seq += len(made)

	cpu, start := r.process.CPU(), time.Now()
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			own := make(map[int]*discoveryv1.EndpointSlice)
			for i := w; i < len(made) && time.Since(start) < rateTime; i += writers {
				slice := own[i%slices]
				if slice == nil {
					slice = r.given.slices[i%slices].DeepCopy()
					own[i%slices] = slice
				}
				time.Sleep(time.Until(start.Add(time.Duration(i) * time.Second / ratePerSecond)))
				mind(slice, first+i)
				if err := updateSlice(client, slice); err != nil {
					r.t.Error(err)
					return
				}
				made[i] = time.Now()
			}
		})
	}
	writing.Wait()
	took := time.Since(start)
	r.result.Rate = &performance.Rate{CPU: (r.process.CPU() - cpu).Seconds() / took.Seconds()}
	lags := r.lags(held, made, first, slices)
	r.result.Rate.PerSecond = float64(len(lags)) / took.Seconds()
	r.result.Rate.Behind = quantiles(lags)
}

// lags returns for how long each change was not in the kernel. A change of an
// EndpointSlice that was changed again before it was written is in the kernel with the
// next one.
func (r *running) lags(held *held, made []time.Time, first, slices int) []time.Duration {
	r.t.Helper()
	var out []time.Duration
	for i := len(made) - 1; i >= 0; i-- {
		if made[i].IsZero() {
			continue
		}
		at, _ := held.since(first + i)
		if next := i + slices; at.IsZero() && next < len(made) && !made[next].IsZero() {
			at, _ = held.since(first + next)
			held.set(first+i, at)
		} else if at.IsZero() {
			var ok bool
			if at, ok = held.await(first+i, patience); !ok {
				r.t.Fatalf("the kernel does not hold a change within %v: %s", patience, r.process.Log())
			}
		}
		out = append(out, max(0, at.Sub(made[i])))
	}
	return out
}
