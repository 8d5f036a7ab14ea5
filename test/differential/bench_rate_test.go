package differential

import (
	"sync"
	"time"

	"github.com/clusterip/clusterip/test/commits"
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
	held, client := commits.Follow(r.t, r.Namespace), protobufClient(r.t, r.c)
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
	behind, err := held.Behind(made, first, slices, patience)
	r.must(err)
	r.result.Rate.PerSecond = float64(len(behind)) / took.Seconds()
	r.result.Rate.Behind = performance.QuantilesOf(behind)
}
