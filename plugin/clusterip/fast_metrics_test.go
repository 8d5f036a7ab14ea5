package clusterip

import (
	"net/netip"
	"testing"
	"time"

	"github.com/clusterip/clusterip/plugin/clusterip/wire"
	"github.com/clusterip/clusterip/plugin/clusterip/zone"
	"github.com/coredns/coredns/plugin/metrics/vars"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// TestKindsAreFew asks for every type there is: what is kept of that must not grow with
// what clients think up.
func TestKindsAreFew(t *testing.T) {
	l, from := &lane{handler: testHandler(), meter: &meter{server: "dns://:53"}}, netip.MustParseAddrPort("192.0.2.1:1024")
	var counted tally
	for qtype := range 1 << 16 {
		counted.add(l, &wire.Question{Name: "web.default.svc.cluster.local.", Type: uint16(qtype)}, from, zone.NoData, 40, 90)
		counted.flush(0)
	}
	for _, s := range counted.series {
		if n := len(s.requests); n > 20 {
			t.Errorf("%d kinds of requests are kept", n)
		}
	}
}

// TestSizeOfLongReplies has a reply that is truncated: the prometheus plugin counts all that it
// would be, which may be more than a message holds.
func TestSizeOfLongReplies(t *testing.T) {
	l, from := &lane{handler: testHandler(), meter: &meter{server: "dns://:5300"}}, netip.MustParseAddrPort("192.0.2.1:1024")
	var counted tally
	const size = 70_000
	counted.add(l, &wire.Question{Name: "many.default.svc.cluster.local."}, from, zone.Success, 40, size)
	counted.flush(0)
	var got dto.Metric
	if err := vars.ResponseSize.WithLabelValues("dns://:5300", ".", "", "udp").(prometheus.Metric).Write(&got); err != nil {
		t.Fatal(err)
	}
	if sum := got.Histogram.GetSampleSum(); sum != size {
		t.Errorf("a reply of %d octets is counted as one of %v", size, sum)
	}
}

// What counting costs an answer, in batches of two threads.
func BenchmarkTally(b *testing.B) {
	l := &lane{handler: testHandler(),
		meter: &meter{server: "dns://:53", plugin: "errors", zones: []string{"cluster.local."}}}
	from := netip.MustParseAddrPort("10.42.0.7:40000")
	questions := []wire.Question{{Name: "web.shop.svc.cluster.local.", Type: dns.TypeA}, {Name: "web.shop.svc.cluster.local.", Type: dns.TypeAAAA}}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		var counted tally
		for i := 0; pb.Next(); i++ {
			counted.add(l, &questions[i%len(questions)], from, zone.Success, 45, 61)
			if i%32 == 31 {
				counted.flush(50 * time.Microsecond)
			}
		}
	})
}
