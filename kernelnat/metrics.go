package kernelnat

import (
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

var byFamily = []string{"ip_family"} // "IPv4" or "IPv6", as kube-proxy has it

// The names follow kube-proxy's, with kernelnat in place of kubeproxy.
var (
	syncFull = promauto.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "kernelnat", Name: "sync_full_proxy_rules_duration_seconds",
		Help:    "Time to write the rules of all Services, failures included.",
		Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
	}, byFamily)
	syncPartial = promauto.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "kernelnat", Name: "sync_partial_proxy_rules_duration_seconds",
		Help:    "Time to write the rules of changed Services, failures included.",
		Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
	}, byFamily)
	syncFailures = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: "kernelnat", Name: "sync_proxy_rules_failures_total",
		Help: "Syncs that failed and were tried again.",
	}, byFamily)
	syncTimestamp = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "kernelnat", Name: "sync_proxy_rules_last_timestamp_seconds",
		Help: "Unix time of the last sync that succeeded.",
	}, byFamily)
	lastQueued = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "kernelnat", Name: "sync_proxy_rules_last_queued_timestamp_seconds",
		Help: "Unix time at which there was last something to write.",
	}, byFamily)
	programming = promauto.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "kernelnat", Name: "network_programming_duration_seconds",
		Help:    "Time from a change of a pod or Service until the kernel held what followed, where the EndpointSlice says when that was.",
		Buckets: prometheus.ExponentialBuckets(0.001, 2, 20),
	}, byFamily)
	repairs = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: "kernelnat", Name: "repairs_total",
		Help: "Chains and rules that somebody else had changed or removed, and that were written again.",
	}, byFamily)
	conflicts = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "kernelnat", Name: "refused_frontends",
		Help: "External and load balancer addresses and NodePorts that Services ask for and do not get.",
	}, byFamily)
	servicesPlanned = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "kernelnat", Name: "services",
		Help: "Services that have rules.",
	}, byFamily)
	servicesUnserved = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "kernelnat", Name: "services_without_endpoints",
		Help: "Services that have rules, all of which refuse connections, since no port has an endpoint.",
	}, byFamily)
	staleFlowsDeleted = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: "kernelnat", Name: "conntrack_reconciler_deleted_entries_total",
		Help: "Stale UDP conntrack entries deleted.",
	}, byFamily)
)

// showCounters has counters that mostly stay at 0 be there from the start: an alert
// would not see the first step of one that appears with it.
func showCounters(family cluster.Family) {
	for _, c := range []*prometheus.CounterVec{syncFailures, repairs, staleFlowsDeleted} {
		c.WithLabelValues(family.String())
	}
	conflicts.WithLabelValues(family.String()).Set(0)
}

// WriteTimes collects how long writes of changed Services took, by IP family.
func WriteTimes() prometheus.Collector { return syncPartial }

func observeSync(family cluster.Family, full bool, took time.Duration, err error) {
	histogram := syncPartial
	if full {
		histogram = syncFull
	}
	histogram.WithLabelValues(family.String()).Observe(took.Seconds())
	if err != nil {
		syncFailures.WithLabelValues(family.String()).Inc()
		return
	}
	syncTimestamp.WithLabelValues(family.String()).SetToCurrentTime()
}
