package differential

import (
	"flag"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clusterip/clusterip/test/kubetest"
	"github.com/clusterip/clusterip/test/performance"
)

// What TestBenchNAT measures; `make bench-nat` sets these.
var (
	natSizes    = flag.String("nat.services", "", "numbers of Services to measure NAT with, separated by commas")
	natBackends = flag.String("nat.backend", "nftables", "backends of kernelnat to measure, separated by commas")
	natModes    = flag.String("nat.proxy", "nftables", "modes of kube-proxy to measure, separated by commas")
	natLarge    = flag.Int("nat.large", 10_000, "endpoints of the one large Service, at 10 ports each; 0: do without")
	natReport   = flag.String("nat.report", "", "folder to write the results to")
)

// benchEndpoints is how many endpoints each Service has.
const benchEndpoints = 10

// syncLimit is how long a first sync may take.
const syncLimit = 10 * time.Minute

// Beside kube-proxy in one run: Services with 10 endpoints each, the same for all, from
// API servers of their own, on the same kernel, one after the other. All that is measured
// is measured from outside and in the same way.
func TestBenchNAT(t *testing.T) {
	if *natSizes == "" {
		t.Skip("a measurement, not a test: make bench-nat")
	}
	require(t)
	var results performance.NAT
	for text := range strings.SplitSeq(*natSizes, ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range subjects() {
			t.Run(fmt.Sprintf("%s/%d", s.name, n), func(t *testing.T) { results = append(results, s.measure(t, n)) })
		}
		if *natReport != "" {
			if err := results.Save(*natReport, "nat"); err != nil {
				t.Error(err)
			}
		}
		t.Logf("\n%s", results.Tables())
	}
}

// subject is what is measured.
type subject struct {
	name    string
	ours    bool
	variant string // the backend of ours, the mode of kube-proxy
}

func subjects() []subject {
	var out []subject
	for name := range strings.SplitSeq(*natBackends, ",") {
		out = append(out, subject{"kernelnat " + name, true, name})
	}
	for mode := range strings.SplitSeq(*natModes, ",") {
		out = append(out, subject{"kube-proxy " + mode, false, mode})
	}
	return out
}

// measure has a subject serve so many Services, and changes some.
func (s subject) measure(t *testing.T, services int) performance.Side {
	given := many(services, benchEndpoints)
	c, n := kubetest.Start(t), newBenchNode(t)
	r := &running{benchNode: n, subject: s, c: c, given: &given, result: performance.Side{Name: s.name, Services: services, Endpoints: benchEndpoints}}
	r.begin()
	r.result.RSSStart = r.process.RSS()
	r.connections()
	r.changes()
	r.result.RSSChanged = r.process.RSS()
	if s.ours {
		r.rate()
	}
	if *natLarge > 0 {
		r.large()
	}
	return r.result
}

// running is a subject that serves Services.
type running struct {
	*benchNode
	subject
	c        *kubetest.ControlPlane
	given    *objects
	process  *kubetest.Process
	seq      int           // of the last mark that was used
	failures atomic.Uint32 // of connections
	result   performance.Side
}
