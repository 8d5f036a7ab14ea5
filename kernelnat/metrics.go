package kernelnat

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// The names follow kube-proxy's, with kernelnat in place of kubeproxy.
var (
	syncFull = promauto.NewHistogram(prometheus.HistogramOpts{
		Namespace: "kernelnat", Name: "sync_full_proxy_rules_duration_seconds",
		Help:    "Time to write the rules of all Services, failures included.",
		Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
	})
	syncPartial = promauto.NewHistogram(prometheus.HistogramOpts{
		Namespace: "kernelnat", Name: "sync_partial_proxy_rules_duration_seconds",
		Help:    "Time to write the rules of changed Services, failures included.",
		Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
	})
	syncFailures = promauto.NewCounter(prometheus.CounterOpts{
		Namespace: "kernelnat", Name: "sync_proxy_rules_failures_total",
		Help: "Syncs that failed and were tried again.",
	})
	syncTimestamp = promauto.NewGauge(prometheus.GaugeOpts{
		Namespace: "kernelnat", Name: "sync_proxy_rules_last_timestamp_seconds",
		Help: "Unix time of the last sync that succeeded.",
	})
	servicesPlanned = promauto.NewGauge(prometheus.GaugeOpts{
		Namespace: "kernelnat", Name: "services",
		Help: "Services that have rules.",
	})
	staleFlowsDeleted = promauto.NewCounter(prometheus.CounterOpts{
		Namespace: "kernelnat", Name: "conntrack_reconciler_deleted_entries_total",
		Help: "Stale UDP conntrack entries deleted.",
	})
)

func observeSync(full bool, took time.Duration, err error) {
	histogram := syncPartial
	if full {
		histogram = syncFull
	}
	histogram.Observe(took.Seconds())
	if err != nil {
		syncFailures.Inc()
		return
	}
	syncTimestamp.SetToCurrentTime()
}
