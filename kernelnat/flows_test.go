package kernelnat

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/conntrack"
	"github.com/clusterip/clusterip/test/clustertest"
)

// looker is a backend whose looks at flows take as long as it says.
type looker struct {
	*memory
	takes  time.Duration
	looks  atomic.Int32 // ended
	fails  atomic.Bool  // the next look
	closed int32        // looks by the time of Close
}

func (s *looker) Forget(*conntrack.Stale, *conntrack.Draining) (func() (uint, error), error) {
	return func() (uint, error) {
		time.Sleep(s.takes)
		s.looks.Add(1)
		if s.fails.Swap(false) {
			return 0, errors.New("refused")
		}
		return 0, nil
	}, nil
}

func (s *looker) Close() error {
	s.closed = s.looks.Load()
	return nil
}

// resolver is a Service of UDP.
func resolver(name string, endpoints ...string) cluster.ServiceUpdate {
	s, ready := clustertest.Service("testing/"+name, vipOf(name).String()), clustertest.Ready(endpoints...)
	s.Ports = []cluster.Port{{Name: "http", Protocol: cluster.UDP, Port: 53}}
	for i := range ready {
		ready[i].Slice = &cluster.EndpointSlice{Ports: []cluster.EndpointPort{{Name: "http", Protocol: cluster.UDP, Port: 53}}}
	}
	return clustertest.Changed(cluster.New(s, ready))[0]
}

// Changes are written while flows are looked at. The first has a look at once, and those that
// come meanwhile have the next one together.
func TestLooksAtFlowsAreGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, backend := cluster.NewStore(), &looker{memory: newMemory(), takes: 10 * time.Millisecond}
		store.Apply(cluster.Update{Synced: true})
		run(t, Options{}, backend, store)
		wantCalls(t, backend.memory, "sync 0")
		time.Sleep(time.Hour)
		start := time.Now()
		store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{resolver("a", "10.42.0.1")}})
		wantCalls(t, backend.memory, "apply 1")
		for i := range 1000 {
			endpoints := []string{"10.42.0.1", "10.42.0.2"}[i%2]
			store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{resolver("b", endpoints)}})
			wantCalls(t, backend.memory, "apply 1")
			time.Sleep(time.Millisecond)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("1,000 changes take %v, want none of the time of looks", took)
		}
		if n := backend.looks.Load(); n < 5 || n > 12 {
			t.Errorf("%d looks for 1,000 changes in a second, want some 10", n)
		}
		time.Sleep(time.Hour)
		looks := backend.looks.Load()
		time.Sleep(time.Hour)
		if backend.looks.Load() != looks {
			t.Errorf("%d looks for nothing", backend.looks.Load()-looks)
		}
		store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{resolver("a", "10.42.0.9")}})
		time.Sleep(backend.takes)
		synctest.Wait()
		if backend.looks.Load() != looks+1 {
			t.Errorf("%d looks at once for one change, want 1", backend.looks.Load()-looks)
		}
	})
}

// A look that fails is repeated, and the end of the loop waits for all that is stale.
func TestLooksAtFlowsAreRepeated(t *testing.T) {
	backend := &looker{memory: newMemory(), takes: time.Second}
	synctest.Test(t, func(t *testing.T) {
		store := cluster.NewStore()
		store.Apply(cluster.Update{Synced: true})
		run(t, Options{}, backend, store)
		synctest.Wait()
		backend.fails.Store(true)
		store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{resolver("a", "10.42.0.1")}})
		time.Sleep(time.Hour)
		if backend.looks.Load() != 2 {
			t.Errorf("%d looks, want one that fails and one more", backend.looks.Load())
		}
		store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{resolver("a", "10.42.0.2")}})
		synctest.Wait()
		store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{resolver("a", "10.42.0.3")}})
		synctest.Wait()
		if backend.looks.Load() != 2 {
			t.Errorf("%d looks, want one under way", backend.looks.Load())
		}
	})
	if backend.closed != 4 {
		t.Errorf("the backend is closed after %d looks, want all 4", backend.closed)
	}
}
