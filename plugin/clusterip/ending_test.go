package clusterip

import (
	"context"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"
)

// After a lameduck a server ends when no query has come for a moment.
func TestEndWaitsForQueries(t *testing.T) {
	const asking = 300 * time.Millisecond
	h := testHandler()
	answered := plugin.HandlerFunc(func(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) { return dns.RcodeSuccess, nil })
	first := h.ending.see(answered)
	h.ending.begin()
	h.ending.began = time.Now().Add(-time.Hour) // the lameduck
	start := time.Now()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for time.Since(start) < asking {
			if _, err := first.ServeDNS(context.Background(), nil, new(dns.Msg)); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Millisecond)
		}
	}()
	h.ending.finish()
	if took := time.Since(start); took < asking+quiet/2 || took > longest {
		t.Errorf("it ended after %v, and queries came for %v", took, asking)
	}
	<-stopped
}

// Without a lameduck the end is not held up.
func TestEndWithoutLameduck(t *testing.T) {
	h := testHandler()
	h.ending.begin()
	start := time.Now()
	h.ending.finish()
	if took := time.Since(start); took > quiet/2 {
		t.Errorf("it ended after %v", took)
	}
}
