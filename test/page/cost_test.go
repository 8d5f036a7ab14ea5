package page

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clusterip/clusterip/test/clustertest"
	"github.com/clusterip/clusterip/test/dnsload"
	"github.com/clusterip/clusterip/test/kubetest"
	"github.com/miekg/dns"
)

var (
	costFor      = flag.Duration("cost", 0, "for how long each cost of the page is measured; 0: not at all")
	costServices = flag.Int("cost.services", 10_000, "Services with ten endpoints each")
)

// TestCost measures what an open page takes of a processor, and what becomes of queries while
// others ask for all that a page can be asked for, as fast as they are answered.
func TestCost(t *testing.T) {
	if *costFor == 0 {
		t.Skip("measures: see make page-cost")
	}
	site, server, p := startLarge(t, *costServices)
	t.Run("open", func(t *testing.T) { costOpen(t, site, p) })
	t.Run("queries", func(t *testing.T) {
		for round := range 6 {
			t.Logf("round %d, queries alone: %s", round, load(t, server))
			answers, errors := hammer(t, site, func() { t.Logf("round %d, beside 8 clients: %s", round, load(t, server)) })
			t.Logf("round %d: they had %d answers, %d errors", round, answers, errors)
		}
		began := p.CPU()
		answers, _ := hammer(t, site, func() { time.Sleep(*costFor / 2) })
		t.Logf("8 clients without queries: %d answers, %.1f %% of a processor", answers, 200*(p.CPU()-began).Seconds()/costFor.Seconds())
	})
}

func costOpen(t *testing.T, site string, p *kubetest.Process) {
	share := func(what string) {
		began := p.CPU()
		time.Sleep(*costFor)
		t.Logf("%s: %.2f %% of a processor", what, 100*(p.CPU()-began).Seconds()/costFor.Seconds())
	}
	share("no page open")
	b := newBrowser(t, site)
	for _, view := range []string{"/", "/services", "/services?wrong=1"} {
		b.open(view)
		b.becomes("it shows", `document.querySelector("main").innerText.length > 100`)
		share("page open at " + view)
	}
}

// load asks 5,000 queries a second.
func load(t *testing.T, server string) string {
	t.Helper()
	var questions []dnsload.Question
	for i := range 200 {
		message, err := new(dns.Msg).SetQuestion(fmt.Sprintf("service-%d.ns-%d.svc.cluster.local.", i, i%100), dns.TypeA).Pack()
		if err != nil {
			t.Fatal(err)
		}
		questions = append(questions, dnsload.Question{Message: message, Answers: 1})
	}
	r := dnsload.Load{Server: netip.MustParseAddrPort(server), Questions: questions, For: *costFor / 8, PerSecond: 5000, CPU: -1, Patience: time.Second}.Run()
	if r.Failed != "" {
		t.Fatal(r.Failed)
	}
	return fmt.Sprintf("p50 %v, p99 %v, p99.9 %v, longest %v, lost %d of %d", r.P50, r.P99, r.P999, r.Longest, r.Lost(), r.Sent)
}

// hammer has 8 clients ask for what costs most, meanwhile.
func hammer(t *testing.T, site string, meanwhile func()) (answers, errors int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var good, bad atomic.Int64
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: i%2 == 0}}
			for n := 0; ctx.Err() == nil; n++ {
				path := []string{"/services?search=1", "/explain?target=service-77.ns-78", "/overview", "/explain?target=10.96.1.44", "/uplot/uPlot.iife.min.js"}[(i+n)%5]
				r, _ := http.NewRequestWithContext(ctx, http.MethodGet, site+path, http.NoBody)
				answer, err := client.Do(r)
				if err != nil {
					bad.Add(1)
					continue
				}
				io.Copy(io.Discard, answer.Body)
				answer.Body.Close()
				good.Add(1)
			}
		})
	}
	meanwhile()
	cancel()
	all.Wait()
	return good.Load(), bad.Load()
}

// startLarge runs the program with so many Services of ten endpoints each.
func startLarge(t *testing.T, services int) (site, server string, p *kubetest.Process) {
	t.Helper()
	folder := t.TempDir()
	clustertest.WriteFolder(t, folder, services)
	return startIn(t, folder, services)
}
