package kernelnat

import (
	"cmp"
	"slices"
	"sync/atomic"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/conntrack"
	"github.com/prometheus/client_golang/prometheus"
)

// Exported says of which Services connections are exported, so that the series are few.
type Exported struct {
	Top   int // the ports of Services that have had the most
	Named map[cluster.ServiceName]bool
	// Endpoints exports those of the Services' endpoints too.
	Endpoints bool
}

var (
	frontendConnections = prometheus.NewDesc("kernelnat_frontend_connections_total",
		"New connections to a port of a Service on this node, at all of its addresses.",
		append(byFamily, "namespace", "service", "port"), nil)
	endpointConnections = prometheus.NewDesc("kernelnat_endpoint_connections_total",
		"New connections to an endpoint of a Service on this node.",
		append(byFamily, "namespace", "service", "port", "endpoint"), nil)
	trackedConnections = prometheus.NewDesc("kernelnat_conntrack_entries",
		"Connections that the kernel tracks in the network namespace of this process, to Services or not.", nil, nil)
	trackedLimit = prometheus.NewDesc("kernelnat_conntrack_entries_limit",
		"How many connections the kernel may track.", nil, nil)
)

// ConnectionMetrics is a prometheus.Collector that asks Backends for what they have counted,
// and the kernel for how many connections it tracks.
type ConnectionMetrics struct {
	exported Exported
	backends map[cluster.Family]Backend
	log      Logger
	failing  atomic.Bool // it is told already
}

// NewConnectionMetrics returns a collector, which is to be registered.
func NewConnectionMetrics(exported Exported, backends map[cluster.Family]Backend, log Logger) *ConnectionMetrics {
	return &ConnectionMetrics{exported: exported, backends: backends, log: log}
}

// Describe implements prometheus.Collector.
func (m *ConnectionMetrics) Describe(to chan<- *prometheus.Desc) {
	to <- frontendConnections
	to <- endpointConnections
	to <- trackedConnections
	to <- trackedLimit
}

// Collect implements prometheus.Collector. What cannot be read is left out, and told once:
// all other metrics are to go on.
func (m *ConnectionMetrics) Collect(to chan<- prometheus.Metric) {
	if now, limit, ok := conntrack.Tracked(); ok {
		to <- prometheus.MustNewConstMetric(trackedConnections, prometheus.GaugeValue, float64(now))
		to <- prometheus.MustNewConstMetric(trackedLimit, prometheus.GaugeValue, float64(limit))
	}
	for family, backend := range m.backends {
		counted, err := backend.Connections()
		if err != nil {
			if !m.failing.Swap(true) {
				m.log.Errorf("%s: read how many connections there were: %v", family, err)
			}
			return
		}
		for _, c := range m.exported.choose(counted) {
			of := []string{family.String(), c.Service.Namespace, c.Service.Name, c.Port}
			desc := frontendConnections
			if c.Endpoint.IsValid() {
				desc, of = endpointConnections, append(of, c.Endpoint.String())
			}
			to <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(c.Count), of...)
		}
	}
	m.failing.Store(false)
}

// choose returns what is to be exported.
func (e *Exported) choose(counted []Connections) []Connections {
	type port struct {
		service cluster.ServiceName
		name    string
	}
	whole := make([]*Connections, 0, len(counted)) // of ports
	for i := range counted {
		if !counted[i].Endpoint.IsValid() {
			whole = append(whole, &counted[i])
		}
	}
	slices.SortFunc(whole, func(a, b *Connections) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), a.Service.Compare(b.Service), cmp.Compare(a.Port, b.Port))
	})
	chosen := make(map[port]bool)
	for i, c := range whole {
		if i < e.Top || e.Named[c.Service] {
			chosen[port{c.Service, c.Port}] = true
		}
	}
	var out []Connections
	for _, c := range counted {
		if chosen[port{c.Service, c.Port}] && (e.Endpoints || !c.Endpoint.IsValid()) {
			out = append(out, c)
		}
	}
	return out
}
