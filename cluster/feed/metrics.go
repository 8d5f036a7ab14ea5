package feed

import (
	"time"

	"github.com/clusterip/clusterip/cluster/kubernetes"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// The metrics have the names of the directive that says what is read.
const (
	namespace = "coredns"
	subsystem = "clusterip"
)

var (
	manifestProblems = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: namespace,
		Subsystem: subsystem,
		Name:      "manifest_problems",
		Help:      "Problems in the manifests at present, by severity.",
	}, []string{"severity"})

	objects = prometheus.NewDesc(
		prometheus.BuildFQName(namespace, subsystem, "objects"),
		"Objects the source holds, by kind.",
		[]string{"kind"}, nil,
	)

	watchAge = prometheus.NewDesc(
		prometheus.BuildFQName(namespace, subsystem, "watch_age_seconds"),
		"Seconds since an API server last said something about a kind of objects, be it that nothing has changed.",
		[]string{"kind"}, nil,
	)
)

// Describe implements prometheus.Collector.
func (fs *Feeds) Describe(to chan<- *prometheus.Desc) {
	to <- objects
	to <- watchAge
}

// Collect implements prometheus.Collector. Of several API servers the one that has
// been silent longest counts.
func (fs *Feeds) Collect(to chan<- prometheus.Metric) {
	held, last := make(map[string]int), make(map[string]time.Time)
	fs.mu.Lock()
	for _, f := range fs.byKey {
		f.count(held)
		for _, w := range f.watches() {
			if t, known := last[w.Kind]; !w.LastSign.IsZero() && (!known || w.LastSign.Before(t)) {
				last[w.Kind] = w.LastSign
			}
		}
	}
	fs.mu.Unlock()
	for kind, n := range held {
		to <- prometheus.MustNewConstMetric(objects, prometheus.GaugeValue, float64(n), kind)
	}
	for kind, t := range last {
		to <- prometheus.MustNewConstMetric(watchAge, prometheus.GaugeValue, time.Since(t).Seconds(), kind)
	}
}

// count adds what the Store has to what is held, by kind.
func (f *feed) count(held map[string]int) {
	c := f.store.Counts()
	for kind, n := range map[string]int{
		"services": c.Services, "imports": c.Imports, "endpoints": c.Endpoints, "namespaces": c.Namespaces, "pods": c.Pods,
	} {
		held[kind] += n
	}
}

// watches returns how those of all sources at work are doing.
func (f *feed) watches() (all []kubernetes.Watch) {
	served := f.served.Load()
	if served != nil {
		all = served.source.Watches()
	}
	if f.newest != nil && f.newest != served {
		all = append(all, f.newest.source.Watches()...)
	}
	return all
}
