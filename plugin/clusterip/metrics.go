package clusterip

import (
	"fmt"
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

	objects = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: pluginName,
		Name:      "objects",
		Help:      "Objects the source holds, by kind.",
	}, []string{"kind"})

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

	manifestProblems = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: pluginName,
		Name:      "manifest_problems",
		Help:      "Problems in the manifests at present, by severity.",
	}, []string{"severity"})
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

// watchAge is read when it is asked for.
type watchAge struct{ *prometheus.Desc }

func init() {
	prometheus.MustRegister(watchAge{prometheus.NewDesc(
		prometheus.BuildFQName(plugin.Namespace, pluginName, "watch_age_seconds"),
		"Seconds since an API server last said something about a kind of objects, be it that nothing has changed.",
		[]string{"kind"}, nil,
	)})
}

// Describe implements prometheus.Collector.
func (w watchAge) Describe(to chan<- *prometheus.Desc) { to <- w.Desc }

// Collect implements prometheus.Collector. Of several API servers the one that has
// been silent longest counts.
func (w watchAge) Collect(to chan<- prometheus.Metric) {
	last := make(map[string]time.Time)
	for _, watch := range watches() {
		if t, known := last[watch.Kind]; !watch.LastSign.IsZero() && (!known || watch.LastSign.Before(t)) {
			last[watch.Kind] = watch.LastSign
		}
	}
	for kind, t := range last {
		to <- prometheus.MustNewConstMetric(w.Desc, prometheus.GaugeValue, time.Since(t).Seconds(), kind)
	}
}

// counted is one Store's share of the gauges, which all server blocks add to. It
// is for one writer at a time.
type counted struct {
	services   map[cluster.ServiceName]int // number of endpoints
	imports    map[cluster.ServiceName]int
	namespaces map[string]struct{}
	pods       map[cluster.PodName]struct{}
}

func newCounted() *counted {
	return &counted{
		services:   make(map[cluster.ServiceName]int),
		imports:    make(map[cluster.ServiceName]int),
		namespaces: make(map[string]struct{}),
		pods:       make(map[cluster.PodName]struct{}),
	}
}

// apply follows an Update.
func (c *counted) apply(u cluster.Update) {
	countServices(c.services, u.Services, "services")
	countServices(c.imports, u.Imports, "imports")
	for _, n := range u.Namespaces {
		objects.WithLabelValues("namespaces").Add(count(c.namespaces, n.Name, n.Exists))
	}
	for _, p := range u.Pods {
		objects.WithLabelValues("pods").Add(count(c.pods, p.Name, p.Pod != nil))
	}
}

// countServices keeps the number of endpoints by Service. An endpoint of several
// counts for each.
func countServices(held map[cluster.ServiceName]int, updates []cluster.ServiceUpdate, kind string) {
	for _, u := range updates {
		old, known := held[u.Name]
		endpoints := 0
		if u.Service != nil {
			endpoints = len(u.Service.Endpoints)
			held[u.Name] = endpoints
		} else {
			delete(held, u.Name)
		}
		objects.WithLabelValues("endpoints").Add(float64(endpoints - old))
		objects.WithLabelValues(kind).Add(change(known, u.Service != nil))
	}
}

// String says what is held. Like apply, it is for the source.
func (c *counted) String() string {
	endpoints := 0
	for _, n := range c.services {
		endpoints += n
	}
	return fmt.Sprintf("%d Services with %d endpoints", len(c.services), endpoints)
}

// remove takes the share out of the gauges.
func (c *counted) remove() {
	for kind, all := range map[string]map[cluster.ServiceName]int{"services": c.services, "imports": c.imports} {
		for _, endpoints := range all {
			objects.WithLabelValues("endpoints").Sub(float64(endpoints))
		}
		objects.WithLabelValues(kind).Sub(float64(len(all)))
	}
	objects.WithLabelValues("namespaces").Sub(float64(len(c.namespaces)))
	objects.WithLabelValues("pods").Sub(float64(len(c.pods)))
	*c = *newCounted()
}

// count keeps the set and returns by how much it grew.
func count[K comparable](set map[K]struct{}, k K, exists bool) float64 {
	_, known := set[k]
	if exists {
		set[k] = struct{}{}
	} else {
		delete(set, k)
	}
	return change(known, exists)
}

func change(before, after bool) float64 {
	switch {
	case before == after:
		return 0
	case after:
		return 1
	}
	return -1
}
