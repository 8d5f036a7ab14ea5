package clusterip

import (
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/plugin/clusterip/zone"
	"github.com/coredns/coredns/plugin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

var (
	answersTotal = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: pluginName,
		Name:      "answers_total",
		Help:      "Queries answered, by outcome. Queries that fell through are not counted.",
	}, []string{"outcome"})

	// answersBy spares queries the search by label.
	answersBy = [...]prometheus.Counter{
		zone.Success:  answersTotal.WithLabelValues("success"),
		zone.NoData:   answersTotal.WithLabelValues("nodata"),
		zone.NXDomain: answersTotal.WithLabelValues("nxdomain"),
		zone.NotReady: answersTotal.WithLabelValues("not_ready"),
	}

	unservedTotal = promauto.NewCounter(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: pluginName,
		Name:      "answers_without_endpoints_total",
		Help:      "Queries answered, of any outcome, for names of Services that have no usable endpoint.",
	})

	missingTotal = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: pluginName,
		Name:      "missing_services_total",
		Help:      "Queries answered NXDOMAIN for a name that would be a Service's in a namespace that is there, by the namespace of the client's pod.",
	}, []string{"client_namespace"})

	generation = promauto.NewGauge(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: pluginName,
		Name:      "generation",
		Help:      "Generation of the objects served; its low 32 bits are the SOA serial.",
	})

	programming = promauto.NewHistogramVec(prometheus.HistogramOpts{
		Namespace:                   plugin.Namespace,
		Subsystem:                   pluginName,
		Name:                        "dns_programming_duration_seconds",
		Help:                        "Time from a change of a pod or Service until the names of the Service followed, where the EndpointSlice says when that was.",
		Buckets:                     prometheus.ExponentialBuckets(0.001, 2, 20),
		NativeHistogramBucketFactor: plugin.NativeHistogramBucketFactor,
	}, []string{"service_kind"})
)

// observe is called when names have followed a change. The label has the values that
// CoreDNS's plugin gives it.
func observe(served uint64, u cluster.Update) {
	generation.Set(float64(served))
	kinds := map[cluster.Kind]string{cluster.KindHeadless: "headless_with_selector", cluster.KindClusterIP: "cluster_ip"}
	for _, s := range u.Services {
		if s.Service == nil || s.Triggered.IsZero() {
			continue
		}
		if kind, known := kinds[s.Service.Kind]; known {
			programming.WithLabelValues(kind).Observe(time.Since(s.Triggered).Seconds())
		}
	}
}
