package clusterip

import (
	"net/netip"
	"sync"
	"sync/atomic"

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

// Those of missingTotal.
var (
	missing        clientNamespaces
	missingUnknown = missingTotal.WithLabelValues(unknownNamespace)
	missingOther   = missingTotal.WithLabelValues(otherNamespaces)
)

// clientNamespaces are those that have a series of their own. A query that is counted takes a
// lock only if it is the first of its namespace.
type clientNamespaces struct {
	counters sync.Map // of a namespace, a prometheus.Counter

	mu    sync.Mutex
	count atomic.Int32 // of counters
}

// counter returns that of the namespace of the pods that a client may be.
func (c *clientNamespaces) counter(clients []*cluster.Pod) prometheus.Counter {
	namespace := namespaceOf(clients)
	if namespace == unknownNamespace {
		return missingUnknown
	}
	if counter, known := c.counters.Load(namespace); known {
		return counter.(prometheus.Counter)
	}
	if c.count.Load() >= maxClientNamespaces {
		return missingOther
	}
	return c.add(namespace)
}

func (c *clientNamespaces) add(namespace string) prometheus.Counter {
	c.mu.Lock()
	defer c.mu.Unlock()
	if counter, known := c.counters.Load(namespace); known {
		return counter.(prometheus.Counter)
	}
	if c.count.Load() >= maxClientNamespaces {
		return missingOther
	}
	counter := missingTotal.WithLabelValues(namespace)
	c.counters.Store(namespace, counter)
	c.count.Add(1)
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
