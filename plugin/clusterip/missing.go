package clusterip

import (
	"net/netip"
	"sync"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/plugin/clusterip/zone"
	"github.com/coredns/coredns/request"
	"github.com/prometheus/client_golang/prometheus"
)

// maxClientNamespaces is how many namespaces of clients have a series of their own: those
// that miss a Service first.
const maxClientNamespaces = 100

// Labels in place of a namespace: of clients that are no pod that is known, or are several in
// different namespaces, which share the address of their node; and of all that are too many.
const (
	unknownNamespace = "unknown"
	otherNamespaces  = "other"
)

// missing has the counters of missingTotal.
var missing clientNamespaces

type clientNamespaces struct {
	mu       sync.Mutex
	counters map[string]prometheus.Counter
}

// counter returns that of a namespace, or of the pods that a client may be.
func (c *clientNamespaces) counter(clients []*cluster.Pod) prometheus.Counter {
	namespace := namespaceOf(clients)
	c.mu.Lock()
	defer c.mu.Unlock()
	if counter := c.counters[namespace]; counter != nil {
		return counter
	}
	if len(c.counters) >= maxClientNamespaces && namespace != unknownNamespace {
		return missingTotal.WithLabelValues(otherNamespaces)
	}
	if c.counters == nil {
		c.counters = make(map[string]prometheus.Counter)
	}
	counter := missingTotal.WithLabelValues(namespace)
	c.counters[namespace] = counter
	return counter
}

func namespaceOf(clients []*cluster.Pod) string {
	namespace := unknownNamespace
	for i, p := range clients {
		if i > 0 && p.Name.Namespace != namespace {
			return unknownNamespace
		}
		namespace = p.Name.Namespace
	}
	return namespace
}

// miss counts what an answer of the plugin chain lacks.
func (h *Handler) miss(state request.Request, lack zone.Lack) {
	switch lack {
	case zone.LacksEndpoints:
		unservedTotal.Inc()
	case zone.LacksService:
		missing.counter(h.clients(state)).Inc()
	}
}

// miss counts what an answer of the fast path lacks.
func (t *tally) miss(h *Handler, from netip.AddrPort, lack zone.Lack) {
	switch lack {
	case zone.LacksEndpoints:
		t.unserved.counter = unservedTotal
		t.increment(&t.unserved)
	case zone.LacksService:
		counter := missing.counter(h.index.Pods(from.Addr().Unmap().WithZone("")))
		if t.missing == nil {
			t.missing = make(map[prometheus.Counter]*count)
		}
		of := t.missing[counter]
		if of == nil {
			of = &count{counter: counter}
			t.missing[counter] = of
		}
		t.increment(of)
	}
}
