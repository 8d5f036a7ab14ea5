package clusterip

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Changes gather for a while and make one notify; those that come while
// secondaries are told make the next.
func TestNotifier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent []time.Duration
		begin := time.Now()
		n := newNotifier(func(string) error {
			sent = append(sent, time.Since(begin))
			<-time.After(3 * time.Second)
			return errors.New("nobody is there")
		})
		go n.run()
		n.mark("cluster.local.")
		n.mark("cluster.local.")
		<-time.After(2 * time.Second) // the notify is under way
		n.mark("cluster.local.")
		n.mark("cluster.local.")
		<-time.After(time.Minute)
		n.stop()
		synctest.Wait()
		if len(sent) != 2 || sent[0] != notifyDelay || sent[1] != notifyDelay+3*time.Second+notifyDelay {
			t.Errorf("notifies at %v, want two, each a delay after its change or the notify before", sent)
		}
	})
}
