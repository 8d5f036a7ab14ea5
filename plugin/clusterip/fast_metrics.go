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

// sample is what the histograms hear of one answer.
type sample struct {
	of          *series
	asked, told uint32 // octets: a reply before truncation has more than a message holds
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

// tally has what is to be counted of the queries of one batch. It is of one thread. Counters are shared with other
// threads, and each is added to once a batch. A histogram has to be told of each answer.
type tally struct {
	answers  int
	outcomes [len(answersBy)]count
	samples  []sample
	counts   []*count // those that are not 0
	left     map[string]float64

	series map[seriesKey]*series
	last   seriesKey // of the answer before, which mostly is this one's
	latest *series

	unserved count
	missing  map[prometheus.Counter]*count
}

// count is what a counter is to be added.
type count struct {
	counter prometheus.Counter
	n       float64
}

func (t *tally) increment(c *count) {
	if c.n == 0 {
		t.counts = append(t.counts, c)
	}
	c.n++
}

// add counts an answer.
func (t *tally) add(l *lane, q *wire.Question, from netip.AddrPort, outcome zone.Outcome, asked, told int) {
	t.answers++
	l.handler.ending.count()
	o := &t.outcomes[outcome]
	o.counter = answersBy[outcome]
	t.increment(o)
	if l.meter == nil {
		return
	}
	e := t.of(seriesKey{l, l.meter.zone(q.Name)})
	t.samples = append(t.samples, sample{e, uint32(asked), uint32(told)})
	t.increment(e.request(kindOf(q.Type, from)))
	t.increment(e.rcode(outcome, l.meter.plugin))
	if q.DO {
		t.increment(e.withDO())
	}
	if e.allowed.counter != nil {
		t.increment(&e.allowed)
	}
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
	seconds := took.Seconds()
	for _, s := range t.samples {
		s.of.duration.Observe(seconds)
		s.of.asks.Observe(float64(s.asked))
		s.of.says.Observe(float64(s.told))
	}
	t.samples = t.samples[:0]
	for _, c := range t.counts {
		c.counter.Add(c.n)
		c.n = 0
	}
	t.counts = t.counts[:0]
	if t.answers > 0 {
		fastAnswers.Add(float64(t.answers))
		t.answers = 0
	}
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

// series are those of one lane and zone, which the prometheus and acl plugins count.
type series struct {
	labels               []string // server, zone and view
	requests             map[kind]*count
	rcodes               [len(answersBy)]count
	duration, asks, says prometheus.Observer
	do, allowed          count
}

func (t *tally) of(key seriesKey) *series {
	if key == t.last {
		return t.latest
	}
	known := t.series[key]
	if known == nil {
		if t.series == nil {
			t.series = make(map[seriesKey]*series)
		}
		known = newSeries(key)
		t.series[key] = known
	}
	t.last, t.latest = key, known
	return known
}

func newSeries(key seriesKey) *series {
	labels := []string{key.lane.meter.server, key.zone, ""}
	e := &series{
		labels: labels, requests: make(map[kind]*count),
		duration: vars.RequestDuration.WithLabelValues(labels...),
		asks:     vars.RequestSize.WithLabelValues(append(labels, "udp")...),
		says:     vars.ResponseSize.WithLabelValues(append(labels, "udp")...),
	}
	if key.lane.acl != nil {
		e.allowed.counter = acl.RequestAllowCount.WithLabelValues(labels[0], "")
	}
	return e
}

func (e *series) request(k kind) *count {
	c := e.requests[k]
	if c == nil {
		family := "1"
		if k.v6 {
			family = "2"
		}
		c = &count{counter: vars.RequestCount.WithLabelValues(append(e.labels, "udp", family, typeLabel(k.qtype))...)}
		e.requests[k] = c
	}
	return c
}

func (e *series) rcode(outcome zone.Outcome, plugin string) *count {
	c := &e.rcodes[outcome]
	if c.counter == nil {
		c.counter = vars.ResponseRcode.WithLabelValues(append(e.labels, dns.RcodeToString[rcode(outcome)], plugin)...)
	}
	return c
}

func (e *series) withDO() *count {
	if e.do.counter == nil {
		e.do.counter = vars.RequestDo.WithLabelValues(e.labels...)
	}
	return &e.do
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
