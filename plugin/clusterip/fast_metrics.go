package clusterip

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/clusterip/clusterip/plugin/clusterip/wire"
	"github.com/clusterip/clusterip/plugin/clusterip/zone"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/acl"
	"github.com/coredns/coredns/plugin/metrics"
	"github.com/coredns/coredns/plugin/metrics/vars"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

var (
	fastOn = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: pluginName,
		Name:      "fastpath_on",
		Help:      "1 for each address at which the fast path is on.",
	}, []string{"server"})
	fastAnswers = promauto.NewCounter(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: pluginName,
		Name:      "fastpath_answers_total",
		Help:      "Queries that the fast path has answered.",
	})
	fastLeft = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: pluginName,
		Name:      "fastpath_left_total",
		Help:      "Queries that the fast path has left to the plugin chain, by reason.",
	}, []string{"reason"})
	fastDropped = promauto.NewCounter(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: pluginName,
		Name:      "fastpath_dropped_total",
		Help:      "Queries dropped since more were waiting for the plugin chain than it could answer.",
	})
	fastUnsent = promauto.NewCounter(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: pluginName,
		Name:      "fastpath_unsent_total",
		Help:      "Replies of the fast path that the kernel has not sent, as for want of a route.",
	})
)

// meter counts answers of a lane as the prometheus plugin would. Series come into being
// with the first query that they count.
type meter struct {
	server string
	plugin string   // the label is the plugin behind prometheus, whoever answers
	zones  []string // of the label, the most specific first
}

func newMeter(of *metrics.Metrics) *meter {
	m := &meter{plugin: of.Next.Name(), zones: slices.Clone(of.ZoneNames())}
	slices.SortFunc(m.zones, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	return m
}

// zone returns the label of a name.
func (m *meter) zone(name string) string {
	for _, z := range m.zones {
		if zone.Contains(z, name) {
			return z
		}
	}
	return "."
}

// sample is what the metrics count of one answer.
type sample struct {
	lane        *lane
	zone        string
	kind        kind
	asked, told uint32 // octets: a reply before truncation has more than a message holds
	outcome     zone.Outcome
	do          bool
}

// kind is what requests are counted by.
type kind struct {
	qtype uint16 // 0 is any that has no label of its own: a client may ask for all there are
	v6    bool
}

func kindOf(qtype uint16, from netip.AddrPort) kind {
	if typeLabel(qtype) == other {
		qtype = 0
	}
	return kind{qtype, !from.Addr().Unmap().Is4()}
}

// tally has what is to be counted of the queries of one batch. It is of one thread.
type tally struct {
	samples []sample
	left    map[string]float64
	series  map[seriesKey]*series
}

// add counts an answer.
func (t *tally) add(l *lane, q *wire.Question, from netip.AddrPort, outcome zone.Outcome, asked, told int) {
	s := sample{lane: l, outcome: outcome, do: q.DO, asked: uint32(asked), told: uint32(told), kind: kindOf(q.Type, from)}
	if l.meter != nil {
		s.zone = l.meter.zone(q.Name)
	}
	t.samples = append(t.samples, s)
}

// leave counts a query that is left to the chain.
func (t *tally) leave(reason string) {
	if t.left == nil {
		t.left = make(map[string]float64)
	}
	t.left[reason]++
}

// flush has the metrics count all that there is. A query took as long as its batch.
func (t *tally) flush(took time.Duration) {
	for i := range t.samples {
		s := &t.samples[i]
		answersBy[s.outcome].Inc()
		s.lane.handler.ending.count()
		if s.lane.meter != nil {
			t.of(s).observe(s, took)
		}
	}
	fastAnswers.Add(float64(len(t.samples)))
	t.samples = t.samples[:0]
	for reason, n := range t.left {
		if n > 0 {
			fastLeft.WithLabelValues(reason).Add(n)
			t.left[reason] = 0
		}
	}
}

// seriesKey is a lane and a zone, which have series of their own.
type seriesKey struct {
	lane *lane
	zone string
}

// series are those of one lane and zone.
type series struct {
	labels               []string // server, zone and view
	requests             map[kind]prometheus.Counter
	rcodes               [len(answersBy)]prometheus.Counter
	duration, asks, says prometheus.Observer
	do, allowed          prometheus.Counter
}

func (t *tally) of(s *sample) *series {
	key := seriesKey{s.lane, s.zone}
	if known := t.series[key]; known != nil {
		return known
	}
	if t.series == nil {
		t.series = make(map[seriesKey]*series)
	}
	labels := []string{s.lane.meter.server, s.zone, ""}
	made := &series{
		labels: labels, requests: make(map[kind]prometheus.Counter),
		duration: vars.RequestDuration.WithLabelValues(labels...),
		asks:     vars.RequestSize.WithLabelValues(append(labels, "udp")...),
		says:     vars.ResponseSize.WithLabelValues(append(labels, "udp")...),
	}
	if s.lane.acl != nil {
		made.allowed = acl.RequestAllowCount.WithLabelValues(labels[0], "")
	}
	t.series[key] = made
	return made
}

// observe does what the prometheus and acl plugins do for a query.
func (e *series) observe(s *sample, took time.Duration) {
	e.duration.Observe(took.Seconds())
	e.asks.Observe(float64(s.asked))
	e.says.Observe(float64(s.told))
	requests := e.requests[s.kind]
	if requests == nil {
		family := "1"
		if s.kind.v6 {
			family = "2"
		}
		requests = vars.RequestCount.WithLabelValues(append(e.labels, "udp", family, typeLabel(s.kind.qtype))...)
		e.requests[s.kind] = requests
	}
	requests.Inc()
	if e.rcodes[s.outcome] == nil {
		e.rcodes[s.outcome] = vars.ResponseRcode.WithLabelValues(append(e.labels, dns.RcodeToString[rcode(s.outcome)], s.lane.meter.plugin)...)
	}
	e.rcodes[s.outcome].Inc()
	if s.do {
		if e.do == nil {
			e.do = vars.RequestDo.WithLabelValues(e.labels...)
		}
		e.do.Inc()
	}
	if e.allowed != nil {
		e.allowed.Inc()
	}
}

const other = "other"

// typeLabel is the label that the prometheus plugin gives a type.
func typeLabel(qtype uint16) string {
	switch qtype {
	case dns.TypeAAAA, dns.TypeA, dns.TypeCNAME, dns.TypeDNSKEY, dns.TypeHTTPS, dns.TypeMX, dns.TypeNSEC3, dns.TypeNSEC,
		dns.TypeNS, dns.TypePTR, dns.TypeRRSIG, dns.TypeSOA, dns.TypeSRV, dns.TypeSVCB, dns.TypeTXT:
		return dns.TypeToString[qtype]
	}
	return other
}
