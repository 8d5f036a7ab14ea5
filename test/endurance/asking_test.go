package endurance

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/netlab"
)

// askEvery is the time between connections: 200 a second.
const askEvery = 5 * time.Millisecond

// asking is a client that makes connections all the time, by TCP and UDP and in both IP
// families, whether those before have been answered or not.
type asking struct {
	stop, stopped chan struct{}
	mu            sync.Mutex
	made          int
	lost          []error
}

// ask begins to ask a ClusterIP of each family, and gives each connection so much time.
func (n *network) ask(limit time.Duration) *asking {
	a := &asking{stop: make(chan struct{}), stopped: make(chan struct{})}
	go func() {
		defer close(a.stopped)
		var waiting sync.WaitGroup
		defer waiting.Wait()
		ticks := time.NewTicker(askEvery)
		defer ticks.Stop()
		for i := 0; ; i++ {
			select {
			case <-a.stop:
				return
			case <-ticks.C:
			}
			family, network := cluster.Families[i/2%2], []string{"tcp", "udp"}[i%2]
			waiting.Go(func() {
				a.note(ask(n.client, network, netip.AddrPortFrom(places[family].clusterIP, servicePort), limit))
			})
		}
	}()
	return a
}

func ask(from *netlab.Host, network string, to netip.AddrPort, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if _, err := from.Ask(ctx, network, to); err != nil {
		return fmt.Errorf("%s %s: %w", network, to, err)
	}
	return nil
}

func (a *asking) note(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.made++
	if err != nil {
		a.lost = append(a.lost, err)
	}
}

// end returns how many connections were made, and the errors of those that were lost.
func (a *asking) end() (made int, lost []error) {
	close(a.stop)
	<-a.stopped
	return a.made, a.lost
}

// noneLost ends the asking, and fails if a connection was lost.
func (n *network) noneLost(a *asking) {
	n.Helper()
	made, lost := a.end()
	n.Logf("%d connections, %d lost", made, len(lost))
	for _, err := range lost[:min(len(lost), maxExamples)] {
		n.Errorf("lost: %v", err)
	}
	if made == 0 {
		n.Error("no connection was made")
	}
}

// echoes makes pods that answer over TCP and UDP.
func (n *network) echoes(count int) (pods []*netlab.Host) {
	n.Helper()
	for i := range count {
		pod := n.pod(fmt.Sprint("echo-", i), fmt.Sprint("10.42.0.1", i), fmt.Sprint("fd00:10:42::1", i))
		n.must(pod.ServeTCP(targetPort))
		n.must(pod.ServeUDP(targetPort))
		pods = append(pods, pod)
	}
	return pods
}
